//! Private mounts, and the list of mounts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use procfs::process::Process;

/// Runs `work` on a thread with a separate mount namespace. The kernel unmounts everything when the
/// thread ends or the program is killed; no other process sees these mounts.
///
/// # Errors
/// If there is no thread, or it cannot get its own mount namespace, which needs root. Then `work` does not run.
pub fn with_own<T: Send>(work: impl FnOnce() -> T + Send) -> nix::Result<T> {
    let work = || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let nothing = None::<&str>;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(nothing, "/", nothing, private, nothing)?;
        Ok(work())
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, work);
        match thread.map_err(|_| Errno::EAGAIN)?.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// All mounts below the directory `dir`, the newest first.
pub fn below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut below: Vec<PathBuf> = all()?
        .filter(|point| point.starts_with(dir) && point != dir)
        .collect();
    below.reverse();
    Ok(below)
}

/// All mount points.
pub fn points() -> Result<BTreeSet<PathBuf>> {
    Ok(all()?.collect())
}

fn all() -> Result<impl Iterator<Item = PathBuf>> {
    let mounts = Process::myself()
        .and_then(|own| own.mountinfo())
        .context("cannot read the list of mounts")?;
    Ok(mounts.into_iter().map(|mount| mount.mount_point))
}
