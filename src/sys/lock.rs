//! One run at a time.

use std::fs::File;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

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
                bail!(
                    "another run of appliance is changing this machine; wait for it to end (`pgrep -a appliance` shows it)"
                )
            }
            Err((_, error)) => Err(error).with_context(place),
        }
    }
}
