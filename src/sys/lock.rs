//! One run at a time changes the machine.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Error, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{major, minor};
use procfs::process::Process;
use procfs::{CurrentSI, KernelStats};
use time::OffsetDateTime;

use super::clock::moment;
use super::retry::{Failure, Schedule, permanent, retried, transient};
use super::root::Root;

/// How often a run that waits looks again.
const LOOK: Duration = Duration::from_secs(1);

/// The lock of the run that may change the machine. The kernel releases it when the process ends,
/// for any reason.
#[derive(Debug)]
pub struct Lock {
    _directory: Flock<File>,
}

/// How long to wait for another run to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Not at all.
    None,
    /// This long.
    For(Duration),
    /// Until it ends.
    Endless,
}

/// Another run has the lock.
#[derive(Debug)]
pub struct Busy {
    holder: String,
    /// Whether this run does not wait any longer.
    gave_up: bool,
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "another run of appliance is changing this machine ({})",
            self.holder
        )?;
        match self.gave_up {
            true => f.write_str("; wait until it ends, or run this again with `--wait`"),
            false => Ok(()),
        }
    }
}

impl std::error::Error for Busy {}

impl Lock {
    /// Locks the system at `root`. If another run has locked it, waits with `patience`, and says so; then fails
    /// with [`Busy`]. The lock is on the root directory itself, so that it writes nothing.
    pub fn take(root: &Root, patience: Patience) -> Result<Lock> {
        let path = root.resolve("/")?;
        let schedule = match patience {
            Patience::None => Schedule::ONCE,
            Patience::For(time) => Schedule::until(Instant::now() + time, LOOK),
            Patience::Endless => Schedule::endless(LOOK),
        };
        let outcome = retried("waiting", schedule, || attempt(&path));
        outcome.map_err(|failure| match failure.into_error().downcast::<Busy>() {
            Ok(busy) => Busy {
                gave_up: true,
                ..busy
            }
            .into(),
            Err(other) => other,
        })
    }
}

fn attempt(path: &Path) -> Result<Lock, Failure> {
    let failed = |error: Error| permanent(error.context(format!("cannot lock {}", path.display())));
    let directory = File::open(path).map_err(|error| failed(error.into()))?;
    match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
        Ok(directory) => Ok(Lock {
            _directory: directory,
        }),
        Err((_, Errno::EWOULDBLOCK)) => {
            let holder = holder(path).unwrap_or_else(|| "see `pgrep -a appliance`".to_owned());
            Err(transient(Busy {
                holder,
                gave_up: false,
            }))
        }
        Err((_, error)) => Err(failed(error.into())),
    }
}

/// The process that has locked the directory at `path`: its ID, its command, and since when it runs.
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
    let booted = KernelStats::current().ok()?.btime;
    let since = i64::try_from(booted + begun).ok()?;
    let since = OffsetDateTime::from_unix_timestamp(since).ok()?;
    Some(format!(
        "process {}, `{}`, since {}",
        process.pid,
        command.escape_debug(),
        moment(since)
    ))
}
