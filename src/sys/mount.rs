//! What is mounted where.

use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use procfs::process::Process;

/// Does `work` on a thread that has mounts of its own. When the thread ends, or the whole program
/// is killed, the kernel unmounts by itself; no other process ever sees what was mounted.
///
/// # Errors
/// If the thread cannot have mounts of its own: this needs root. `work` is not done then.
pub fn with_own<T: Send>(work: impl FnOnce() -> T + Send) -> nix::Result<T> {
    let work = || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let nothing = None::<&str>;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(nothing, "/", nothing, private, nothing)?;
        Ok(work())
    };
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

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
