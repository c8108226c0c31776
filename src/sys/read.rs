//! Reads files that others wrote.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use nix::fcntl::OFlag;

/// The bytes of the regular file at `path`, at most `limit`; `None` if it does not exist. A device or
/// a pipe instead is refused without waiting.
///
/// # Errors
/// If it is something else or bigger, or cannot be read. Each names the path.
pub fn bounded(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let opened = File::options()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path);
    let place = || path.display().to_string();
    match opened {
        Ok(file) => regular(file, limit).with_context(place).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(place),
    }
}

/// The bytes of a file that is already open (without waiting: see `O_NONBLOCK`).
///
/// # Errors
/// As [`bounded`], without the path.
pub fn regular(file: File, limit: u64) -> Result<Vec<u8>> {
    let kind = file.metadata().context("cannot inspect it")?;
    ensure!(kind.is_file(), "not a regular file");
    let too_big = |size: u64| anyhow!("{size} bytes; at most {limit} are allowed");
    if kind.len() > limit {
        return Err(too_big(kind.len()));
    }
    let mut content = Vec::new();
    let read = file
        .take(limit + 1)
        .read_to_end(&mut content)
        .context("cannot read it")?;
    // A file of a virtual file system has content although its size is 0.
    if read as u64 > limit {
        return Err(too_big(limit + 1));
    }
    Ok(content)
}
