//! Unpacks the payload: decompress, hash, write to a staging directory, verify, sync. The directory
//! gets its final name only when everything in it is right. Several packs are unpacked at once, as far
//! as memory and processors allow.

use std::fs::{self, File, Permissions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use xz2::read::XzDecoder;
use xz2::stream::Stream;

use super::manifest::{Component, DIRECTORY, FILE_NAME, Pack, Part};
use super::payload::Payload;
use crate::sys::atomic::{self, create_directory, sync_directory};
use crate::sys::parallel;
use crate::sys::progress::Progress;
use crate::sys::stream::{Counting, Hashing};
use crate::sys::temporary::{self, Directory};

mod placed;

use placed::Placing;
pub use placed::Tell;

/// The maximum memory of all decoders together, in bytes.
pub const MEMORY_LIMIT: u64 = 160 * 1024 * 1024;
/// The advice for a damaged payload.
const DAMAGED: &str =
    "this appliance is damaged; copy it to this machine again and compare its sha256";

/// Whether the payload is unpacked in `bundles`, each file with the right size. This program writes
/// a file completely or not at all, so the size is enough to find one that someone truncated.
pub fn is_complete(bundles: &Path, payload: &Payload) -> bool {
    let dir = bundles.join(payload.digest().as_str());
    let is_whole = |component: &Component| {
        fs::symlink_metadata(dir.join(&component.path))
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() == component.size)
    };
    dir.join(FILE_NAME).is_file() && payload.manifest().components.iter().all(is_whole)
}

/// Unpacks the payload into a directory below `bundles` whose name is its digest, and returns that
/// directory. After an error, nothing is left behind.
pub fn unpack(payload: &Payload, bundles: &Path, progress: &dyn Progress) -> Result<PathBuf> {
    let staging = temporary::directory_in(bundles)?;
    unpack_files(payload, staging.path(), progress)?;
    fs::write(staging.path().join(FILE_NAME), payload.manifest_text())?;
    fs::set_permissions(staging.path(), Permissions::from_mode(0o755))?;
    sync(staging.path())?;
    publish(staging, bundles, payload.digest().as_str())
}

/// As [`unpack`], for a bundle that nothing uses yet: each file gets its final name as soon as it is whole, and `tell` its
/// path. First, `tell` gets [`DIRECTORY`]. The table of contents comes last: without it, the bundle is not complete. A
/// bundle that once was complete is replaced as a whole.
pub fn unpack_in_place(
    payload: &Payload,
    bundles: &Path,
    progress: &dyn Progress,
    tell: &Tell<'_>,
) -> Result<PathBuf> {
    let target = bundles.join(payload.digest().as_str());
    if target.join(FILE_NAME).exists() {
        return unpack(payload, bundles, progress);
    }
    payload.check_whole()?;
    create_directory(&target, 0o755)?;
    tell(DIRECTORY);
    let staging = temporary::directory_in(bundles)?;
    create_all(payload, staging.path())?;
    let placing = Placing::new(payload.manifest(), staging.path(), &target, tell)?;
    unpack_packs(payload, staging.path(), progress, Some(&placing))?;
    atomic::replace(&target.join(FILE_NAME), 0o644, |file| {
        Ok(file.write_all(payload.manifest_text())?)
    })?;
    Ok(target)
}

/// Unpacks every file of the payload below the directory `dir`, which is empty, after every byte of the
/// payload was checked.
pub fn unpack_files(payload: &Payload, dir: &Path, progress: &dyn Progress) -> Result<()> {
    payload.check_whole()?;
    create_all(payload, dir)?;
    unpack_packs(payload, dir, progress, None)
}

fn create_all(payload: &Payload, dir: &Path) -> Result<()> {
    for component in &payload.manifest().components {
        create(component, dir).with_context(|| component.path.clone())?;
    }
    Ok(())
}

fn unpack_packs(
    payload: &Payload,
    dir: &Path,
    progress: &dyn Progress,
    placing: Option<&Placing<'_>>,
) -> Result<()> {
    let unpacker = Unpacker {
        payload,
        dir,
        progress,
        placing,
        failed: AtomicBool::new(false),
        memory: Budget::default(),
    };
    let packs = &payload.manifest().packs;
    let results = parallel::map(packs, parallel::processors(), |pack| unpacker.work(pack));
    results.into_iter().collect()
}

/// Creates the component's file with its final size, so that its parts can be written in any order. Where the file system
/// can, it reserves the room: a full disk is noticed before anything is decompressed.
fn create(component: &Component, dir: &Path) -> Result<()> {
    let path = dir.join(&component.path);
    fs::create_dir_all(path.parent().context("a path without a directory")?)?;
    let mode = component.kind.mode();
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    if component.size > 0 {
        match fallocate(&file, FallocateFlags::empty(), 0, component.size) {
            // Not every file system can.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(file.set_len(component.size)?)
}

/// Gives the staged directory its final name. A damaged directory with that name is moved aside first
/// and removed afterwards. If the new one cannot get its name, the old one is moved back.
fn publish(staging: Directory, bundles: &Path, digest: &str) -> Result<PathBuf> {
    let target = bundles.join(digest);
    let aside = temporary::directory_in(bundles)?;
    let old = aside.path().join(digest);
    let replaces = target.exists();
    if replaces {
        fs::rename(&target, &old)?;
    }
    if let Err(error) = fs::rename(staging.path(), &target) {
        if replaces {
            fs::rename(&old, &target)?;
        }
        return Err(error)
            .with_context(|| format!("cannot move the unpacked bundle to {}", target.display()));
    }
    staging.renamed();
    sync_directory(bundles)?;
    Ok(target)
}

/// Waits until the directory and everything below it is on the disk.
fn sync(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            sync(&path)?;
        } else {
            File::open(path)?.sync_all()?;
        }
    }
    Ok(sync_directory(dir)?)
}

/// The state that the unpacking threads share.
struct Unpacker<'a, 'b> {
    payload: &'a Payload,
    dir: &'a Path,
    progress: &'a dyn Progress,
    placing: Option<&'a Placing<'b>>,
    failed: AtomicBool,
    memory: Budget,
}

impl Unpacker<'_, '_> {
    /// Unpacks one pack, unless another has failed already.
    fn work(&self, pack: &Pack) -> Result<()> {
        let result = self.pack(pack).with_context(|| pack.name.clone());
        if result.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        result
    }

    fn pack(&self, pack: &Pack) -> Result<()> {
        ensure!(
            pack.memory <= MEMORY_LIMIT,
            "unpacking it takes {} bytes of memory, but only {MEMORY_LIMIT} are allowed; pack it again with this version",
            pack.memory
        );
        let _share = self.memory.take(pack.memory);
        let stream = Stream::new_stream_decoder(pack.memory, 0)?;
        let mut compressed = Hashing::new(self.payload.pack(&pack.name)?);
        let mut decoder = Blaming(XzDecoder::new_stream(
            BufReader::new(&mut compressed),
            stream,
        ));
        for part in &pack.parts {
            if self.failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            self.part(part, &mut decoder)
                .with_context(|| part.path.clone())?;
            if let Some(placing) = self.placing {
                part.paths().try_for_each(|path| placing.has_part(path))?;
            }
        }
        let mut rest = [0];
        ensure!(
            decoder.read(&mut rest)? == 0,
            "it has more data than was packed; {DAMAGED}"
        );
        drop(decoder);
        io::copy(&mut compressed, &mut io::sink())?;
        let (size, sha256) = compressed.finish();
        ensure!(
            size == pack.size,
            "it has {size} bytes, but {} were packed; {DAMAGED}",
            pack.size
        );
        ensure!(
            sha256 == pack.sha256,
            "its sha256 is {sha256}, not {}; {DAMAGED}",
            pack.sha256
        );
        Ok(())
    }

    fn part(&self, part: &Part, stream: impl Read) -> Result<()> {
        let mut files = Files(Vec::new());
        for path in part.paths() {
            let mut file = File::options().write(true).open(self.dir.join(path))?;
            file.seek(SeekFrom::Start(part.offset))?;
            files.0.push(file);
        }
        let times = files.0.len() as u64;
        let advance = |bytes| self.progress.advance(bytes * times);
        let mut reader = Hashing::new(Counting::new(stream.take(part.size), &advance));
        io::copy(&mut reader, &mut files)?;
        let (size, sha256) = reader.finish();
        if size != part.size {
            bail!(
                "it ends after {size} bytes of a part of {} bytes; {DAMAGED}",
                part.size
            )
        }
        ensure!(
            sha256 == part.sha256,
            "the sha256 of a part is {sha256}, not {}; {DAMAGED}",
            part.sha256
        );
        Ok(())
    }
}

/// Files that get the same bytes.
struct Files(Vec<File>);

impl Write for Files {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .iter_mut()
            .try_for_each(|file| file.write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.iter_mut().try_for_each(Write::flush)
    }
}

/// Adds to every read error that the appliance is damaged. Without this, the error of a copy does not
/// show whether reading or writing failed.
struct Blaming<R>(R);

impl<R: Read> Read for Blaming<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let blame = |error: io::Error| io::Error::new(error.kind(), format!("{error}; {DAMAGED}"));
        self.0.read(buffer).map_err(blame)
    }
}

/// The memory of all threads, up to [`MEMORY_LIMIT`].
#[derive(Default)]
struct Budget {
    used: Mutex<u64>,
    freed: Condvar,
}

impl Budget {
    /// Waits until this many bytes are free, and reserves them until the share is dropped.
    fn take(&self, bytes: u64) -> Share<'_> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = self
            .freed
            .wait_while(used, |used| *used + bytes > MEMORY_LIMIT);
        *wait.unwrap_or_else(PoisonError::into_inner) += bytes;
        Share { of: self, bytes }
    }
}

struct Share<'a> {
    of: &'a Budget,
    bytes: u64,
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        *self.of.used.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        self.of.freed.notify_all();
    }
}
