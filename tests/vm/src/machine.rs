//! One virtual machine.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::agent::{Agent, Output};
use crate::container;
use crate::drive::{self, ConfigDrive};
use crate::image::Image;
use crate::keeper;
use crate::network::Port;
use crate::qemu::{AGENT, CAPTURE, CONSOLE, DISK, overlay, qemu};

/// How long a VM may take to answer after power-on. This limit only ends a VM that hangs; it
/// measures nothing.
const BOOT: Duration = Duration::from_secs(600);
/// The pause between two checks of a VM.
const POLL: Duration = Duration::from_millis(500);

/// The source of time for an emulated VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Real time, even while the VM gets no processor.
    OfTheWall,
    /// The number of executed instructions, and real time while the VM is idle. Its processor then
    /// seems fast enough even if many VMs share one, but its clock is slow.
    OfWork,
}

/// The inputs of a VM.
pub struct MachineSpec<'a> {
    /// Its base image.
    pub image: &'a Image,
    /// Its OpenStack metadata.
    pub server: &'a ConfigDrive,
    /// The source of its time.
    pub clock: Clock,
    /// Whether it has a config drive; otherwise its network has a metadata service.
    pub has_config_drive: bool,
    /// Its network; `None` for a network without any other machine.
    pub port: Option<&'a Port>,
    /// The appliance on its second volume; not needed if the image contains one.
    pub appliance: &'a Path,
    /// A directory whose files are copied to that volume.
    pub beside: Option<&'a Path>,
    /// The directory of its disk and its console log; a temporary directory if `None`.
    pub keep: Option<&'a Path>,
}

/// The file with the messages of QEMU, if a keeper runs it.
const LOG: &str = "qemu.log";

/// A running virtual machine. It is switched off when this is dropped.
pub struct Machine {
    dir: PathBuf,
    /// QEMU, or its keeper, or a container.
    qemu: Child,
    /// The port that a container leaves when it ends, as a VM does.
    leaves: Option<Port>,
    agent: Option<Agent>,
    console_read: usize,
    stays: bool,
    _temporary: Option<TempDir>,
}

impl Machine {
    /// Switches a new VM on.
    pub fn boot(spec: &MachineSpec<'_>) -> Result<Machine> {
        Machine::start(spec, None, |disk| match container::are_wanted() {
            true => container::copy(spec.image, disk),
            false => overlay(&spec.image.disk(), spec.image.format(), disk),
        })
    }

    /// Switches a new VM on that has a second console and can stay on after this program
    /// ([`Machine::leave_on`]). `vm` is the program with the command `keep`: the VM's keeper.
    pub fn boot_to_stay(spec: &MachineSpec<'_>, vm: &Path) -> Result<Machine> {
        Machine::start(spec, Some(vm), |disk| {
            overlay(&spec.image.disk(), spec.image.format(), disk)
        })
    }

    /// Switches a VM on again, with the disk that was kept when it was switched off.
    pub fn boot_again(spec: &MachineSpec<'_>) -> Result<Machine> {
        Machine::start(spec, None, |disk| {
            ensure!(
                disk.exists(),
                "{}: no disk of an earlier boot is kept; call Machine::boot",
                disk.display()
            );
            Ok(())
        })
    }

    fn start(
        spec: &MachineSpec<'_>,
        keeper: Option<&Path>,
        prepare_disk: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Machine> {
        let temporary = if spec.keep.is_some() {
            None
        } else {
            Some(tempfile::tempdir()?)
        };
        let dir = match (spec.keep, &temporary) {
            (Some(dir), _) => dir.to_owned(),
            (None, Some(temporary)) => temporary.path().to_owned(),
            (None, None) => bail!("a VM needs a directory"),
        };
        fs::create_dir_all(&dir)?;
        if spec.has_config_drive {
            spec.server.write(&dir.join("config-drive.iso"))?;
        }
        if !spec.image.is_golden() {
            drive::write_volume(spec.appliance, spec.beside, &dir.join("appliance.iso"))?;
        }
        let dir = dir.canonicalize()?;
        prepare_disk(&dir.join(match container::are_wanted() {
            true => container::DISK,
            false => DISK,
        }))?;
        for record in [CONSOLE, CAPTURE] {
            set_aside(&dir, record)?;
        }
        let mut command = match container::are_wanted() {
            true => container::command(spec, &dir)?,
            false => qemu(spec, &dir, keeper.is_some()),
        };
        if let Some(vm) = keeper {
            command = keeper::command(vm, &dir, &command);
            let log = File::create(dir.join(LOG))?;
            command.stdout(log.try_clone()?).stderr(log);
        }
        let qemu = command
            .spawn()
            .context("qemu-system-x86_64 (Debian package qemu-system-x86)")?;
        Ok(Machine {
            dir,
            qemu,
            leaves: spec.port.filter(|_| container::are_wanted()).cloned(),
            agent: None,
            console_read: 0,
            stays: false,
            _temporary: temporary,
        })
    }

    /// Every packet it has sent and received since it was switched on, as a capture file (pcap).
    /// Files of earlier runs in the same directory are `1.capture.pcap` and so on.
    pub fn capture(&self) -> PathBuf {
        self.dir.join(CAPTURE)
    }

    /// The new lines on the console since the last call.
    pub fn console(&mut self) -> Vec<String> {
        let bytes = fs::read(self.dir.join(CONSOLE)).unwrap_or_default();
        let fresh = &bytes[self.console_read.min(bytes.len())..];
        let Some(end) = fresh.iter().rposition(|&byte| byte == b'\n') else {
            return Vec::new();
        };
        self.console_read += end + 1;
        String::from_utf8_lossy(&fresh[..end])
            .lines()
            .map(plain)
            .collect()
    }

    /// Waits until `condition` gives a value, and calls `meanwhile` at every check. Returns an
    /// error if the VM ends, its kernel panics, or `limit` has passed.
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut meanwhile: impl FnMut(&mut Machine),
        mut condition: impl FnMut(&mut Machine) -> Option<T>,
    ) -> Result<T> {
        let start = Instant::now();
        loop {
            meanwhile(self);
            if let Some(value) = condition(self) {
                return Ok(value);
            }
            self.ensure_running(what)?;
            if start.elapsed() > limit {
                bail!(
                    "not within {} s: {what}\n{}",
                    limit.as_secs(),
                    self.last_words()
                );
            }
            std::thread::sleep(POLL);
        }
    }

    /// Fails if the VM has ended; `what` names the awaited event.
    pub fn ensure_running(&mut self, what: &str) -> Result<()> {
        if let Some(status) = self.qemu.try_wait()? {
            bail!(
                "the VM ended ({status}) before {what}\n{}",
                self.last_words()
            );
        }
        Ok(())
    }

    /// Whether programs can run inside now.
    pub fn has_agent(&mut self) -> bool {
        // QEMU serves one connection at a time, so close a failed one first.
        if !self.agent.as_mut().is_some_and(Agent::answers) {
            self.agent = None;
            self.agent = Agent::connect(&self.dir.join(AGENT)).ok();
        }
        self.agent.is_some()
    }

    /// Waits until programs can run inside, and calls `meanwhile` at every check.
    pub fn wait_for_agent(&mut self, meanwhile: impl FnMut(&mut Machine)) -> Result<()> {
        self.wait_for("the guest agent answers", BOOT, meanwhile, |machine| {
            machine.has_agent().then_some(())
        })
    }

    /// Runs a program inside to its end.
    pub fn run(&mut self, command: &[&str]) -> Result<Output> {
        let agent = self.agent.as_mut().context("wait for the agent first")?;
        agent.run(command).with_context(|| command.join(" "))
    }

    /// Runs a shell command inside and returns its output. Any exit code other than 0 is an error.
    pub fn shell(&mut self, command: &str) -> Result<String> {
        let output = self.run(&["/bin/sh", "-c", command])?;
        ensure!(
            output.code == 0,
            "`{command}` ended with {}: {}{}",
            output.code,
            output.stdout,
            output.stderr
        );
        Ok(output.stdout)
    }

    /// Reboots the system inside with the same disk, and waits until programs can run. Calls
    /// `meanwhile` at every check.
    pub fn reboot(&mut self, meanwhile: impl FnMut(&mut Machine)) -> Result<()> {
        const BOOT_ID: &str = "cat /proc/sys/kernel/random/boot_id";
        let before = self.shell(BOOT_ID)?;
        // The agent may end before it can answer.
        let _ = self.shell("systemctl --no-block reboot");
        self.agent = None;
        self.wait_for("the VM has rebooted", BOOT, meanwhile, |machine| {
            machine.agent = None;
            machine.agent = Agent::connect(&machine.dir.join(AGENT)).ok();
            machine
                .shell(BOOT_ID)
                .ok()
                .filter(|now| *now != before)
                .map(drop)
        })
    }

    /// Leaves the VM on, after [`Machine::boot_to_stay`]. Its files stay in its directory.
    pub fn leave_on(mut self) -> Result<()> {
        let keeper = self.qemu.stdin.as_mut();
        let keeper = keeper.context("this VM has no keeper; boot it with Machine::boot_to_stay")?;
        keeper.write_all(keeper::STAY).context("the VM's keeper")?;
        self.stays = true;
        Ok(())
    }

    fn last_words(&self) -> String {
        let mut log = fs::read(self.dir.join(CONSOLE)).unwrap_or_default();
        log.extend(fs::read(self.dir.join(LOG)).unwrap_or_default());
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<String> = text.lines().map(plain).collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        // If it has ended by itself, there is nothing to do. A keeper switches its VM off when this
        // pipe ends.
        match self.qemu.stdin.take() {
            Some(keeper) => drop(keeper),
            None => drop(self.qemu.kill()),
        }
        let _ = self.qemu.wait();
        if let Some(port) = &self.leaves {
            let _ = port.cut();
        }
    }
}

/// Keeps the record of an earlier run, which QEMU would overwrite.
fn set_aside(dir: &Path, record: &str) -> Result<()> {
    let path = dir.join(record);
    let mut unused = (1..).map(|number: u32| dir.join(format!("{number}.{record}")));
    match unused.find(|other| !other.exists()) {
        Some(other) if path.exists() => Ok(fs::rename(path, other)?),
        _ => Ok(()),
    }
}

/// The line without control sequences of the terminal.
fn plain(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => drop(chars.by_ref().find(char::is_ascii_alphabetic)),
            c if c.is_control() => {}
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn control_sequences_of_the_console_are_dropped() {
        assert_eq!(
            super::plain("[\u{1b}[0;32m  OK  \u{1b}[0m] Started \u{1b}[0;1;39metcd\u{1b}[0m.\r"),
            "[  OK  ] Started etcd."
        );
    }
}
