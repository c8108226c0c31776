//! Uploads an object whose size is not known in advance, part by part.

use std::io::{self, Write};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;

use super::{Begun, Store};

/// The size of a part, in bytes. One is in memory at a time. Swift takes 1000 parts by default, which is 15 GiB: as
/// much as the largest snapshot of etcd.
const PART: usize = 16 * 1024 * 1024;
/// The most parts that S3 allows.
const MOST: u16 = 10_000;

/// An upload. Until it is finished, there is no object.
pub struct Upload<'a> {
    store: &'a Store,
    begun: Begun,
    parts: Vec<String>,
    buffer: Vec<u8>,
    bytes: u64,
}

impl Upload<'_> {
    pub(super) fn new(store: &Store, begun: Begun) -> Upload<'_> {
        Upload {
            store,
            begun,
            parts: Vec::new(),
            buffer: Vec::new(),
            bytes: 0,
        }
    }

    fn send(&mut self) -> Result<()> {
        let number = u16::try_from(self.parts.len() + 1).ok();
        let Some(number) = number.filter(|number| *number <= MOST) else {
            bail!("more than {MOST} parts, the most that an object store takes");
        };
        let part = Bytes::from(std::mem::take(&mut self.buffer));
        self.parts
            .push(self.store.put_part(&self.begun, number, part)?);
        Ok(())
    }

    /// Sends the rest, and makes the object of all parts. It is there when this returns: the store says its size.
    ///
    /// # Errors
    /// If it is not. An object with another size was removed.
    pub fn finish(&mut self) -> Result<()> {
        if !self.buffer.is_empty() || self.parts.is_empty() {
            self.send()?;
        }
        let completed = self.store.complete(&self.begun, &self.parts);
        let key = &self.begun.key;
        // A store may do it, although its answer is lost: then the upload is unknown when this asks again.
        match (self.store.head(key), completed) {
            (Ok(Some(head)), _) if head.bytes == self.bytes => Ok(()),
            (_, Err(error)) => Err(error),
            (head, Ok(())) => {
                let found = head?;
                let is_there = found.is_some();
                if is_there {
                    self.store
                        .remove(key)
                        .context("the store has only a part of it, and")?;
                }
                ensure!(
                    is_there,
                    "the store acknowledged {key}, and does not have it; run this again"
                );
                bail!(
                    "the store has {} bytes of {key} instead of {}, so it was removed; run this again",
                    found.map_or(0, |head| head.bytes),
                    self.bytes
                )
            }
        }
    }

    /// Forgets the upload, with its parts.
    pub fn abort(self) -> Result<()> {
        self.store.abort(&self.begun)
    }
}

impl Write for Upload<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.capacity() == 0 {
            self.buffer.reserve_exact(PART);
        }
        let count = bytes.len().min(PART - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        self.bytes += count as u64;
        if self.buffer.len() == PART {
            self.send()
                .map_err(|error| io::Error::other(format!("{error:#}")))?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
