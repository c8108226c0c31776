//! Private mounts, and the list of mounts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use procfs::process::{FDTarget, MMapPath, MountInfo, Process};

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

/// Whether the directory `dir` is mounted onto itself, and nothing else is mounted there.
pub fn is_onto_itself(dir: &Path) -> Result<bool> {
    Ok(onto_itself(&infos()?, dir))
}

fn onto_itself(mounts: &[MountInfo], dir: &Path) -> bool {
    let mut here = mounts.iter().filter(|mount| mount.mount_point == dir);
    let (Some(mount), None) = (here.next(), here.next()) else {
        return false;
    };
    let parent = mounts.iter().find(|parent| parent.mnt_id == mount.pid);
    parent.is_some_and(|parent| {
        let within = dir.strip_prefix(&parent.mount_point);
        let same = within
            .is_ok_and(|within| Path::new(&parent.root).join(within) == Path::new(&mount.root));
        same && parent.majmin == mount.majmin
    })
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
    Ok(infos()?.into_iter().map(|mount| mount.mount_point))
}

fn infos() -> Result<Vec<MountInfo>> {
    let mounts = Process::myself().and_then(|own| own.mountinfo());
    let mounts = mounts.context("cannot read the list of mounts")?;
    Ok(mounts.into_iter().collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_directory_that_is_mounted_onto_itself_is_told_from_a_volume() {
        const DIR: &str = "/var/lib/kubelet";
        let root = "21 1 8:1 / / rw - ext4 /dev/vda1 rw";
        let var = "22 21 8:2 /data /var rw - ext4 /dev/vda2 rw";
        for (mounts, expected) in [
            (&[root][..], false),
            (
                &[
                    root,
                    "30 21 8:1 /var/lib/kubelet /var/lib/kubelet rw shared:1 - ext4 /dev/vda1 rw",
                ],
                true,
            ),
            (
                &[
                    root,
                    var,
                    "30 22 8:2 /data/lib/kubelet /var/lib/kubelet rw - ext4 /dev/vda2 rw",
                ],
                true,
            ),
            (
                &[
                    root,
                    "30 21 8:1 /data/kubelet /var/lib/kubelet rw - ext4 /dev/vda1 rw",
                ],
                false,
            ),
            (
                &[root, "30 21 8:3 / /var/lib/kubelet rw - ext4 /dev/vdb rw"],
                false,
            ),
            (
                &[
                    root,
                    "30 21 8:3 /var/lib/kubelet /var/lib/kubelet rw - ext4 /dev/vdb rw",
                ],
                false,
            ),
        ] {
            let infos: Vec<MountInfo> = mounts
                .iter()
                .map(|line| MountInfo::from_line(line).unwrap())
                .collect();
            assert_eq!(onto_itself(&infos, Path::new(DIR)), expected, "{mounts:?}");
        }
    }
}
