//! The appliance of a master, which other nodes get part by part. It is no secret; every user of the machine may read it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::digest::Sha256;
use crate::sys::stream::sha256_of;

/// The most bytes of the appliance in one answer.
pub const PART: u64 = 4 * 1024 * 1024;

/// What identifies a file, and its state: device, inode, size, time of the last change.
type Mark = (u64, u64, u64, i64, i64);

/// The appliance in a file. Its digest is computed once.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    known: Mutex<Option<(Mark, Sha256)>>,
}

impl Program {
    /// The appliance at `path`.
    pub fn at(path: PathBuf) -> Program {
        Program {
            path,
            known: Mutex::new(None),
        }
    }

    /// Its bytes from `from` on, at most [`PART`]; `None` if it is not the one with this digest.
    pub fn part(&self, wanted: &Sha256, from: u64) -> io::Result<Option<Vec<u8>>> {
        let mut file = File::open(&self.path)?;
        if self.digest(&file)? != *wanted {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(PART).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn digest(&self, file: &File) -> io::Result<Sha256> {
        let found = file.metadata()?;
        let mark = (
            found.dev(),
            found.ino(),
            found.size(),
            found.ctime(),
            found.ctime_nsec(),
        );
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((marked, digest)) = &*known
            && *marked == mark
        {
            return Ok(digest.clone());
        }
        let digest = sha256_of(file)?;
        *known = Some((mark, digest.clone()));
        Ok(digest)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_part_begins_where_it_is_asked_for_and_is_of_the_wanted_appliance() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("appliance");
        std::fs::write(&path, b"appliance").unwrap();
        let program = Program::at(path.clone());
        let digest = Sha256::of(b"appliance");
        let part = |digest, from| program.part(digest, from).unwrap();
        assert_eq!(part(&digest, 0).as_deref(), Some(&b"appliance"[..]));
        assert_eq!(part(&digest, 4).as_deref(), Some(&b"iance"[..]));
        assert_eq!(part(&digest, 100).as_deref(), Some(&b""[..]));
        std::fs::write(dir.path().join("new"), b"another").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(part(&digest, 0), None);
    }
}
