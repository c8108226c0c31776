//! One run at a time.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{major, minor};
use procfs::Current;
use procfs::process::Process;

use super::root::Root;

/// The lock of the run that may change the machine. The kernel releases it when the process ends,
/// for any reason.
#[derive(Debug)]
pub struct Lock {
    _directory: Flock<File>,
}

impl Lock {
    /// Locks the system at `root`. Fails if another run has locked it. The lock is on the root
    /// directory itself, so that it writes nothing.
    pub fn take(root: &Root) -> Result<Lock> {
        let path = root.resolve("/")?;
        let place = || format!("cannot lock {}", path.display());
        let directory = File::open(&path).with_context(place)?;
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(directory) => Ok(Lock {
                _directory: directory,
            }),
            Err((_, Errno::EWOULDBLOCK)) => {
                let who = holder(&path).unwrap_or_else(|| "see `pgrep -a appliance`".to_owned());
                bail!(
                    "another run of appliance is changing this machine ({who}); wait for it to end, and run \
                     this again"
                )
            }
            Err((_, error)) => Err(error).with_context(place),
        }
    }
}

/// The process that has locked the directory at `path`: its ID, its command, and for how long it has run.
/// `None` if the kernel does not show it, for example to a container.
fn holder(path: &Path) -> Option<String> {
    let own = fs::metadata(path).ok()?;
    let place = (major(own.dev()), minor(own.dev()), own.ino());
    let locks = procfs::locks().ok()?;
    let lock = locks.iter().find(|lock| {
        let at = (u64::from(lock.devmaj), u64::from(lock.devmin), lock.inode);
        at == place
    })?;
    let process = Process::new(lock.pid?).ok()?;
    let command = process.cmdline().ok()?.join(" ");
    let begun = process.stat().ok()?.starttime / procfs::ticks_per_second();
    let up = procfs::Uptime::current().ok()?.uptime_duration().as_secs();
    Some(format!(
        "process {}, `{}`, since {} s",
        process.pid,
        command.escape_debug(),
        up.saturating_sub(begun)
    ))
}
