//! Private mounts, and the list of mounts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use procfs::process::{FDTarget, MMapPath, Process};

/// The longest part of a command that a message shows, in characters.
const MOST_SHOWN: usize = 200;

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

/// The processes that use the file system mounted at `point`, each as its ID and its command: what they opened, map,
/// run, or work in is on it.
pub fn users(point: &Path) -> Vec<String> {
    let all = procfs::process::all_processes().into_iter().flatten();
    let all = all.flatten().filter(|process| uses(process, point));
    let told = |process: Process| {
        let command = process.cmdline().unwrap_or_default().join(" ");
        let command: String = command.chars().take(MOST_SHOWN).collect();
        format!("process {} (`{}`)", process.pid, command.escape_debug())
    };
    all.map(told).collect()
}

fn uses(process: &Process, point: &Path) -> bool {
    let is_below = |path: &Path| path.starts_with(point);
    let mut places = [process.cwd(), process.root(), process.exe()]
        .into_iter()
        .flatten();
    let open = || {
        let mut open = process.fd().into_iter().flatten().flatten();
        open.any(|open| matches!(open.target, FDTarget::Path(path) if is_below(&path)))
    };
    let maps = || {
        let mut maps = process.maps().into_iter().flatten();
        maps.any(|map| matches!(map.pathname, MMapPath::Path(path) if is_below(&path)))
    };
    places.any(|path| is_below(&path)) || open() || maps()
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
