//! Ends pods and unmounts their volumes when docker does not.

use std::ffi::OsStr;
use std::path::Path;
use std::{fs, io};

use anyhow::{Result, bail};
use nix::sys::signal::{Signal, kill as send};
use nix::unistd::Pid;

use crate::observe::removal::pod_processes;
use crate::sys::mount;
use crate::sys::process::{Command, Runner, TookTooLong, argument};

/// Kills every process in the control groups of pods.
pub fn kill() -> Result<()> {
    for id in pod_processes() {
        log::debug!("kill process {id} of a pod");
        // It may have ended by itself.
        let _ = send(Pid::from_raw(id), Signal::SIGKILL);
    }
    Ok(())
}

/// Removes the control groups of pods. One with a process stays, with a warning: it is gone after a boot.
pub fn remove_groups(runner: &dyn Runner, groups: &[String]) -> Result<()> {
    for group in groups {
        let path = Path::new(group);
        let slice = path.file_name().and_then(OsStr::to_str);
        let slice = slice.filter(|name| name.ends_with(".slice"));
        // systemd keeps a slice that the kubelet asked for.
        if let Some(slice) = slice {
            runner.run(&Command::new("systemctl", &["stop", slice]))?;
        }
        if let Err(error) = remove_group(path) {
            log::warn!("cannot remove the control group {group}: {error}");
        }
    }
    Ok(())
}

/// Removes a control group and those below it. What else is in its directory belongs to the kernel.
fn remove_group(group: &Path) -> io::Result<()> {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path())?;
        }
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Unmounts everything below a directory, the newest mount first.
pub fn unmount_below(runner: &dyn Runner, dir: &Path) -> Result<()> {
    for mounted in mount::below(dir)? {
        unmount(runner, &mounted)?;
    }
    Ok(())
}

/// Unmounts one mount. If the server of a network file system does not answer, the mount is detached.
///
/// # Errors
/// If it is in use. The error names the processes.
pub fn unmount(runner: &dyn Runner, point: &Path) -> Result<()> {
    if !mount::points()?.contains(point) {
        return Ok(());
    }
    let path = argument(point)?;
    match runner.check(&Command::new("umount", &["--", path])) {
        Ok(_) => Ok(()),
        Err(error) if error.is::<TookTooLong>() => {
            log::warn!("{error:#}; detaching it");
            let detach = Command::new("umount", &["--lazy", "--", path]);
            runner.check(&detach).map(drop)
        }
        Err(error) => {
            let users = mount::users(point);
            if users.is_empty() {
                return Err(error);
            }
            bail!(
                "{path} is in use by {}; end this, and run `appliance reset` again",
                users.join(", ")
            )
        }
    }
}
