//! The log of all writes to a disk, as QEMU's driver `blklogwrites` records it, and the disks that a power cut may
//! leave. The format is that of Linux's dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The name of the log beside the disk. A machine whose directory has it logs every write there.
pub const LOG: &str = "writes.log";
/// The largest log. The file is sparse.
const LARGEST: u64 = 64 << 30;
/// The first word of the log.
const MAGIC: u64 = 0x6a_7366_7773_6872;
const VERSION: u64 = 1;
/// The unit of a disk's addresses, in bytes.
const SECTOR: u64 = 512;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;

/// One write, or one flush.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where it goes, in sectors.
    sector: u64,
    /// Its length in sectors.
    sectors: u64,
    flags: u64,
    /// Where its data begins in the log, in bytes.
    data: u64,
}

/// All writes to a disk in their order.
pub struct WriteLog {
    file: File,
    entries: Vec<Entry>,
}

/// Makes an empty log in the directory of a machine that is off.
pub fn create(dir: &Path) -> Result<PathBuf> {
    let path = dir.join(LOG);
    File::create(&path)?.set_len(LARGEST)?;
    Ok(path)
}

/// How many writes and flushes the log of a running machine has.
pub fn length(log: &Path) -> Result<usize> {
    Ok(usize::try_from(head(&File::open(log)?)?)?)
}

fn head(file: &File) -> Result<u64> {
    let [magic, version, entries] = words(file, 0)?;
    ensure!(
        (magic, version) == (MAGIC, VERSION),
        "this is no log of writes: {magic:x}, version {version}"
    );
    Ok(entries)
}

/// Little-endian numbers at an offset.
fn words<const N: usize>(file: &File, offset: u64) -> io::Result<[u64; N]> {
    let mut words = [0; N];
    for (word, at) in words.iter_mut().zip((offset..).step_by(8)) {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at)?;
        *word = u64::from_le_bytes(bytes);
    }
    Ok(words)
}

impl WriteLog {
    /// Reads the log of a machine that is off.
    pub fn read(path: &Path) -> Result<WriteLog> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let mut at = SECTOR;
        let mut entries = Vec::new();
        for _ in 0..head(&file)? {
            let [sector, sectors, flags, _] = words(&file, at)?;
            let data = at + SECTOR;
            let entry = Entry {
                sector,
                sectors,
                flags,
                data,
            };
            at = data + entry.length();
            entries.push(entry);
        }
        Ok(WriteLog { file, entries })
    }

    /// The number of its entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many of the first `cut` entries are safe: all that the last flush before the cut covers.
    pub fn safe(&self, cut: usize) -> usize {
        let before = &self.entries[..cut];
        let is_flush = |entry: &Entry| entry.flags & FLUSH != 0;
        before.iter().rposition(is_flush).map_or(0, |at| at + 1)
    }

    /// Makes `disk`, which is as it was before the first write, what a power cut after `cut` entries may leave: all
    /// safe writes, and of the others those sectors that `survive`, which gets the number of a write's sectors.
    pub fn replay(
        &self,
        disk: &File,
        cut: usize,
        mut survive: impl FnMut(u64) -> u64,
    ) -> Result<()> {
        let safe = self.safe(cut);
        for (number, entry) in self.entries[..cut].iter().enumerate() {
            let kept = match number < safe {
                true => entry.length(),
                false => survive(entry.length() / SECTOR) * SECTOR,
            };
            self.write(disk, entry, kept)?;
        }
        Ok(())
    }

    fn write(&self, disk: &File, entry: &Entry, length: u64) -> Result<()> {
        let mut bytes = vec![0; usize::try_from(length)?];
        self.file.read_exact_at(&mut bytes, entry.data)?;
        Ok(disk.write_all_at(&bytes, entry.sector * SECTOR)?)
    }
}

impl Entry {
    /// The length of its data in the log, in bytes.
    fn length(&self) -> u64 {
        match self.flags & DISCARD {
            0 => self.sectors * SECTOR,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A log of entries: sector, flags, data.
    fn log(entries: &[(u64, u64, &[u8])]) -> (tempfile::TempDir, WriteLog) {
        let dir = tempfile::tempdir().unwrap();
        let path = create(dir.path()).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let put = |words: &[u64], at: u64| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            file.write_all_at(&bytes, at).unwrap();
        };
        put(&[MAGIC, VERSION, entries.len() as u64, SECTOR], 0);
        let mut at = SECTOR;
        for (sector, flags, data) in entries {
            put(&[*sector, data.len() as u64 / SECTOR, *flags, 0], at);
            file.write_all_at(data, at + SECTOR).unwrap();
            at += SECTOR + data.len() as u64;
        }
        let read = WriteLog::read(&path).unwrap();
        assert_eq!(length(&path).unwrap(), entries.len());
        (dir, read)
    }

    #[test]
    fn a_cut_keeps_what_was_flushed_and_a_part_of_the_rest() {
        let [a, b, c] = [[1; 512], [2; 512], [3; 512]];
        let (_dir, log) = log(&[(0, 0, &a), (0, FLUSH, &[]), (1, 0, &b), (2, 0, &c)]);
        assert_eq!([0, 1, 2, 3, 4].map(|cut| log.safe(cut)), [0, 0, 2, 2, 2]);
        let disk = tempfile::tempfile().unwrap();
        let mut unsafe_writes = 0;
        log.replay(&disk, 4, |sectors| {
            unsafe_writes += 1;
            assert_eq!(sectors, 1);
            u64::from(unsafe_writes == 2)
        })
        .unwrap();
        let mut bytes = [0; 1536];
        disk.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes[..], [a, [0; 512], c].concat());
    }
}
