//! Ways to get at the file systems inside an image, and always out again.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MntFlags, umount2};

use super::partitions::{self, Part};
use crate::nodespec::Refused;
use crate::sys::process::{Command, Runner, System, argument};

/// How long the kernel may take to see a disk, or a program to let one go. It bounds what hangs.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks.
const POLL: Duration = Duration::from_millis(50);
/// The most devices that are tried.
const DEVICES: usize = 64;
/// Nothing in an image is run here, and its devices are not ours.
const OPTIONS: &str = "nodev,nosuid,noexec";

/// A way to attach an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// qemu-nbd and the kernel's network block devices.
    Nbd,
    /// The kernel's loop devices.
    Loop,
    /// libguestfs: the image's file systems are read in a VM of its own.
    Guestfs,
}

impl Means {
    /// The format the copy has to have.
    pub fn format(self) -> &'static str {
        match self {
            Means::Loop => "raw",
            Means::Nbd | Means::Guestfs => "qcow2",
        }
    }
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Means::Nbd => "nbd",
            Means::Loop => "loop",
            Means::Guestfs => "libguestfs",
        })
    }
}

impl FromStr for Means {
    type Err = String;

    fn from_str(text: &str) -> Result<Means, String> {
        let all = [Means::Nbd, Means::Loop, Means::Guestfs];
        let found = all.into_iter().find(|means| means.to_string() == text);
        found.ok_or_else(|| "expected nbd, loop or libguestfs".to_owned())
    }
}

/// What the machine has of each.
pub struct Machine<'a> {
    /// What runs programs.
    pub runner: &'a dyn Runner,
    /// `/sys/class/block`.
    pub sys_class_block: &'a Path,
    /// `/dev`.
    pub dev: &'a Path,
}

impl Machine<'_> {
    /// The way that was asked for, or the best there is: nbd writes into the copy itself, loop takes
    /// a raw one, and libguestfs starts a VM for it.
    ///
    /// # Errors
    /// A [`Refused`] if it, or every one, is missing here; it says what each lacks.
    pub fn choose(&self, asked: Option<Means>) -> Result<Means> {
        let all = [Means::Nbd, Means::Loop, Means::Guestfs];
        let mut lacks = Vec::new();
        for means in all
            .into_iter()
            .filter(|means| asked.is_none_or(|a| a == *means))
        {
            match self.lack(means) {
                None => return Ok(means),
                Some(why) => lacks.push(format!("{means}: {why}")),
            }
        }
        let problems = lacks
            .into_iter()
            .map(|lack| format!("the image cannot be attached by {lack}"))
            .collect();
        Err(Refused { problems }.into())
    }

    /// What it lacks for that way; `None` if nothing.
    fn lack(&self, means: Means) -> Option<String> {
        let has = |program: &str| {
            let version = Command::new(program, &["--version"]);
            self.runner
                .run(&version)
                .is_ok_and(|output| output.success())
        };
        match means {
            Means::Nbd if !has("qemu-nbd") => {
                Some("qemu-nbd is missing (Debian package qemu-utils)".to_owned())
            }
            Means::Nbd if !self.has_nbd() => Some("this kernel has no module nbd".to_owned()),
            Means::Loop if !self.dev.join("loop-control").exists() => {
                Some("this kernel has no loop devices (modprobe loop)".to_owned())
            }
            Means::Guestfs if !has("guestmount") => {
                Some("guestmount is missing (Debian package libguestfs-tools)".to_owned())
            }
            _ => None,
        }
    }

    fn has_nbd(&self) -> bool {
        let there = || self.sys_class_block.join("nbd0").exists();
        there() || {
            let load = Command::new("modprobe", &["nbd"]);
            self.runner.run(&load).is_ok_and(|output| output.success()) && there()
        }
    }

    /// Attaches the disk in the file `copy` by that way.
    pub fn attach(&self, means: Means, copy: &Path) -> Result<Disk> {
        let path = argument(copy)?;
        match means {
            Means::Loop => Ok(Disk::new(means, path)),
            Means::Guestfs => Ok(Disk::new(means, path)),
            Means::Nbd => self.connect(path),
        }
    }

    /// Connects the first network block device that is free.
    fn connect(&self, path: &str) -> Result<Disk> {
        let mut said = "none is free".to_owned();
        for number in 0..DEVICES {
            let entry = self.sys_class_block.join(format!("nbd{number}"));
            if !entry.exists() {
                break;
            }
            if entry.join("pid").exists() {
                continue;
            }
            let device = self.dev.join(format!("nbd{number}"));
            let device = argument(&device)?;
            let to = format!("--connect={device}");
            let connect = ["--format=qcow2", "--discard=unmap", &to, path];
            let output = self.runner.run(&Command::new("qemu-nbd", &connect))?;
            if output.success() {
                let mut disk = Disk::new(Means::Nbd, device);
                disk.is_connected = true;
                wait("the kernel sees the disk", || size_of(&entry) > 0)?;
                return Ok(disk);
            }
            // Another run may have taken it since.
            said = output.stderr.trim().to_owned();
        }
        bail!("no network block device can be connected: {said}")
    }
}

fn size_of(entry: &Path) -> u64 {
    let size = std::fs::read_to_string(entry.join("size")).unwrap_or_default();
    size.trim().parse().unwrap_or(0)
}

/// A disk that is attached. Dropping it detaches it.
#[derive(Debug)]
pub struct Disk {
    means: Means,
    /// The device, or the file where there is none.
    path: String,
    is_connected: bool,
}

impl Disk {
    fn new(means: Means, path: &str) -> Disk {
        Disk {
            means,
            path: path.to_owned(),
            is_connected: false,
        }
    }

    /// Mounts its Linux root file system at `dir`.
    ///
    /// # Errors
    /// A [`Refused`] if there is none; it names every part of the disk and what is there instead.
    pub fn mount(&self, runner: &dyn Runner, dir: &Path) -> Result<Mounted> {
        if self.means == Means::Guestfs {
            return self.mount_guestfs(runner, dir);
        }
        let mut seen = Vec::new();
        for part in partitions::of(runner, &self.path)? {
            match self.mount_part(runner, &part, dir, "ro") {
                Ok(mounted) if mounted.is_linux() => {
                    mounted.unmount()?;
                    return self.mount_part(runner, &part, dir, "rw");
                }
                Ok(mounted) => {
                    mounted.unmount()?;
                    seen.push(format!("{part} has no /etc/os-release"));
                }
                Err(error) => seen.push(format!("{part}: {error:#}")),
            }
        }
        let problem = format!(
            "the base image has no Linux root file system that can be mounted here ({}); give a \
             distribution's cloud image",
            seen.join("; ")
        );
        Err(Refused {
            problems: vec![problem],
        }
        .into())
    }

    fn mount_part(
        &self,
        runner: &dyn Runner,
        part: &Part,
        dir: &Path,
        mode: &str,
    ) -> Result<Mounted> {
        let mut options = format!("loop,{mode},{OPTIONS},offset={}", part.start);
        if let Some(size) = part.size {
            options += &format!(",sizelimit={size}");
        }
        let mount = ["-o", &options, "--", &self.path, argument(dir)?];
        runner.check(&Command::new("mount", &mount))?;
        Ok(Mounted::new(dir, None))
    }

    fn mount_guestfs(&self, runner: &dyn Runner, dir: &Path) -> Result<Mounted> {
        let pid_file = dir.with_extension("pid");
        let by = format!("--pid-file={}", argument(&pid_file)?);
        let format = format!("--format={}", self.means.format());
        let mount = [
            &format,
            "--add",
            &self.path,
            "--inspector",
            "--rw",
            &by,
            "--",
            argument(dir)?,
        ];
        let output = runner.run(&Command::new("guestmount", &mount))?;
        if !output.success() {
            let problem = format!(
                "libguestfs finds no Linux root file system in the base image ({}); give a \
                 distribution's cloud image",
                output.stderr.trim()
            );
            return Err(Refused {
                problems: vec![problem],
            }
            .into());
        }
        let pid = std::fs::read_to_string(&pid_file).context("the process of guestmount")?;
        Ok(Mounted::new(dir, Some(pid.trim().to_owned())))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if !self.is_connected {
            return;
        }
        // Also where this run was told to end: so not by its own runner.
        let disconnect = Command::new("qemu-nbd", &["--disconnect", &self.path]);
        if let Err(error) = System.check(&disconnect) {
            log::error!("{error:#}; do it by hand");
        }
    }
}

/// A root file system that is mounted. Dropping it unmounts it.
#[derive(Debug)]
pub struct Mounted {
    dir: PathBuf,
    /// The process of guestmount, if that has mounted it.
    guestfs: Option<String>,
    is_mounted: bool,
}

impl Mounted {
    fn new(dir: &Path, guestfs: Option<String>) -> Mounted {
        Mounted {
            dir: dir.to_owned(),
            guestfs,
            is_mounted: true,
        }
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn is_linux(&self) -> bool {
        // A link to the other is common, and does not lead anywhere from here.
        ["etc/os-release", "usr/lib/os-release"]
            .iter()
            .any(|path| self.dir.join(path).symlink_metadata().is_ok())
    }

    /// Writes out what is still to be written, and unmounts it.
    pub fn unmount(mut self) -> Result<()> {
        self.leave()
    }

    fn leave(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_mounted) {
            return Ok(());
        }
        let Some(pid) = &self.guestfs else {
            return umount2(&self.dir, MntFlags::empty())
                .with_context(|| format!("unmount {}", self.dir.display()));
        };
        System.check(&Command::new("guestunmount", &[argument(&self.dir)?]))?;
        // Only when its process has ended is everything written.
        let process = Path::new("/proc").join(pid);
        wait("guestmount ends", || !process.exists())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = self.leave() {
            log::warn!("{error:#}");
        }
    }
}

fn wait(what: &str, is_so: impl Fn() -> bool) -> Result<()> {
    let start = Instant::now();
    while !is_so() {
        ensure!(
            start.elapsed() < LIMIT,
            "not within {} s: {what}",
            LIMIT.as_secs()
        );
        std::thread::sleep(POLL);
    }
    Ok(())
}
