//! A small image like that of a distribution, with traces of a machine that has run, and an
//! appliance small enough to include.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use appliance::bundle::repack::repack;
use serde_json::Value;

use crate::harness::{Machine, document, payload, program, said, tiny_program};

/// The start of the root file system in an image, in bytes, after a partition for the boot loader.
pub const START: u64 = 4 * 1024 * 1024;
/// A disk with space for the bundle and the reserve.
pub const ROOMY: u64 = 420 * 1024 * 1024;
/// A disk without this space.
pub const SMALL: u64 = 64 * 1024 * 1024;

/// Traces of any machine that has run, each with the check that finds it.
pub const TRACES: &[(&str, &str, &str)] = &[
    (
        "machine ID",
        "etc/machine-id",
        "0123456789abcdef0123456789abcdef\n",
    ),
    (
        "machine ID",
        "var/lib/dbus/machine-id",
        "0123456789abcdef0123456789abcdef\n",
    ),
    ("host name", "etc/hostname", "builder\n"),
    ("SSH host keys", "etc/ssh/ssh_host_ed25519_key", "secret"),
    (
        "authorized keys",
        "root/.ssh/authorized_keys",
        "ssh-ed25519 AAAA someone",
    ),
    (
        "authorized keys",
        "home/debian/.ssh/authorized_keys",
        "ssh-ed25519 AAAA someone",
    ),
    (
        "passwords",
        "etc/shadow",
        "root:*:1:0:99999:7:::\ndebian:!$6$salt$hash:1:0:99999:7:::\n",
    ),
    (
        "passwords",
        "etc/shadow-",
        "debian:$6$salt$hash:1:0:99999:7:::\n",
    ),
    (
        "cloud-init's state",
        "var/lib/cloud/data/instance-id",
        "i-1\n",
    ),
    (
        "cloud-init's state",
        "etc/ssh/sshd_config.d/50-cloud-init.conf",
        "PasswordAuthentication yes\n",
    ),
    (
        "network settings",
        "etc/netplan/50-cloud-init.yaml",
        "network: {}\n",
    ),
    (
        "network settings",
        "etc/udev/rules.d/70-persistent-net.rules",
        "SUBSYSTEM==\"net\"\n",
    ),
    (
        "DHCP leases",
        "var/lib/dhcp/dhclient.eth0.leases",
        "lease {}\n",
    ),
    ("random seeds", "var/lib/systemd/random-seed", "seed"),
    ("docker's identity", "etc/docker/key.json", "{}"),
    (
        "iSCSI name",
        "etc/iscsi/initiatorname.iscsi",
        "InitiatorName=iqn.1993-08.org.debian:01:1\n",
    ),
    (
        "shell histories",
        "root/.bash_history",
        "secret --password\n",
    ),
    (
        "shell histories",
        "home/debian/.python_history",
        "import os\n",
    ),
    ("logs", "var/log/cloud-init.log", "log\n"),
    ("logs", "var/log/apt/history.log.1", "log\n"),
    ("logs", "var/log/syslog", "log\n"),
    ("logs", "var/log/journal/0123/system.journal", "log\n"),
    (
        "package caches",
        "var/lib/apt/lists/deb.example_Packages",
        "Package: a\n",
    ),
    ("temporary files", "tmp/.hidden", "x"),
    ("temporary files", "var/tmp/left", "x"),
];

/// A system as in a distribution's image, which was never booted.
pub fn system() -> Machine {
    let machine = Machine::new();
    machine.put(
        "usr/lib/os-release",
        "ID=debian\nPRETTY_NAME=\"Debian in small\"\n",
    );
    symlink(
        "../usr/lib/os-release",
        machine.root().join("etc/os-release"),
    )
    .unwrap();
    fs::write(
        machine.root().join("usr/lib/systemd/systemd"),
        program("systemd", 4096),
    )
    .unwrap();
    machine.put("usr/bin/cloud-init", "");
    machine.put("etc/machine-id", "");
    machine.put("etc/hostname", "localhost\n");
    machine.put("etc/shadow", "root:*:1:0:99999:7:::\n");
    machine.put("etc/ssh/sshd_config", "UsePAM yes\n");
    machine.put("var/lib/cloud/seed/nocloud/meta-data", "");
    machine.put("var/lib/apt/lists/lock", "");
    machine.put("var/log/wtmp", "");
    machine
}

/// A system that has run: with every trace.
pub fn used() -> Machine {
    let machine = system();
    for (_, path, content) in TRACES {
        machine.put(path, content);
    }
    machine
}

/// An appliance whose program cannot run, and whose bundle is that of the harness.
pub fn appliance() -> PathBuf {
    static MADE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let stub = dir.path().join("program");
        fs::write(&stub, tiny_program()).unwrap();
        repack(&stub, &payload(), &dir.path().join("appliance")).unwrap();
        dir
    });
    made.path().join("appliance")
}

/// Runs `appliance image` with these arguments.
pub fn image(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_appliance"));
    command.arg("image").args(arguments);
    command
}

/// `appliance image prepare --root` on that system.
pub fn prepare(machine: &Machine) -> Output {
    image(&["prepare", "--root"])
        .arg(machine.root())
        .arg("--payload")
        .arg(appliance())
        .output()
        .unwrap()
}

/// The output of `appliance image check` for the system below `root`.
pub fn checked(root: &Path) -> Value {
    let output = image(&["check", "--output", "json", "--root"])
        .arg(root)
        .output()
        .unwrap();
    let document = document(&output);
    let code = if document["sound"] == true { 0 } else { 1 };
    assert_eq!(output.status.code(), Some(code), "{}", said(&output));
    document
}

/// The checks that failed.
pub fn failed(document: &Value) -> Vec<String> {
    let checks = document["checks"].as_array().unwrap();
    let failed = checks.iter().filter(|check| check["result"] == "failed");
    failed
        .map(|check| check["check"].as_str().unwrap().to_owned())
        .collect()
}

/// Runs a program that must succeed, and returns its output.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        said(&output)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Makes a qcow2 image of `size` bytes at `path` with two partitions: a small one for the boot
/// loader, and one with `tree`.
pub fn make_image(tree: &Path, path: &Path, size: u64) {
    let raw = path.with_extension("raw");
    make_disk(tree, &raw, size);
    let (raw, path) = (raw.to_str().unwrap(), path.to_str().unwrap());
    run(
        "qemu-img",
        &["convert", "-f", "raw", "-O", "qcow2", raw, path],
    );
    fs::remove_file(raw).unwrap();
}

fn make_disk(tree: &Path, raw: &Path, size: u64) {
    fs::File::create(raw).unwrap().set_len(size).unwrap();
    let (sector, mib) = (512, 1024 * 1024);
    let table = format!(
        "label: gpt\nstart=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649\n\
         start={}, size={}, type=linux\n",
        START / sector,
        (size - START - mib) / sector
    );
    let script = raw.with_extension("sfdisk");
    fs::write(&script, table).unwrap();
    let raw = raw.to_str().unwrap();
    run(
        "sh",
        &[
            "-c",
            "sfdisk --quiet \"$1\" < \"$2\"",
            "sh",
            raw,
            script.to_str().unwrap(),
        ],
    );
    let offset = format!("offset={START},lazy_itable_init=1");
    let blocks = format!("{}k", (size - START - mib) / 1024);
    run(
        "mke2fs",
        &[
            "-q",
            "-t",
            "ext4",
            "-E",
            &offset,
            "-d",
            tree.to_str().unwrap(),
            raw,
            &blocks,
        ],
    );
    fs::remove_file(script).unwrap();
}

/// The place of an image build: a directory with a base and the output.
pub struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    /// A site whose base is made from that system.
    pub fn with(machine: &Machine, size: u64) -> Site {
        let site = Site {
            dir: tempfile::tempdir().unwrap(),
        };
        make_image(&machine.root(), &site.base(), size);
        fs::create_dir(site.path("made")).unwrap();
        site
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The base image.
    pub fn base(&self) -> PathBuf {
        self.path("base.qcow2")
    }

    /// The output of the build, in its own directory.
    pub fn output(&self) -> PathBuf {
        self.path("made/golden.qcow2")
    }

    /// `appliance image build`, with more arguments. The programs in `fakes` come first on the
    /// PATH.
    pub fn build(&self, arguments: &[&str]) -> Command {
        let mut command = image(&["build", "--base"]);
        let path = format!(
            "{}:/usr/sbin:/usr/bin:/sbin:/bin",
            self.path("fakes").display()
        );
        command
            .arg(self.base())
            .arg("--file")
            .arg(self.output())
            .arg("--payload")
            .arg(appliance())
            .args(arguments)
            .env("PATH", path);
        command
    }

    /// Replaces a program by a shell script.
    pub fn fake(&self, program: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path("fakes").join(program);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a build that must be refused, with nothing written or attached. Returns its output.
    pub fn refusal(&self, arguments: &[&str]) -> String {
        let output = self.build(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        self.assert_clean(&[]);
        said(&output)
    }

    /// Asserts that next to the output there are only `names`, and that no image of this site is
    /// attached.
    pub fn assert_clean(&self, names: &[&str]) {
        let mut there: Vec<String> = fs::read_dir(self.path("made"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        there.sort();
        assert_eq!(there, names);
        self.assert_detached();
    }

    /// Asserts that no image of this site is attached.
    pub fn assert_detached(&self) {
        let attached = run(
            "losetup",
            &["--list", "--noheadings", "--output", "BACK-FILE"],
        );
        let site = self.dir.path().to_str().unwrap();
        assert!(!attached.contains(site), "{attached}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(site), "{mounts}");
    }

    /// Runs a shell script with the root file system of the built image as `$1` and the appliance
    /// program as `$2`. Returns its output.
    pub fn inside(&self, script: &str) -> String {
        let raw = self.path("look.raw");
        let (output, raw) = (self.output(), raw.to_str().unwrap());
        run(
            "qemu-img",
            &["convert", "-O", "raw", output.to_str().unwrap(), raw],
        );
        let dir = self.path("look");
        fs::create_dir_all(&dir).unwrap();
        let mount = format!("set -e; mount -o loop,ro,offset={START} {raw} \"$1\"; {script}");
        let program = env!("CARGO_BIN_EXE_appliance");
        let dir = dir.to_str().unwrap();
        run(
            "unshare",
            &["--mount", "sh", "-c", &mount, "sh", dir, program],
        )
    }
}
