//! The cache: upstream files by their digest, shared by all bundles. A file gets its final name only
//! when it is complete and has that digest.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use sha2::Digest as _;

use crate::digest::{Digest, Sha256, Sha512};
use crate::sys::atomic::{create_directories, parent, sync_directory};
use crate::sys::host;

/// The directories of complete files, one for each algorithm. The name of each file is its digest.
const BLOBS: [&str; 2] = ["blobs/sha256", "blobs/sha512"];
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
        for part in BLOBS.into_iter().chain([PARTIAL, REJECTED]) {
            let path = dir.join(part);
            create_directories(&path).with_context(|| format!("cache {}", path.display()))?;
        }
        Ok(Cache::at(dir))
    }

    /// The cache in the directory `dir`, only to look into it. The directory may be missing.
    pub fn at(dir: &Path) -> Cache {
        Cache {
            dir: dir.to_owned(),
        }
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of the file with this digest, whether the file exists or not.
    pub fn path(&self, digest: impl Into<Digest>) -> PathBuf {
        self.dir.join(blob_path(&digest.into()))
    }

    /// Whether the file with this digest exists.
    pub fn contains(&self, digest: impl Into<Digest>) -> bool {
        self.path(digest).is_file()
    }

    /// Every file's digest, in their order.
    pub fn blobs(&self) -> Result<Vec<Digest>> {
        let mut blobs = Vec::new();
        for part in BLOBS {
            let dir = self.dir.join(part);
            if !dir.exists() {
                continue;
            }
            for entry in fs::read_dir(dir)? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                let digest = digest_at(&format!("{part}/{name}"));
                blobs.push(digest.with_context(|| format!("cache {}", self.dir.display()))?);
            }
        }
        blobs.sort();
        Ok(blobs)
    }

    /// Reads the file of that digest and verifies it. A file with another digest is moved aside, so
    /// that it is fetched again.
    pub fn check(&self, digest: impl Into<Digest>) -> Result<u64> {
        let digest = digest.into();
        let path = self.path(&digest);
        let (size, found) = hash(&path, &digest).with_context(|| path.display().to_string())?;
        if found == digest {
            return Ok(size);
        }
        let aside = self.reject(&path, digest.digits(), &found)?;
        bail!(
            "the cache's file {digest} is damaged: its digest is {found}; it was moved to {}; run `appliance bundle fetch` again",
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
    pub fn receive(&self, digest: impl Into<Digest>) -> Result<Option<Incoming<'_>>> {
        let digest = digest.into();
        let mut incoming = self.lock(digest.digits(), Hasher::like(&digest))?;
        if self.contains(&digest) {
            fs::remove_file(&incoming.path).with_context(|| incoming.path.display().to_string())?;
            return Ok(None);
        }
        incoming.take_stock()?;
        Ok(Some(incoming))
    }

    /// Starts the download of the file at `url`, whose digest is not known. It never resumes an
    /// earlier download: without a digest, parts of two different files could be mixed.
    pub fn receive_unverified(&self, url: &str) -> Result<Incoming<'_>> {
        let key = format!("unverified-{}", Sha256::of(url.as_bytes()));
        let mut incoming = self.lock(&key, Hasher::Sha256(sha2::Sha256::new()))?;
        incoming.restart()?;
        Ok(incoming)
    }

    /// Stores the bytes of a whole file, unless the cache has it already.
    pub fn keep(&self, bytes: &[u8]) -> Result<Sha256> {
        let sha256 = Sha256::of(bytes);
        if let Some(mut incoming) = self.receive(&sha256)? {
            incoming.restart()?;
            incoming.write(bytes)?;
            incoming.finish(sha256.as_str(), Some(&Digest::from(&sha256)))?;
        }
        Ok(sha256)
    }

    /// Removes the file with that digest.
    pub fn forget(&self, digest: impl Into<Digest>) -> Result<()> {
        let path = self.path(digest);
        fs::remove_file(&path).with_context(|| path.display().to_string())
    }

    fn lock(&self, key: &str, hasher: Hasher) -> Result<Incoming<'_>> {
        let path = self.dir.join(PARTIAL).join(key);
        let file = lock(&path).with_context(|| path.display().to_string())?;
        Ok(Incoming {
            cache: self,
            path,
            file,
            hasher,
            bytes: 0,
        })
    }

    fn reject(&self, path: &Path, name: &str, found: &Digest) -> Result<PathBuf> {
        let digits = found.digits().get(..64).unwrap_or_default();
        let aside = self.dir.join(REJECTED).join(format!("{name}.{digits}"));
        fs::rename(path, &aside).with_context(|| format!("move {} aside", path.display()))?;
        Ok(aside)
    }
}

/// The path of the file with that digest, relative to the cache's directory.
pub fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.digits())
}

/// The digest of the file at that path, relative to the cache's directory.
pub fn digest_at(path: &str) -> Result<Digest> {
    let parts = path
        .strip_prefix("blobs/")
        .and_then(|rest| rest.split_once('/'));
    let (algorithm, digits) =
        parts.with_context(|| format!("{path:?} is not a file of a cache"))?;
    Digest::of(algorithm, digits)
}

/// The size of the file at `path`, and its digest by the algorithm of `like`.
pub fn hash(path: &Path, like: &Digest) -> io::Result<(u64, Digest)> {
    let mut reader = BufReader::with_capacity(CHUNK, File::open(path)?);
    let mut hasher = Hasher::like(like);
    let size = io::copy(&mut reader, &mut hasher)?;
    Ok((size, hasher.digest()))
}

/// Computes a digest of one of the algorithms.
#[derive(Clone)]
enum Hasher {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// A new one for the algorithm of `digest`.
    fn like(digest: &Digest) -> Hasher {
        match digest {
            Digest::Sha256(_) => Hasher::Sha256(sha2::Sha256::new()),
            Digest::Sha512(_) => Hasher::Sha512(sha2::Sha512::new()),
        }
    }

    fn reset(&mut self) {
        match self {
            Hasher::Sha256(hasher) => hasher.reset(),
            Hasher::Sha512(hasher) => hasher.reset(),
        }
    }

    fn digest(self) -> Digest {
        match self {
            Hasher::Sha256(hasher) => Digest::Sha256(Sha256::from(hasher.finalize().as_slice())),
            Hasher::Sha512(hasher) => Digest::Sha512(Sha512::from(hasher.finalize().as_slice())),
        }
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file of the cache that cannot be written. Another server does not help.
#[derive(Debug)]
pub struct CannotWrite {
    path: PathBuf,
    error: io::Error,
}

impl std::error::Error for CannotWrite {}

impl fmt::Display for CannotWrite {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let advice = advice(&self.error, &self.path);
        write!(
            formatter,
            "cannot write {}: {}{advice}",
            self.path.display(),
            self.error
        )
    }
}

fn advice(error: &io::Error, path: &Path) -> String {
    if error.kind() != io::ErrorKind::StorageFull {
        return String::new();
    }
    let free = host::file_system(path).map_or(0, |found| found.free);
    format!(
        "; {free} bytes are free there; free some space, or choose a directory on another disk with \
         `--cache DIR`; what was downloaded stays and the next run continues there"
    )
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
    hasher: Hasher,
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
            self.hasher.write_all(&chunk[..count])?;
            self.bytes += count as u64;
        }
    }

    /// How many bytes have arrived.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the bytes that have arrived have that digest.
    pub fn is(&self, digest: &Digest) -> bool {
        self.hasher.clone().digest() == *digest
    }

    /// Discards all bytes that have arrived.
    pub fn restart(&mut self) -> Result<()> {
        self.file.set_len(0)?;
        self.hasher.reset();
        self.bytes = 0;
        Ok(())
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), CannotWrite> {
        let cannot = |error| CannotWrite {
            path: self.path.clone(),
            error,
        };
        self.file.write_all(bytes).map_err(cannot)?;
        self.hasher.write_all(bytes).map_err(cannot)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Gives the complete file its final name. A file with another digest than `expected` is moved
    /// aside, and the error has both digests.
    pub fn finish(self, name: &str, expected: Option<&Digest>) -> Result<Digest> {
        let found = self.hasher.digest();
        if let Some(expected) = expected.filter(|expected| **expected != found) {
            let aside = self.cache.reject(&self.path, name, &found)?;
            bail!(
                "its {} is {}, but {} was expected{}; look at the wrong file {}, and correct \
                 bundle.lock or fetch it from another server with --mirror",
                found.algorithm(),
                found.digits(),
                expected.digits(),
                kind_of_page(&aside),
                aside.display()
            )
        }
        self.file.sync_all()?;
        let target = self.cache.path(&found);
        fs::rename(&self.path, &target).with_context(|| target.display().to_string())?;
        sync_directory(parent(&target))?;
        Ok(found)
    }
}

/// Says so if the file at `path` is a web page, which no artifact is.
fn kind_of_page(path: &Path) -> &'static str {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(512).read_to_end(&mut start));
    let text = String::from_utf8_lossy(&start)
        .trim_start()
        .to_ascii_lowercase();
    match read.is_ok()
        && ["<!doctype html", "<html"]
            .iter()
            .any(|tag| text.starts_with(tag))
    {
        true => ", and it is a web page, perhaps from a login page or a proxy",
        false => "",
    }
}
