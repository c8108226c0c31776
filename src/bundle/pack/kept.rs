//! Keeps compressed streams in the cache, so that packing again compresses only what changed.
//!
//! The name of a kept stream has two digests: that of everything its bytes depend on, and that of the
//! bytes themselves, which is verified before the stream is used. The cache makes packing faster and
//! nothing else: if it cannot be read or written, packing continues without it.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use anyhow::{Context, Result};

use crate::bundle::cache::Cache;
use crate::digest::Sha256;
use crate::sys::atomic;
use crate::sys::stream::Hashing;

/// The directory of kept streams, in the cache.
pub const DIRECTORY: &str = "packed";
/// The maximum size of all kept streams together, in bytes: room for about ten payloads.
const LIMIT: u64 = 2 * 1024 * 1024 * 1024;

/// The compressed streams of earlier runs.
pub struct Kept {
    dir: PathBuf,
    limit: u64,
    /// Whether a warning has said that nothing can be kept.
    warned: AtomicBool,
}

impl Kept {
    /// The streams that are kept in `cache`.
    pub fn of(cache: &Cache) -> Kept {
        Kept {
            dir: cache.dir().join(DIRECTORY),
            limit: LIMIT,
            warned: AtomicBool::new(false),
        }
    }

    /// Copies the stream that was kept for `key` to the new file `target`, and verifies it. Returns
    /// its size and its digest; `None` if there is none, or none that is undamaged.
    pub fn take(&self, key: &Sha256, target: &Path) -> Option<(u64, Sha256)> {
        for (path, sha256) in self.find(key) {
            let problem = match copy(&path, target) {
                Ok((size, found)) if found == sha256 => {
                    // What is used stays longest. Without this, it is only removed earlier.
                    drop(touch(&path));
                    return Some((size, sha256));
                }
                Ok((_, found)) => {
                    drop(fs::remove_file(&path));
                    format!("it is damaged: its sha256 is {found}")
                }
                Err(error) => error.to_string(),
            };
            log::warn!(
                "the kept stream {}: {problem}; its files are compressed again",
                path.display()
            );
            drop(fs::remove_file(target));
        }
        None
    }

    /// The kept streams for `key`, each with the digest in its name.
    fn find(&self, key: &Sha256) -> Vec<(PathBuf, Sha256)> {
        let sha256 = |path: &Path| {
            let name = path.file_name()?.to_str()?;
            let rest = name.strip_prefix(key.as_str())?;
            rest.strip_prefix('.')?.parse().ok()
        };
        let files = self.files().unwrap_or_default();
        let found = files.into_iter().map(|file| file.path);
        found
            .filter_map(|path| sha256(&path).map(|sha256| (path, sha256)))
            .collect()
    }

    /// Keeps the stream in the file `stream`, which has that digest, for `key`. If that fails, a
    /// warning says so.
    pub fn keep(&self, key: &Sha256, stream: &Path, sha256: &Sha256) {
        let store = || -> Result<()> {
            atomic::create_directories(&self.dir)
                .with_context(|| self.dir.display().to_string())?;
            let target = self.dir.join(format!("{key}.{sha256}"));
            atomic::copy(stream, &target, 0o644)?;
            self.prune()
        };
        if let Err(problem) = store()
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            log::warn!(
                "cannot keep compressed streams: {problem:#}; the payload is complete, but packing \
                 it again takes as long; use another cache with `--cache DIR`"
            );
        }
    }

    /// Removes the streams that were not used for the longest time, until the rest is within the limit.
    fn prune(&self) -> Result<()> {
        let mut files = self.files()?;
        files.sort_by_key(|file| std::cmp::Reverse(file.used));
        let mut size = 0;
        for file in files {
            size += file.size;
            if size > self.limit {
                // Another run may have removed it.
                drop(fs::remove_file(file.path));
            }
        }
        Ok(())
    }

    /// All files in the directory: also those that an interrupted run left.
    fn files(&self) -> Result<Vec<KeptFile>> {
        let mut files = Vec::new();
        let entries = fs::read_dir(&self.dir).with_context(|| self.dir.display().to_string())?;
        for entry in entries {
            let entry = entry?;
            // Another run may have removed it since.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_file() {
                files.push(KeptFile {
                    path: entry.path(),
                    size: metadata.len(),
                    used: metadata.modified()?,
                });
            }
        }
        Ok(files)
    }
}

struct KeptFile {
    path: PathBuf,
    size: u64,
    used: SystemTime,
}

/// Copies the file `from` to the new file `to`. Returns its size and its digest.
fn copy(from: &Path, to: &Path) -> io::Result<(u64, Sha256)> {
    let mut reader = Hashing::new(BufReader::new(File::open(from)?));
    io::copy(&mut reader, &mut File::create_new(to)?)?;
    Ok(reader.finish())
}

fn touch(path: &Path) -> io::Result<()> {
    File::options()
        .append(true)
        .open(path)?
        .set_modified(SystemTime::now())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    /// Streams of 100 bytes. Each was used a day after the one before.
    fn keep(kept: &Kept, names: &[&str]) {
        for (day, name) in (1..).zip(names) {
            let content = name.repeat(100);
            let stream = kept.dir.parent().unwrap().join(name);
            fs::write(&stream, &content).unwrap();
            let (key, sha256) = (Sha256::of(name.as_bytes()), Sha256::of(content.as_bytes()));
            kept.keep(&key, &stream, &sha256);
            let path = kept.dir.join(format!("{key}.{sha256}"));
            let used = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400 * day);
            let file = File::options().append(true).open(path).unwrap();
            file.set_modified(used).unwrap();
        }
    }

    fn has(kept: &Kept, name: &str) -> bool {
        let target = kept.dir.parent().unwrap().join("taken");
        drop(fs::remove_file(&target));
        kept.take(&Sha256::of(name.as_bytes()), &target).is_some()
    }

    #[test]
    fn the_streams_that_were_not_used_for_the_longest_time_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = Kept::of(&Cache::open(dir.path()).unwrap());
        kept.limit = 300;
        keep(&kept, &["a", "b", "c"]);
        // Now it was used last.
        assert!(has(&kept, "a"));
        keep(&kept, &["d"]);
        let left = ["a", "b", "c", "d"].map(|name| has(&kept, name));
        assert_eq!(left, [true, false, true, true]);
    }

    #[test]
    fn a_damaged_stream_is_not_used_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::of(&Cache::open(dir.path()).unwrap());
        keep(&kept, &["a"]);
        let (path, _) = kept.find(&Sha256::of(b"a")).remove(0);
        fs::write(&path, "b".repeat(100)).unwrap();
        assert!(!has(&kept, "a"));
        assert!(!path.exists());
        assert!(!dir.path().join("taken").exists());
    }
}
