//! The command line of QEMU for a virtual machine, and the disk that it boots from.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::image::Image;
use crate::machine::{Clock, MachineSpec};
use crate::write_log;

/// The file with the output of a VM's console.
pub(crate) const CONSOLE: &str = "console.log";
/// The file with the packets of a VM on a network.
pub(crate) const CAPTURE: &str = "capture.pcap";
/// The disk of a VM.
pub(crate) const DISK: &str = "disk.qcow2";
/// The socket of the guest agent.
pub(crate) const AGENT: &str = "agent.sock";
/// The socket of the second console, for a shell.
pub(crate) const SHELL: &str = "shell.sock";
/// How long a guest with KVM may take for its first output. After that, KVM is not used.
const KVM_TRIAL: Duration = Duration::from_secs(10);
/// The pause between two checks of a VM.
const POLL: Duration = Duration::from_millis(500);

/// The kernel arguments of an image: with cgroup v1, to which systemd 256 and newer agree only when they are
/// told twice. KERNEL_ARGUMENTS adds more, such as
/// `systemd.setenv=NAME=VALUE` for every service, if tested programs need more than the
/// distribution provides.
pub fn kernel_arguments() -> String {
    let more = std::env::var("KERNEL_ARGUMENTS").unwrap_or_default();
    format!(
        "root=/dev/vda console=ttyS0 systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1 systemd.show_status=yes mitigations=off quiet {more}"
    )
}

/// Makes a disk on top of another one, which stays as it is.
pub(crate) fn overlay(disk: &Path, format: &str, overlay: &Path) -> Result<()> {
    let output = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", format, "-b"])
        .args([disk, overlay])
        .output()
        .context("qemu-img (Debian package qemu-utils)")?;
    ensure!(
        output.status.success(),
        "qemu-img: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// QEMU with the files in `dir`, before it is started. `has_shell` adds a second console.
pub(crate) fn qemu(spec: &MachineSpec<'_>, dir: &Path, has_shell: bool) -> Command {
    let in_dir = |name: &str| dir.join(name).display().to_string();
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
            &format!(
                "type=1,manufacturer=OpenStack Foundation,product=OpenStack Nova,uuid={}",
                spec.server.uuid
            ),
        ])
        .args(accelerator(spec.image, spec.clock))
        .arg("-kernel")
        .arg(spec.image.kernel())
        .arg("-initrd")
        .arg(spec.image.initrd())
        .args(["-append", &arguments(dir)])
        // Data that the guest has flushed is safe in this machine's kernel, even if QEMU is killed.
        .args(["-drive", &root_disk(dir)])
        .args([
            "-device",
            &format!("virtio-net-pci,netdev=net,mac={}", spec.server.mac),
        ])
        .args(["-serial", &format!("file:{}", in_dir(CONSOLE))])
        .stdin(Stdio::null());
    add_sockets(&mut command, dir, has_shell);
    let volumes = [
        (!spec.image.is_golden(), "appliance.iso"),
        (spec.has_config_drive, "config-drive.iso"),
    ];
    for (_, name) in volumes.iter().filter(|(is_there, _)| *is_there) {
        let volume = format!("file={},format=raw,if=virtio,readonly=on", in_dir(name));
        command.args(["-drive", &volume]);
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

/// The kernel arguments of a VM. While its writes are logged, ext4 hides nothing that a program forgot to flush.
fn arguments(dir: &Path) -> String {
    match dir.join(write_log::LOG).exists() {
        true => format!("{} rootflags=noauto_da_alloc", kernel_arguments()),
        false => kernel_arguments(),
    }
}

/// The disk to boot from. It logs every write and each flush if the directory has a file for that.
fn root_disk(dir: &Path) -> String {
    let (disk, log) = (dir.join(DISK), dir.join(write_log::LOG));
    match log.exists() {
        // A driver that need not flush logs no flush, so only those below it need not.
        true => format!(
            "driver=blklogwrites,log-super-update-interval=1,log.driver=file,log.filename={},\
             log.cache.no-flush=on,file.driver=qcow2,file.cache.no-flush=on,file.file.driver=file,\
             file.file.filename={},if=virtio,cache=writeback",
            log.display(),
            disk.display()
        ),
        false => format!(
            "file={},format=qcow2,if=virtio,cache=unsafe",
            disk.display()
        ),
    }
}

/// Adds the socket of the guest agent, and that of the second console.
fn add_sockets(command: &mut Command, dir: &Path, has_shell: bool) {
    let socket = |id: &str, name: &str| {
        let path = dir.join(name);
        let path = path.display();
        format!("socket,id={id},path={path},server=on,wait=off")
    };
    command
        .args(["-device", "virtio-serial"])
        .args(["-chardev", &socket("agent", AGENT)])
        .args([
            "-device",
            "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
        ]);
    if has_shell {
        command
            .args(["-chardev", &socket("shell", SHELL)])
            .args(["-device", "virtconsole,chardev=shell"]);
    }
}

/// Whether a guest really runs with KVM. It is not enough that `/dev/kvm` can be opened.
pub fn has_kvm(image: &Image) -> bool {
    static KVM_WORKS: OnceLock<bool> = OnceLock::new();
    *KVM_WORKS.get_or_init(|| kvm_works(image).unwrap_or(false))
}

/// KVM if it works, else software emulation.
fn accelerator(image: &Image, clock: Clock) -> &'static [&'static str] {
    if has_kvm(image) {
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
    use super::{Clock, Image, MachineSpec, Path, qemu};
    use crate::drive::ConfigDrive;

    /// The arguments of a VM on no network.
    fn arguments(has_shell: bool) -> Vec<String> {
        let (image, server) = (Image::nowhere(), ConfigDrive::master(""));
        let spec = MachineSpec {
            image: &image,
            server: &server,
            clock: Clock::OfTheWall,
            has_config_drive: true,
            port: None,
            appliance: Path::new("out/appliance"),
            beside: None,
            keep: None,
        };
        let command = qemu(&spec, Path::new("out/demo"), has_shell);
        let arguments = command.get_args();
        arguments
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn a_vm_has_no_network_and_no_file_outside_its_directory() {
        let arguments = arguments(true);
        let networks = arguments.iter().filter(|word| word.contains("id=net,"));
        let networks: Vec<_> = networks.collect();
        assert_eq!(networks, ["hubport,id=net,hubid=0"]);
        let files = arguments.iter().flat_map(|argument| argument.split(','));
        let files: Vec<_> = files
            .filter_map(|part| part.strip_prefix("file=").or(part.strip_prefix("path=")))
            .collect();
        assert_eq!(files.len(), 5, "{files:?}");
        for file in files {
            assert!(file.starts_with("out/demo/"), "{file}");
        }
    }

    #[test]
    fn only_a_vm_that_stays_has_a_second_console() {
        let console = |has_shell| {
            let arguments = arguments(has_shell).join(" ");
            arguments.contains("-device virtconsole,chardev=shell")
                && arguments.contains("socket,id=shell,path=out/demo/shell.sock")
        };
        assert!(console(true));
        assert!(!console(false));
        assert!(!arguments(false).join(" ").contains("shell"));
    }
}
