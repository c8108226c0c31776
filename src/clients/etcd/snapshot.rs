//! etcd's own snapshot of its data of API v3 (`etcdctl snapshot save` writes the same bytes), as a stream: it never is a
//! whole in memory, nor in a file.

use std::io::{self, BufRead, BufReader, Read};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::blocking::{Client, Response};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::gateway::Gateway;

/// The size of the checksum at the end of a snapshot, in bytes.
const CHECKSUM: u64 = 32;
/// The longest message, in bytes. etcd sends 32 KiB at a time, in base64.
const LONGEST: u64 = 8 * 1024 * 1024;

/// Checks a snapshot while its bytes pass: the last 32 are SHA-256 of all others.
pub struct Whole {
    /// How many bytes are before the checksum.
    data: u64,
    seen: u64,
    sha256: Sha256,
    checksum: Vec<u8>,
}

impl Whole {
    /// A check of a snapshot of `size` bytes.
    pub fn new(size: u64) -> Whole {
        Whole {
            data: size.saturating_sub(CHECKSUM),
            seen: 0,
            sha256: Sha256::new(),
            checksum: Vec::new(),
        }
    }

    /// These bytes are next.
    pub fn update(&mut self, bytes: &[u8]) {
        let left = usize::try_from(self.data - self.seen.min(self.data)).unwrap_or(usize::MAX);
        let (data, checksum) = bytes.split_at(left.min(bytes.len()));
        self.sha256.update(data);
        self.seen += data.len() as u64;
        // More than a checksum is wrong, however much more.
        let room = (CHECKSUM as usize + 1).saturating_sub(self.checksum.len());
        self.checksum.extend(&checksum[..room.min(checksum.len())]);
    }

    /// Whether all bytes passed, and the checksum is right.
    pub fn is_whole(self) -> bool {
        self.seen == self.data && self.checksum == self.sha256.finalize().as_slice()
    }
}

#[derive(Deserialize)]
struct Message {
    result: Option<Part>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    remaining_bytes: Option<String>,
    #[serde(default)]
    blob: Option<String>,
}

/// A snapshot that a member sends. It ends with an error if it is not whole.
pub struct Snapshot {
    messages: BufReader<Response>,
    size: u64,
    left: u64,
    part: Vec<u8>,
    at: usize,
    whole: Option<Whole>,
}

impl Snapshot {
    /// Asks the member at the URL `server` for a snapshot. It includes every change that was acknowledged before.
    ///
    /// # Errors
    /// The member does not answer, or has no API v3 with a JSON gateway (etcd 3.1 and later have).
    pub fn begin(client: &Client, server: &str) -> Result<Snapshot> {
        let answer = Gateway::of(client, server)?.send("maintenance/snapshot", &json!({}))?;
        let mut snapshot = Snapshot {
            messages: BufReader::new(answer),
            size: 0,
            left: 0,
            part: Vec::new(),
            at: 0,
            whole: None,
        };
        let Some(first) = snapshot.message()? else {
            bail!("etcd sent no snapshot");
        };
        snapshot.part = blob(&first)?;
        let remaining = first.remaining_bytes.as_deref().unwrap_or("0");
        let remaining: u64 = remaining.parse().context("etcd's snapshot has no size")?;
        snapshot.size = remaining + snapshot.part.len() as u64 + CHECKSUM;
        snapshot.left = snapshot.size;
        snapshot.whole = Some(Whole::new(snapshot.size));
        Ok(snapshot)
    }

    /// Its size, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn message(&mut self) -> Result<Option<Part>> {
        let mut line = Vec::new();
        let read = (&mut self.messages)
            .take(LONGEST)
            .read_until(b'\n', &mut line)
            .context("etcd's snapshot")?;
        if read == 0 {
            return Ok(None);
        }
        let message: Message =
            serde_json::from_slice(&line).context("etcd's snapshot is cut off, or not valid")?;
        match (message.result, message.error) {
            (Some(part), None) => Ok(Some(part)),
            (_, error) => bail!("etcd cannot make a snapshot: {}", error.unwrap_or_default()),
        }
    }

    /// Reads the next part. Returns whether there is one.
    fn advance(&mut self) -> Result<bool> {
        while self.at == self.part.len() {
            let Some(part) = self.message()? else {
                let whole = self.whole.take();
                if self.left != 0 || !whole.is_none_or(Whole::is_whole) {
                    bail!("etcd's snapshot is not whole; run this again");
                }
                return Ok(false);
            };
            self.part = blob(&part)?;
            self.at = 0;
        }
        Ok(true)
    }
}

fn blob(part: &Part) -> Result<Vec<u8>> {
    let blob = part.blob.as_deref().unwrap_or_default();
    BASE64.decode(blob).context("etcd's snapshot is not valid")
}

impl Read for Snapshot {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let more = self
            .advance()
            .map_err(|error| io::Error::other(format!("{error:#}")))?;
        if !more {
            return Ok(0);
        }
        let rest = &self.part[self.at..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        if let Some(whole) = &mut self.whole {
            whole.update(&rest[..count]);
        }
        self.at += count;
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or_else(|| io::Error::other("etcd's snapshot is longer than etcd said"))?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_whole(bytes: &[u8], size: usize, step: usize) -> bool {
        let mut whole = Whole::new(size as u64);
        bytes.chunks(step).for_each(|part| whole.update(part));
        whole.is_whole()
    }

    #[test]
    fn a_snapshot_is_whole_only_with_its_checksum() {
        let mut bytes = vec![7; 1000];
        bytes.extend(Sha256::digest(&bytes).as_slice());
        for step in [1, 31, 32, 33, 999, 1000, 5000] {
            assert!(is_whole(&bytes, bytes.len(), step));
            assert!(!is_whole(&bytes[..1031], 1031, step));
            assert!(!is_whole(&bytes, 1031, step));
            assert!(!is_whole(&bytes, 1033, step));
        }
        bytes[500] ^= 1;
        assert!(!is_whole(&bytes, bytes.len(), 100));
        assert!(!is_whole(&[], 0, 1));
    }
}
