//! One virtual machine.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::agent::{Agent, Output};
use crate::drive::{self, ConfigDrive};
use crate::image::Image;
use crate::network::Port;

/// How long a VM may take to answer after power-on. This limit only ends a VM that hangs; it
/// measures nothing.
const BOOT: Duration = Duration::from_secs(600);
/// How long a guest with KVM may take for its first output. After that, KVM is not used.
const KVM_TRIAL: Duration = Duration::from_secs(10);
/// The file with the output of a VM's console.
const CONSOLE: &str = "console.log";
/// The file with the packets of a VM on a network.
const CAPTURE: &str = "capture.pcap";
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

/// A running virtual machine. It is switched off when this is dropped.
pub struct Machine {
    dir: PathBuf,
    qemu: Child,
    agent: Option<Agent>,
    console_read: usize,
    _temporary: Option<TempDir>,
}

impl Machine {
    /// Switches a new VM on.
    pub fn boot(spec: &MachineSpec<'_>) -> Result<Machine> {
        Machine::start(spec, |disk| make_overlay(spec.image, disk))
    }

    /// Switches a VM on again, with the disk that was kept when it was switched off.
    pub fn boot_again(spec: &MachineSpec<'_>) -> Result<Machine> {
        Machine::start(spec, |disk| {
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
        prepare_disk(&dir.join("disk.qcow2"))?;
        for record in [CONSOLE, CAPTURE] {
            set_aside(&dir, record)?;
        }
        let qemu = qemu(spec, &dir)
            .spawn()
            .context("qemu-system-x86_64 (Debian package qemu-system-x86)")?;
        Ok(Machine {
            dir,
            qemu,
            agent: None,
            console_read: 0,
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
            self.agent = Agent::connect(&self.dir.join("agent.sock")).ok();
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
            "`{command}` ended with {}: {}",
            output.code,
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
            machine.agent = Agent::connect(&machine.dir.join("agent.sock")).ok();
            machine
                .shell(BOOT_ID)
                .ok()
                .filter(|now| *now != before)
                .map(drop)
        })
    }

    fn last_words(&self) -> String {
        let log = fs::read(self.dir.join(CONSOLE)).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<String> = text.lines().map(plain).collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // If it has ended by itself, there is nothing to do.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
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

/// The kernel arguments of an image. KERNEL_ARGUMENTS adds more, such as
/// `systemd.setenv=NAME=VALUE` for every service, if tested programs need more than the
/// distribution provides.
pub fn kernel_arguments() -> String {
    let more = std::env::var("KERNEL_ARGUMENTS").unwrap_or_default();
    format!(
        "root=/dev/vda console=ttyS0 systemd.unified_cgroup_hierarchy=0 systemd.show_status=yes mitigations=off quiet {more}"
    )
}

fn make_overlay(image: &Image, overlay: &Path) -> Result<()> {
    let output = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", image.format(), "-b"])
        .args([&image.disk(), overlay])
        .output()
        .context("qemu-img (Debian package qemu-utils)")?;
    ensure!(
        output.status.success(),
        "qemu-img: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn qemu(spec: &MachineSpec<'_>, dir: &Path) -> Command {
    let in_dir = |name: &str| dir.join(name).display().to_string();
    let disk =
        |name: &str, format: &str| format!("file={},format={format},if=virtio", in_dir(name));
    let program = "qemu-system-x86_64";
    let mut command = match spec.port {
        Some(port) => port.command(program),
        None => Command::new(program),
    };
    command
        .args(["-nodefaults", "-display", "none"])
        .args(["-smp", &spec.server.cpus.to_string()])
        .args(["-m", &spec.server.memory.to_string()])
        .args([
            "-smbios",
            "type=1,manufacturer=OpenStack Foundation,product=OpenStack Nova",
        ])
        .args(accelerator(spec.image, spec.clock))
        .arg("-kernel")
        .arg(spec.image.kernel())
        .arg("-initrd")
        .arg(spec.image.initrd())
        .args(["-append", &kernel_arguments()])
        // Data that the guest has flushed is safe in this machine's kernel, even if QEMU is killed.
        .args([
            "-drive",
            &format!("{},cache=unsafe", disk("disk.qcow2", "qcow2")),
        ])
        .args([
            "-device",
            &format!("virtio-net-pci,netdev=net,mac={}", spec.server.mac),
        ])
        .args(["-serial", &format!("file:{}", in_dir(CONSOLE))])
        .args(["-device", "virtio-serial"])
        .args([
            "-chardev",
            &format!(
                "socket,id=agent,path={},server=on,wait=off",
                in_dir("agent.sock")
            ),
        ])
        .args([
            "-device",
            "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
        ])
        .stdin(Stdio::null());
    let volumes = [
        (!spec.image.is_golden(), "appliance.iso"),
        (spec.has_config_drive, "config-drive.iso"),
    ];
    for (_, name) in volumes.iter().filter(|(is_there, _)| *is_there) {
        command.args(["-drive", &format!("{},readonly=on", disk(name, "raw"))]);
    }
    match spec.port {
        None => command.args(["-netdev", "hubport,id=net,hubid=0"]),
        Some(port) => command.args(["-netdev", &port.netdev("net")]).args([
            "-object",
            &format!("filter-dump,id=dump,netdev=net,file={}", in_dir(CAPTURE)),
        ]),
    };
    command
}

/// KVM if a guest really runs with it, else software emulation. It is not enough that `/dev/kvm`
/// can be opened.
fn accelerator(image: &Image, clock: Clock) -> &'static [&'static str] {
    static KVM_WORKS: OnceLock<bool> = OnceLock::new();
    if *KVM_WORKS.get_or_init(|| kvm_works(image).unwrap_or(false)) {
        &["-accel", "kvm", "-cpu", "host"]
    } else if clock == Clock::OfWork {
        // Two nanoseconds for each instruction.
        &[
            "-accel",
            "tcg,thread=single",
            "-cpu",
            "max",
            "-icount",
            "shift=1,sleep=on",
        ]
    } else {
        &["-accel", "tcg,thread=multi", "-cpu", "max"]
    }
}

/// Boots the kernel in a guest with KVM until its first output.
fn kvm_works(image: &Image) -> Result<bool> {
    if File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_err()
    {
        return Ok(false);
    }
    let dir = tempfile::tempdir()?;
    let console = dir.path().join("console.log");
    let mut guest = Command::new("qemu-system-x86_64")
        .args([
            "-nodefaults",
            "-display",
            "none",
            "-accel",
            "kvm",
            "-cpu",
            "host",
            "-m",
            "512",
        ])
        .arg("-kernel")
        .arg(image.kernel())
        .args(["-append", "console=ttyS0 earlyprintk=ttyS0", "-no-reboot"])
        .args(["-serial", &format!("file:{}", console.display())])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let start = Instant::now();
    let mut works = false;
    while !works && start.elapsed() < KVM_TRIAL && guest.try_wait()?.is_none() {
        std::thread::sleep(POLL);
        works = fs::read_to_string(&console).is_ok_and(|log| log.contains("Memory:"));
    }
    // It has shown the requested output, or never will.
    let _ = guest.kill();
    guest.wait()?;
    Ok(works)
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
