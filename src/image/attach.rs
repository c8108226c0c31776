//! Attaches an image to reach its file systems, and always detaches it again.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MntFlags, umount2};

use super::partitions::{self, Part};
use crate::language::tr;
use crate::nodespec::Refused;
use crate::sys::process::{Command, Runner, System, argument};

/// How long the kernel may take to see a disk, or a program to release one.
const LIMIT: Duration = Duration::from_secs(60);
/// The pause between two checks.
const POLL: Duration = Duration::from_millis(50);
/// How many devices to try at most.
const DEVICES: usize = 64;
/// Mount options: programs and devices of an image must not be used here.
const OPTIONS: &str = "nodev,nosuid,noexec";

/// A way to attach an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// qemu-nbd and the kernel's network block devices.
    Nbd,
    /// The kernel's loop devices.
    Loop,
    /// libguestfs: it reads the image's file systems in its own VM.
    Guestfs,
}

impl Means {
    /// The required format of the copy.
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
        found.ok_or_else(|| tr!("expected nbd, loop or libguestfs"))
    }
}

/// Finds out which ways this machine supports.
pub struct Machine<'a> {
    /// How to run programs.
    pub runner: &'a dyn Runner,
    /// `/sys/class/block`.
    pub sys_class_block: &'a Path,
    /// `/dev`.
    pub dev: &'a Path,
}

impl Machine<'_> {
    /// The requested way, or the best one that this machine supports: nbd writes into the copy
    /// directly, loop needs a raw copy, and libguestfs starts a VM.
    ///
    /// # Errors
    /// A [`Refused`] if this machine does not support it, or supports none; it says what is missing
    /// for each.
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
            .map(|lack| tr!("the image cannot be attached by {lack}", lack))
            .collect();
        Err(Refused { problems }.into())
    }

    /// What is missing for this way; `None` if nothing.
    fn lack(&self, means: Means) -> Option<String> {
        let has = |program: &str| {
            let version = Command::new(program, &["--version"]);
            self.runner
                .run(&version)
                .is_ok_and(|output| output.success())
        };
        match means {
            Means::Nbd if !has("qemu-nbd") => {
                Some(tr!("qemu-nbd is missing (apt-get install qemu-utils)"))
            }
            Means::Nbd if !self.has_nbd() => {
                Some(tr!("this kernel has no module nbd (modprobe nbd)"))
            }
            Means::Loop if !self.dev.join("loop-control").exists() => {
                Some(tr!("this kernel has no loop devices (modprobe loop)"))
            }
            Means::Guestfs if !has("guestmount") => Some(tr!(
                "guestmount is missing (apt-get install libguestfs-tools)"
            )),
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

    /// Attaches the disk in the file `copy` in this way.
    pub fn attach(&self, means: Means, copy: &Path) -> Result<Disk> {
        let path = argument(copy)?;
        match means {
            Means::Loop => Ok(Disk::new(means, path)),
            Means::Guestfs => Ok(Disk::new(means, path)),
            Means::Nbd => self.connect(path),
        }
    }

    /// Connects the first free network block device.
    fn connect(&self, path: &str) -> Result<Disk> {
        let mut said = tr!("all are in use");
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
                wait("the kernel did not find the disk", || size_of(&entry) > 0)?;
                return Ok(disk);
            }
            // Another process may have taken the device in the meantime.
            said = output.stderr.trim().to_owned();
        }
        bail!(tr!(
            "cannot connect a network block device (/dev/nbd*): {said}; disconnect one with \
             `qemu-nbd --disconnect /dev/nbd0`, or use `--attach loop`",
            said
        ))
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
    /// The device, or the file if the image has no device.
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
    /// A [`Refused`] if there is none; it names every part of the disk and why it is not one.
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
                    seen.push(tr!("{part} has no /etc/os-release", part));
                }
                Err(error) => seen.push(format!("{part}: {error:#}")),
            }
        }
        let problem = tr!(
            "no Linux root file system in the base image can be mounted here ({}); use a \
             distribution's cloud image as `--base`",
            seen.join("; ")
        );
        Err(Refused::new(problem).into())
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
            let problem = tr!(
                "libguestfs finds no Linux root file system in the base image ({}); use a \
                 distribution's cloud image as `--base`",
                output.stderr.trim()
            );
            return Err(Refused::new(problem).into());
        }
        let pid = std::fs::read_to_string(&pid_file)
            .with_context(|| tr!("cannot read {}", pid_file.display()))?;
        Ok(Mounted::new(dir, Some(pid.trim().to_owned())))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if !self.is_connected {
            return;
        }
        // This has to work after an interruption too, so it does not use the runner of this run.
        let disconnect = Command::new("qemu-nbd", &["--disconnect", &self.path]);
        if let Err(error) = System.check(&disconnect) {
            log::error!(
                "cannot detach the image ({error:#}); run `qemu-nbd --disconnect {}`",
                self.path
            );
        }
    }
}

/// A root file system that is mounted. Dropping it unmounts it.
#[derive(Debug)]
pub struct Mounted {
    dir: PathBuf,
    /// The process of guestmount, if guestmount mounted it.
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

    /// The directory where it is mounted.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn is_linux(&self) -> bool {
        // It is often a link to the other file, which does not resolve here.
        ["etc/os-release", "usr/lib/os-release"]
            .iter()
            .any(|path| self.dir.join(path).symlink_metadata().is_ok())
    }

    /// Writes all pending data, and unmounts it.
    pub fn unmount(mut self) -> Result<()> {
        self.leave()
    }

    fn leave(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_mounted) {
            return Ok(());
        }
        let Some(pid) = &self.guestfs else {
            return umount2(&self.dir, MntFlags::empty())
                .with_context(|| tr!("cannot unmount {}", self.dir.display()));
        };
        System.check(&Command::new("guestunmount", &[argument(&self.dir)?]))?;
        // All data is written only when its process has ended.
        let process = Path::new("/proc").join(pid);
        wait("guestmount did not end", || !process.exists())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = self.leave() {
            log::warn!("{error:#}; run `umount {}`", self.dir.display());
        }
    }
}

fn wait(what: &str, is_so: impl Fn() -> bool) -> Result<()> {
    let start = Instant::now();
    while !is_so() {
        ensure!(
            start.elapsed() < LIMIT,
            tr!("{what} within {} s", LIMIT.as_secs(), what)
        );
        std::thread::sleep(POLL);
    }
    Ok(())
}
