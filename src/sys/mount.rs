//! What is mounted where.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use procfs::process::Process;

/// Everything that is mounted below the directory `dir`, what was mounted last first.
pub fn below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mounts = Process::myself()
        .and_then(|own| own.mountinfo())
        .context("read what is mounted")?;
    let points = mounts.into_iter().map(|mount| mount.mount_point);
    let mut below: Vec<PathBuf> = points
        .filter(|point| point.starts_with(dir) && point != dir)
        .collect();
    below.reverse();
    Ok(below)
}
