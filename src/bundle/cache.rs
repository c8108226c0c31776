//! The cache: upstream files by their digest, shared by all bundles. A file gets its final name only
//! when it is complete and has that digest.

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

/// The directory of complete files. The name of each is its digest.
pub const BLOBS: &str = "blobs/sha256";
/// The directory of unfinished downloads.
const PARTIAL: &str = "partial";
/// The directory of files with a wrong digest, which people can inspect.
const REJECTED: &str = "rejected";
/// How much is written at once, in bytes.
const CHUNK: usize = 256 * 1024;

/// A directory of upstream files.
#[derive(Clone, Debug)]
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// The cache in the directory `dir`, which is created if it is missing.
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

    /// Reads the file of that digest and verifies it. A file with another digest is moved aside, so
    /// that it is fetched again.
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
            "the cache's file {sha256} is damaged: its sha256 is {found}; it was moved to {}; run `appliance bundle fetch` again",
            aside.display()
        )
    }

    /// The bytes of the small file of that digest, verified.
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
                "its name is not its sha256, so it is damaged; remove it and run `appliance bundle fetch`"
            );
            Ok(bytes)
        };
        read().with_context(|| format!("cache {}", path.display()))
    }

    /// Starts or resumes the download of the file of that digest. Waits until no other process
    /// downloads it. `None` if the file is complete by then.
    pub fn receive(&self, sha256: &Sha256) -> Result<Option<Incoming<'_>>> {
        let mut incoming = self.lock(sha256.as_str())?;
        if self.contains(sha256) {
            fs::remove_file(&incoming.path).with_context(|| incoming.path.display().to_string())?;
            return Ok(None);
        }
        incoming.take_stock()?;
        Ok(Some(incoming))
    }

    /// Starts the download of the file at `url`, whose digest is not known. It never resumes an
    /// earlier download: without a digest, parts of two different files could be mixed.
    pub fn receive_unverified(&self, url: &str) -> Result<Incoming<'_>> {
        let mut incoming = self.lock(&format!("unverified-{}", Sha256::of(url.as_bytes())))?;
        incoming.restart()?;
        Ok(incoming)
    }

    /// Stores the bytes of a whole file, unless the cache has it already.
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

/// Opens and locks the file at `path`, which is created if it is missing.
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
                log::info!(
                    "waiting for another process that downloads {}",
                    path.display()
                );
                Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error)?
            }
            Err((_, error)) => return Err(error.into()),
        };
        // The process before may have renamed the file to its final name: then open it again.
        let is_same =
            |metadata: fs::Metadata| metadata.ino() == file.metadata().map_or(0, |m| m.ino());
        if fs::metadata(path).is_ok_and(is_same) {
            return Ok(file);
        }
    }
}

/// A file that is downloaded into the cache. Its first part stays, so that a later run can resume.
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

    /// How many bytes have arrived.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the bytes that have arrived have that digest.
    pub fn is(&self, sha256: &Sha256) -> bool {
        Sha256::from(self.sha256.clone().finalize().as_slice()) == *sha256
    }

    /// Discards all bytes that have arrived.
    pub fn restart(&mut self) -> Result<()> {
        self.file.set_len(0)?;
        self.sha256 = sha2::Sha256::new();
        self.bytes = 0;
        Ok(())
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot write {}: {error}", self.path.display()),
            )
        })?;
        self.sha256.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Gives the complete file its final name. A file with another digest than `expected` is moved
    /// aside, and the error has both digests.
    pub fn finish(self, name: &str, expected: Option<&Sha256>) -> Result<Sha256> {
        let found = Sha256::from(self.sha256.finalize().as_slice());
        if let Some(expected) = expected.filter(|expected| **expected != found) {
            let aside = self.cache.reject(&self.path, name, &found)?;
            bail!(
                "its sha256 is {found}, but {expected} was expected; look at the wrong file {}, and \
                 correct bundle.lock or fetch it from another server with --mirror",
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
