//! The config drive: a small disk or CD that OpenStack attaches, labelled `config-2`. It is read
//! without cloud-init and udev, through a private mount that no other process sees.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, bail};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use super::hardware::Hardware;
use super::model::Metadata;
use super::{Answer, directory};
use crate::language::tr;
use crate::sys::block::{LabelledDevice, UnreadableDevice, devices};
use crate::sys::host;
use crate::sys::mount::with_own;
use crate::sys::process::{Command, Runner, System};
use crate::sys::waiting::Waiting;

/// The label, in either case: FAT tools may write it in capitals.
const LABEL: &str = "config-2";
/// How long to wait for a drive that appears after this program has started.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause between two searches.
const PAUSE: Duration = Duration::from_millis(200);
/// Where a drive is mounted, in a private mount namespace. Every systemd machine has this
/// directory, so none must be created and removed.
const MOUNT_POINT: &str = "/run";

/// Reads this machine's config drive.
///
/// A device that cannot be read stops nothing: it is named once, in a warning and in the answer.
///
/// # Errors
/// If there are two drives, or if the drive cannot be mounted (this needs root) or does not have
/// OpenStack's files. Each error names the device.
pub fn read() -> Result<Answer> {
    let start = Instant::now();
    let mut waiting = None;
    let searched = search(&Hardware::default(), || {
        if waiting.is_some() {
            thread::sleep(PAUSE);
        } else {
            waiting = Some(Waiting::new(&tr!("a config drive"), Some(PATIENCE)));
            settle();
        }
        start.elapsed() < PATIENCE
    })?;
    drop(waiting);
    let unreadable = unreadable(&searched.unreadable);
    if let Some(unreadable) = &unreadable {
        log::warn!("{unreadable}");
    }
    if let Some(drive) = &searched.drive {
        return Ok(Answer::Found(Box::new(of_drive(drive)?)));
    }
    let missing = tr!("no block device is labelled {LABEL}", LABEL);
    Ok(Answer::Missing(match unreadable {
        Some(unreadable) => format!("{missing}; {unreadable}"),
        None => missing,
    }))
}

/// What to say about devices that cannot be read; `None` if there are none.
fn unreadable(devices: &[UnreadableDevice]) -> Option<String> {
    let named = |device: &UnreadableDevice| format!("{} ({})", device.path.display(), device.why);
    let all: Vec<String> = devices.iter().map(named).collect();
    let advice = match host::is_root() {
        true => tr!("look for the cause in `dmesg`"),
        false => tr!("run this as root to look there, too"),
    };
    (!all.is_empty()).then(|| {
        tr!(
            "cannot look for a config drive on {}; {advice}",
            all.join(", "),
            advice
        )
    })
}

/// Waits until udev has processed the devices that the kernel has found so far. A drive can appear
/// later, and a machine may have no udev: the searches that follow cover both.
fn settle() {
    let seconds = format!("--timeout={}", PATIENCE.as_secs());
    if let Err(error) = System.check(&Command::new("udevadm", &["settle", &seconds])) {
        log::debug!("{error:#}");
    }
}

/// As [`read`], on the given hardware. If an OpenStack VM shows no drive, `look_again` decides
/// whether to search once more, and may wait before: a drive can appear late.
///
/// # Errors
/// As [`read`].
pub fn find(hardware: &Hardware, look_again: impl FnMut() -> bool) -> Result<Option<Metadata>> {
    let drive = search(hardware, look_again)?.drive;
    drive.as_ref().map(of_drive).transpose()
}

/// The metadata on this drive.
fn of_drive(drive: &LabelledDevice) -> Result<Metadata> {
    let source = tr!("config drive {}", drive.path.display());
    let file_system = drive.file_system;
    with_mounted(&drive.path, file_system.name(), |root| {
        directory::read_drive(&source, root)
    })
    .map_err(|e| match e {
        Failure::Mount(Errno::ENODEV) => anyhow!(tr!(
            "{source}: this kernel cannot read {file_system}; run `modprobe {}`, or install \
                 the kernel package that has that module",
            file_system.module(),
            source,
            file_system
        )),
        Failure::Mount(Errno::EBUSY) => {
            let path = drive.path.display();
            anyhow!(tr!(
                "{source}: it is mounted for writing; run `umount {path}`",
                source,
                path
            ))
        }
        Failure::Mount(errno) => anyhow!(tr!(
            "{source}: cannot mount it as {file_system}: {errno}; look for the cause in `dmesg`",
            source,
            file_system,
            errno
        )),
        Failure::Namespace(Errno::EPERM) => {
            anyhow!(tr!(
                "{source}: only root can mount it; run this command as root",
                source
            ))
        }
        Failure::Namespace(errno) => {
            anyhow!(tr!(
                "{source}: cannot create a mount namespace to mount it in: {errno}",
                source,
                errno
            ))
        }
        Failure::Read(error) => error,
    })
}

/// What a search for a config drive found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Searched {
    /// The device with the label, if there is one.
    pub drive: Option<LabelledDevice>,
    /// The devices that cannot be read; a config drive may be among them.
    pub unreadable: Vec<UnreadableDevice>,
}

/// Searches all devices for the label; `look_again` as for [`find`].
///
/// # Errors
/// If there are two, or the devices cannot be listed.
pub fn search(hardware: &Hardware, mut look_again: impl FnMut() -> bool) -> Result<Searched> {
    let list = || devices(&hardware.sys.join("class/block"), &hardware.dev);
    loop {
        let found = list().context(tr!("cannot search for a config drive"))?;
        let mut drives = found.labelled;
        drives.retain(|device| device.label.eq_ignore_ascii_case(LABEL));
        if drives.len() > 1 {
            bail!(tr!(
                "found {} config drives, but only one is allowed: {}; detach the others, or copy \
                 openstack/latest of the right one into a directory DIR and add `--metadata-dir DIR`",
                drives.len(),
                names(&drives)
            ));
        }
        let drive = drives.pop();
        if drive.is_some() || !(hardware.is_openstack_guest() && look_again()) {
            return Ok(Searched {
                drive,
                unreadable: found.unreadable,
            });
        }
    }
}

fn names(drives: &[LabelledDevice]) -> String {
    let names: Vec<String> = drives
        .iter()
        .map(|d| {
            tr!(
                "{} ({}, label {})",
                d.path.display(),
                d.file_system,
                format_args!("{:?}", d.label)
            )
        })
        .collect();
    names.join(&tr!(" and "))
}

/// Where [`with_mounted`] failed.
enum Failure {
    /// Before the mount.
    Namespace(Errno),
    /// At the mount.
    Mount(Errno),
    /// After it.
    Read(Error),
}

/// Mounts the device read-only, passes the mount point to `read`, and leaves nothing behind.
fn with_mounted<T: Send>(
    device: &Path,
    file_system: &str,
    read: impl FnOnce(&Path) -> Result<T> + Send,
) -> Result<T, Failure> {
    let work = || {
        let flags =
            MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(
            Some(device),
            MOUNT_POINT,
            Some(file_system),
            flags,
            None::<&str>,
        )
        .map_err(Failure::Mount)?;
        read(Path::new(MOUNT_POINT)).map_err(Failure::Read)
    };
    with_own(work).map_err(Failure::Namespace)?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::fs;

    /// A machine without block devices, with this product name.
    fn machine(product_name: &str) -> (tempfile::TempDir, Hardware) {
        let dir = tempfile::tempdir().unwrap();
        let hardware = Hardware {
            sys: dir.path().join("sys"),
            dev: dir.path().join("dev"),
        };
        fs::create_dir_all(hardware.sys.join("class/block")).unwrap();
        fs::create_dir_all(hardware.sys.join("class/dmi/id")).unwrap();
        fs::create_dir_all(&hardware.dev).unwrap();
        fs::write(hardware.sys.join("class/dmi/id/product_name"), product_name).unwrap();
        (dir, hardware)
    }

    /// Adds a CD with that label.
    fn insert(hardware: &Hardware, name: &str, label: &str) {
        let mut image = vec![b' '; 40_000];
        image[32_768..32_775].copy_from_slice(b"\x01CD001\x01");
        image[32_808..32_808 + label.len()].copy_from_slice(label.as_bytes());
        fs::create_dir(hardware.sys.join("class/block").join(name)).unwrap();
        fs::write(hardware.dev.join(name), image).unwrap();
    }

    #[test]
    fn a_guest_waits_for_a_late_drive() {
        let (_dir, hardware) = machine("OpenStack Nova\n");
        let mut looks = 0;
        let searched = search(&hardware, || {
            looks += 1;
            if looks == 3 {
                insert(&hardware, "sr0", "config-2");
            }
            true
        });
        assert_eq!(
            searched.unwrap().drive.unwrap().path,
            hardware.dev.join("sr0")
        );
        assert_eq!(looks, 3);
    }

    #[test]
    fn a_guest_without_a_drive_stops_waiting() {
        let (_dir, hardware) = machine("OpenStack Compute\n");
        let mut looks = 0;
        let searched = search(&hardware, || {
            looks += 1;
            looks < 2
        });
        assert_eq!(searched.unwrap().drive, None);
        assert_eq!(looks, 2);
    }

    #[test]
    fn a_machine_that_is_no_guest_does_not_wait() {
        let (_dir, hardware) = machine("Standard PC (Q35 + ICH9, 2009)\n");
        assert_eq!(
            search(&hardware, || unreachable!("asked to wait")).unwrap(),
            Searched::default()
        );
    }

    #[test]
    fn two_drives_are_both_named() {
        let (_dir, hardware) = machine("");
        insert(&hardware, "sr0", "config-2");
        insert(&hardware, "sr1", "CONFIG-2");
        let error = search(&hardware, || false).unwrap_err().to_string();
        let expected = format!(
            "found 2 config drives, but only one is allowed: {0}/sr0 (iso9660, label \"config-2\") and {0}/sr1 (iso9660, label \"CONFIG-2\")",
            hardware.dev.display()
        );
        assert!(error.starts_with(&expected), "{error}");
        assert!(error.contains("--metadata-dir"), "{error}");
    }

    #[test]
    fn the_mount_is_safe_and_seen_by_no_one_else() {
        let name = format!("private-{}", std::process::id());
        let is_mounted = || {
            fs::read_to_string("/proc/self/mountinfo")
                .unwrap()
                .contains(&name)
        };
        let inside = with_mounted(Path::new(&name), "tmpfs", |root| {
            assert_eq!(fs::read_dir(root)?.count(), 0);
            assert!(!is_mounted(), "the mount spread to the rest of the program");
            Ok(fs::read_to_string("/proc/thread-self/mountinfo")?)
        });
        match inside {
            Ok(inside) => {
                let mount = inside.lines().find(|line| line.contains(&name)).unwrap();
                assert!(mount.contains(" /run ro,nosuid,nodev,noexec"), "{mount}");
            }
            Err(failure) => {
                assert!(!nix::unistd::geteuid().is_root());
                assert!(matches!(failure, Failure::Namespace(Errno::EPERM)));
            }
        }
    }
}
