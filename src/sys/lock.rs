//! One run at a time changes the machine.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::stat::{major, minor};
use nix::unistd::geteuid;
use procfs::process::Process;
use procfs::{CurrentSI, KernelStats};
use time::OffsetDateTime;

use crate::language::tr;

use super::clock::moment;
use super::retry::{Failure, Schedule, permanent, retried, transient};
use super::root::Root;
use super::waiting::Waiting;

/// How often a run that waits looks again.
const LOOK: Duration = Duration::from_secs(1);

/// The directory of the lock files of root. Nobody else can open it, and so nobody else can hold a lock: whoever
/// may open a file, even read-only, can lock it. It exists while a run has a lock.
const LOCKS: &str = "/run/appliance-locks";

/// What a run waits for that finds the machine locked.
const OTHER_RUN: &str = "another run of appliance to end";

/// The longest part of a command that a message shows, in characters.
const MOST_SHOWN: usize = 200;

/// The lock of the run that may change the machine. The kernel releases it when the process ends,
/// for any reason.
#[derive(Debug)]
pub struct Lock {
    _held: Flock<File>,
    /// The lock file, which this run removes.
    file: Option<PathBuf>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Only the run with the lock removes the file. If it cannot, the empty file hinders nobody. The directory stays
        // while another run has a file there.
        if let Some(file) = &self.file {
            let _ = fs::remove_file(file);
            let _ = file.parent().map(fs::remove_dir);
        }
    }
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
    /// with [`Busy`]. It writes nothing below `root`: root locks a file in `/run/appliance-locks`, whose name is
    /// the device and the inode of `root`. Another user, who cannot write there, locks the directory `root`
    /// itself.
    pub fn take(root: &Root, patience: Patience) -> Result<Lock> {
        let dir = root.resolve("/")?;
        let file = lock_file(&dir).with_context(|| format!("cannot lock {}", dir.display()))?;
        let schedule = match patience {
            Patience::None => Schedule::ONCE,
            Patience::For(time) => Schedule::until(Instant::now() + time, LOOK),
            Patience::Endless => Schedule::endless(LOOK),
        };
        let _waiting = match patience {
            Patience::None => None,
            Patience::For(time) => Some(Waiting::new(OTHER_RUN, Some(time))),
            Patience::Endless => Some(Waiting::new(OTHER_RUN, None)),
        };
        let outcome = retried("waiting", schedule, || match &file {
            Some(file) => attempt(file, true),
            None => attempt(&dir, false),
        });
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

/// The path of the lock file for the system at `dir`, if this is root. `None` also for a system without `/run`, as
/// in a bare chroot, where nobody else is.
fn lock_file(dir: &Path) -> io::Result<Option<PathBuf>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let own = fs::metadata(dir)?;
    let name = format!("{}-{}-{}", major(own.dev()), minor(own.dev()), own.ino());
    let locks = Path::new(LOCKS);
    let has_run = locks.parent().is_some_and(Path::is_dir);
    Ok(has_run.then(|| locks.join(name)))
}

/// Makes the directory of a lock file, which only its owner can open.
fn make_directory(file: &Path) -> io::Result<()> {
    let dir = file.parent().unwrap_or(file);
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Locks what is at `path`: a lock file, which it makes if there is none, or else a directory.
fn attempt(path: &Path, is_lock_file: bool) -> Result<Lock, Failure> {
    let failed = |error: Error| permanent(error.context(format!("cannot lock {}", path.display())));
    let mut options = File::options();
    options.read(true).mode(0o600);
    options.write(is_lock_file).create(is_lock_file);
    options.custom_flags(OFlag::O_NOFOLLOW.bits());
    loop {
        if is_lock_file {
            make_directory(path).map_err(|error| failed(error.into()))?;
        }
        let open = match options.open(path) {
            // A run that ended has removed the directory.
            Err(error) if is_lock_file && error.kind() == io::ErrorKind::NotFound => continue,
            open => open.map_err(|error| failed(error.into()))?,
        };
        match Flock::lock(open, FlockArg::LockExclusiveNonblock) {
            Ok(held) if is_at(&held, path).map_err(|error| failed(error.into()))? => {
                return Ok(Lock {
                    _held: held,
                    file: is_lock_file.then(|| path.to_owned()),
                });
            }
            // The run that had it has ended and removed the file.
            Ok(_) => {}
            Err((_, Errno::EWOULDBLOCK)) => {
                let holder = holder(path).map(|holder| holder.to_string());
                let holder = holder.unwrap_or_else(|| "see `pgrep -a appliance`".to_owned());
                return Err(transient(Busy {
                    holder,
                    gave_up: false,
                }));
            }
            Err((_, error)) => return Err(failed(error.into())),
        }
    }
}

/// Whether the open file, or directory, is the one at `path`.
pub(super) fn is_at(open: &File, path: &Path) -> io::Result<bool> {
    let open = open.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The run that is changing a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The ID of its process.
    pub process: i32,
    /// Its command line.
    pub command: String,
    /// When it began.
    pub since: OffsetDateTime,
    /// What it does now, if it said so and this is root.
    pub step: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (process, command) = (self.process, self.command.escape_debug());
        let since = moment(self.since);
        f.write_str(&tr!(
            "process {process}, `{command}`, since {since}",
            process,
            command,
            since
        ))?;
        match &self.step {
            Some(step) => f.write_str(&tr!(", now: {}", step.escape_debug())),
            None => Ok(()),
        }
    }
}

impl Holder {
    /// The run that is changing the system at `root`; `None` if there is none, or if the kernel does not show it, for
    /// example to a container. Who is not root may not look at the lock file: for them, it is any run of this program
    /// that has a lock.
    pub fn of(root: &Root) -> Option<Holder> {
        let dir = root.resolve("/").ok()?;
        match lock_file(&dir).ok()? {
            Some(file) => holder(&file),
            None => any_holder(),
        }
    }

    fn process(id: i32, step: Option<String>) -> Option<Holder> {
        let process = Process::new(id).ok()?;
        let command = process.cmdline().ok()?.join(" ");
        let begun = process.stat().ok()?.starttime / procfs::ticks_per_second();
        let booted = KernelStats::current().ok()?.btime;
        let since = i64::try_from(booted + begun).ok()?;
        Some(Holder {
            process: id,
            command: command.chars().take(MOST_SHOWN).collect(),
            since: OffsetDateTime::from_unix_timestamp(since).ok()?,
            step,
        })
    }
}

/// Notes what the run does that has locked the system at `root`, for those who look at it. Only the run with the lock
/// may call this. Where it cannot be noted, nobody misses it.
pub fn note(root: &Root, step: &str) {
    let file = root.resolve("/").ok().and_then(|dir| lock_file(&dir).ok()?);
    if let Some(file) = file.filter(|file| file.exists()) {
        let step: String = step.chars().take(MOST_SHOWN).collect();
        drop(fs::write(file, step));
    }
}

/// The process that has locked what is at `path`.
fn holder(path: &Path) -> Option<Holder> {
    let own = fs::metadata(path).ok()?;
    let place = (major(own.dev()), minor(own.dev()), own.ino());
    let locks = procfs::locks().ok()?;
    let lock = locks.iter().find(|lock| {
        let at = (u64::from(lock.devmaj), u64::from(lock.devmin), lock.inode);
        at == place
    })?;
    let step = fs::read_to_string(path).ok().filter(|_| own.is_file());
    Holder::process(lock.pid?, step.filter(|step| !step.is_empty()))
}

/// A process of this program that has locked any file.
fn any_holder() -> Option<Holder> {
    let own = std::env::current_exe().ok()?;
    let name = own.file_name()?.to_string_lossy().into_owned();
    let is_own = |id: &i32| {
        let stat = Process::new(*id).and_then(|process| process.stat());
        stat.is_ok_and(|stat| name.starts_with(&stat.comm))
    };
    let locks = procfs::locks().ok()?;
    let mut holders = locks.iter().filter_map(|lock| lock.pid);
    Holder::process(holders.find(is_own)?, None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::super::root::tests::root;
    use super::*;

    #[test]
    fn a_user_who_locks_the_root_directory_stops_nobody() {
        if !geteuid().is_root() {
            return;
        }
        let (dir, root) = root();
        let anybody = File::open(dir.path()).unwrap();
        let _theirs = Flock::lock(anybody, FlockArg::LockExclusiveNonblock).unwrap();
        let held = Lock::take(&root, Patience::None).unwrap();
        let file = held.file.clone().unwrap();
        let of = |path: &Path| fs::metadata(path).unwrap();
        assert_eq!(of(&file).permissions().mode() & 0o777, 0o600);
        let locks = of(Path::new(LOCKS));
        assert_eq!(
            (locks.permissions().mode() & 0o777, locks.uid()),
            (0o700, 0)
        );
        // One who looks makes nothing.
        assert!(Holder::of(&root).is_some());
        drop(held);
        assert!(!file.exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_run_that_opened_a_removed_lock_file_locks_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = attempt(&path, true).unwrap();
        let late = File::open(&path).unwrap();
        drop(first);
        assert!(!is_at(&late, &path).unwrap());
        let second = attempt(&path, true).unwrap();
        assert!(!is_at(&late, &path).unwrap());
        assert!(is_at(&second._held, &path).unwrap());
        assert!(attempt(&path, true).is_err());
    }

    #[test]
    fn one_run_at_a_time_locks_a_root() {
        let (_dir, root) = root();
        let held = Lock::take(&root, Patience::None).unwrap();
        let busy = Lock::take(&root, Patience::None).unwrap_err();
        let own = format!("process {}, `", std::process::id());
        assert!(busy.to_string().contains(&own), "{busy}");
        drop(held);
        Lock::take(&root, Patience::None).unwrap();
    }
}
