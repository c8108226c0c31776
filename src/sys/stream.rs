//! Readers and writers that hash, count or limit the bytes that pass through them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use sha2::Digest;

use crate::digest::Sha256;

/// Counts and hashes everything that is read or written through it.
pub struct Hashing<R> {
    inner: R,
    sha256: sha2::Sha256,
    bytes: u64,
}

impl<R> Hashing<R> {
    /// A reader or writer of `inner` that has seen nothing yet.
    pub fn new(inner: R) -> Hashing<R> {
        Hashing {
            inner,
            sha256: sha2::Sha256::new(),
            bytes: 0,
        }
    }

    /// How many bytes passed, and their SHA-256. Flush a writer first.
    pub fn finish(self) -> (u64, Sha256) {
        (self.bytes, Sha256::from(self.sha256.finalize().as_slice()))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.sha256.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.sha256.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// SHA-256 of the file at `path`.
pub fn sha256_of_file(path: &Path) -> Result<Sha256> {
    let read = || sha256_of(File::open(path)?);
    read().with_context(|| path.display().to_string())
}

/// SHA-256 of everything that is read from `reader`.
pub fn sha256_of(reader: impl Read) -> io::Result<Sha256> {
    let mut reader = Hashing::new(reader);
    io::copy(&mut reader, &mut io::sink())?;
    Ok(reader.finish().1)
}

/// Calls a callback with the number of bytes of each read.
pub struct Counting<'a, R> {
    inner: R,
    advance: &'a dyn Fn(u64),
}

impl<'a, R: Read> Counting<'a, R> {
    /// A reader of `inner` that calls `advance` after each read.
    pub fn new(inner: R, advance: &'a dyn Fn(u64)) -> Counting<'a, R> {
        Counting { inner, advance }
    }
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        (self.advance)(count as u64);
        Ok(count)
    }
}

/// Fails when more than a number of bytes comes out: a few compressed bytes can unpack to more than
/// any disk holds.
pub struct Bounded<R> {
    inner: R,
    left: u64,
    limit: u64,
}

impl<R: Read> Bounded<R> {
    /// A reader of `inner` that lets `limit` bytes pass.
    pub fn new(inner: R, limit: u64) -> Bounded<R> {
        Bounded {
            inner,
            left: limit,
            limit,
        }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "it unpacks to more than {} bytes, so it is damaged or malicious; do not use it",
                    self.limit
                ),
            )
        })?;
        Ok(count)
    }
}
