//! The cache: upstream files by what they are, not by where they came from, shared by all
//! bundles. A file has its name there only when it is whole and is what its name says.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use sha2::Digest;

use crate::digest::Sha256;
use crate::sys::stream::Hashing;

/// Where whole files are, each named by its digest.
pub const BLOBS: &str = "blobs/sha256";
/// Where downloads are that have not ended.
const PARTIAL: &str = "partial";
/// Where files are kept that were not what they should be, for people to look at.
const REJECTED: &str = "rejected";
/// How much is written at once, in bytes.
const CHUNK: usize = 256 * 1024;

/// A directory of upstream files.
#[derive(Clone, Debug)]
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// The cache in the directory `dir`, which is made where it is missing.
    pub fn open(dir: &Path) -> Result<Cache> {
        for part in [BLOBS, PARTIAL, REJECTED] {
            let path = dir.join(part);
            fs::create_dir_all(&path).with_context(|| format!("cache {}", path.display()))?;
        }
        Ok(Cache {
            dir: dir.to_owned(),
        })
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the file of that digest is, or would be.
    pub fn path(&self, sha256: &Sha256) -> PathBuf {
        self.dir.join(BLOBS).join(sha256.as_str())
    }

    /// Whether the file of that digest is there.
    pub fn contains(&self, sha256: &Sha256) -> bool {
        self.path(sha256).is_file()
    }

    /// Every file's digest, in their order.
    pub fn blobs(&self) -> Result<Vec<Sha256>> {
        let mut blobs = Vec::new();
        for entry in fs::read_dir(self.dir.join(BLOBS))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            blobs.push(
                name.parse()
                    .with_context(|| format!("cache {}", self.dir.display()))?,
            );
        }
        blobs.sort();
        Ok(blobs)
    }

    /// Reads the file of that digest and compares it; one that is not what its name says is
    /// moved aside, so that it is fetched again.
    pub fn check(&self, sha256: &Sha256) -> Result<u64> {
        let path = self.path(sha256);
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        let mut reader = Hashing::new(BufReader::with_capacity(CHUNK, file));
        io::copy(&mut reader, &mut io::sink()).with_context(|| path.display().to_string())?;
        let (size, found) = reader.finish();
        if found == *sha256 {
            return Ok(size);
        }
        let aside = self.reject(&path, sha256.as_str(), &found)?;
        bail!(
            "the cache's file {sha256} has changed: its sha256 is {found}; it was moved to {}, fetch it again",
            aside.display()
        )
    }

    /// The bytes of the small file of that digest, compared with it.
    pub fn read_small(&self, sha256: &Sha256, limit: u64) -> Result<Vec<u8>> {
        let path = self.path(sha256);
        let read = || -> Result<Vec<u8>> {
            let mut bytes = Vec::new();
            File::open(&path)?.take(limit + 1).read_to_end(&mut bytes)?;
            ensure!(
                bytes.len() as u64 <= limit,
                "it is longer than {limit} bytes"
            );
            ensure!(
                Sha256::of(&bytes) == *sha256,
                "it is not what its name says"
            );
            Ok(bytes)
        };
        read().with_context(|| format!("cache {}", path.display()))
    }

    /// Begins, or goes on with, the download of the file of that digest. Only one can at a time:
    /// another is waited for. `None` if by then the file is there.
    pub fn receive(&self, sha256: &Sha256) -> Result<Option<Incoming<'_>>> {
        let mut incoming = self.lock(sha256.as_str())?;
        if self.contains(sha256) {
            fs::remove_file(&incoming.path).with_context(|| incoming.path.display().to_string())?;
            return Ok(None);
        }
        incoming.take_stock()?;
        Ok(Some(incoming))
    }

    /// Begins the download of the file at `url`, whose digest nobody knows. It never goes on with
    /// an earlier one: nothing would tell a part of one file from the rest of another.
    pub fn receive_unverified(&self, url: &str) -> Result<Incoming<'_>> {
        let mut incoming = self.lock(&format!("unverified-{}", Sha256::of(url.as_bytes())))?;
        incoming.restart()?;
        Ok(incoming)
    }

    /// Keeps the bytes, which are the whole file, unless they are there already.
    pub fn keep(&self, bytes: &[u8]) -> Result<Sha256> {
        let sha256 = Sha256::of(bytes);
        if let Some(mut incoming) = self.receive(&sha256)? {
            incoming.restart()?;
            incoming.write(bytes)?;
            incoming.finish(sha256.as_str(), Some(&sha256))?;
        }
        Ok(sha256)
    }

    fn lock(&self, key: &str) -> Result<Incoming<'_>> {
        let path = self.dir.join(PARTIAL).join(key);
        let file = lock(&path).with_context(|| path.display().to_string())?;
        Ok(Incoming {
            cache: self,
            path,
            file,
            sha256: sha2::Sha256::new(),
            bytes: 0,
        })
    }

    fn reject(&self, path: &Path, name: &str, found: &Sha256) -> Result<PathBuf> {
        let aside = self.dir.join(REJECTED).join(format!("{name}.{found}"));
        fs::rename(path, &aside).with_context(|| format!("move {} aside", path.display()))?;
        Ok(aside)
    }
}

/// Opens the file at `path`, made where it is missing, once nobody else has it.
fn lock(path: &Path) -> Result<Flock<File>> {
    loop {
        let open = || {
            File::options()
                .read(true)
                .append(true)
                .create(true)
                .open(path)
        };
        let file = match Flock::lock(open()?, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((file, Errno::EWOULDBLOCK)) => {
                log::info!("waiting for another download of {}", path.display());
                Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error)?
            }
            Err((_, error)) => return Err(error.into()),
        };
        // Whoever had it may have given it its final name: what was opened is then that file.
        let is_same =
            |metadata: fs::Metadata| metadata.ino() == file.metadata().map_or(0, |m| m.ino());
        if fs::metadata(path).is_ok_and(is_same) {
            return Ok(file);
        }
    }
}

/// A file on its way into the cache. What arrived of it stays, so that a later run goes on.
pub struct Incoming<'a> {
    cache: &'a Cache,
    path: PathBuf,
    file: Flock<File>,
    sha256: sha2::Sha256,
    bytes: u64,
}

impl Incoming<'_> {
    /// Reads what an earlier run left.
    fn take_stock(&mut self) -> Result<()> {
        self.file.rewind()?;
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = self.file.read(&mut chunk)?;
            if count == 0 {
                return Ok(());
            }
            self.sha256.update(&chunk[..count]);
            self.bytes += count as u64;
        }
    }

    /// How many bytes there are.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether what arrived is the file of that digest.
    pub fn is(&self, sha256: &Sha256) -> bool {
        Sha256::from(self.sha256.clone().finalize().as_slice()) == *sha256
    }

    /// Forgets what arrived.
    pub fn restart(&mut self) -> Result<()> {
        self.file.set_len(0)?;
        self.sha256 = sha2::Sha256::new();
        self.bytes = 0;
        Ok(())
    }

    /// Appends what arrived.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("write {}: {error}", self.path.display()),
            )
        })?;
        self.sha256.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Gives the whole file its name. One that is not `expected` is kept aside, and its
    /// digest and that of `expected` are told.
    pub fn finish(self, name: &str, expected: Option<&Sha256>) -> Result<Sha256> {
        let found = Sha256::from(self.sha256.finalize().as_slice());
        if let Some(expected) = expected.filter(|expected| **expected != found) {
            let aside = self.cache.reject(&self.path, name, &found)?;
            bail!(
                "its sha256 is {found}, but {expected} was expected; the bad file is {}",
                aside.display()
            )
        }
        self.file.sync_all()?;
        let target = self.cache.path(&found);
        fs::rename(&self.path, &target).with_context(|| target.display().to_string())?;
        File::open(self.cache.dir.join(BLOBS))?.sync_all()?;
        Ok(found)
    }
}
