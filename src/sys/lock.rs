//! One run at a time.

use std::fs::{File, OpenOptions};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::root::Root;

const DIRECTORY: &str = "/var/lib/appliance";
const LOCK_FILE: &str = "/var/lib/appliance/lock";

/// Held by the run that may change the machine; the kernel lets it go when the process ends, however it does.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock of the system at `root`, or says that another run has it.
    pub fn take(root: &Root) -> Result<Lock> {
        if !root.is_dir(DIRECTORY)? {
            root.create_dir(DIRECTORY, 0o755)?;
        }
        let path = root.resolve(LOCK_FILE)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("open {LOCK_FILE}"))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Lock { _file: file }),
            Err((_, Errno::EWOULDBLOCK)) => {
                bail!(
                    "another run of appliance is changing this machine ({LOCK_FILE}); wait for it to end"
                )
            }
            Err((_, error)) => Err(error).with_context(|| format!("lock {LOCK_FILE}")),
        }
    }
}
