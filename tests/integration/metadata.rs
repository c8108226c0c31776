//! Config drives as OpenStack's own tools make them: genisoimage, mkfs.vfat and mtools.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use appliance::metadata::config_drive;
use appliance::metadata::hardware::Hardware;
use appliance::metadata::model::Metadata;
use appliance::metadata::{Source, directory};
use appliance::sys::block::{FileSystem, LabelledDevice, devices};
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/metadata")
        .join(name)
}

/// Runs a program to its end and returns its output.
fn run(program: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(format!(
            "{program} {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

/// A made-up machine whose block devices are images, or loop devices on them.
struct Machine {
    dir: TempDir,
    loop_devices: Vec<String>,
}

impl Machine {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir_all(dir.path().join("sys/class/block")).unwrap();
        fs::create_dir_all(dir.path().join("dev")).unwrap();
        Self {
            dir,
            loop_devices: Vec::new(),
        }
    }

    fn hardware(&self) -> Hardware {
        Hardware {
            sys: self.dir.path().join("sys"),
            dev: self.dir.path().join("dev"),
        }
    }

    /// An ISO 9660 image, with the options that Nova gives to genisoimage.
    fn iso9660(&self, name: &str, label: &str, content: &Path) -> PathBuf {
        let image = self.dir.path().join(name);
        let (out, content) = (image.to_str().unwrap(), content.to_str().unwrap());
        run(
            "genisoimage",
            &[
                "-quiet",
                "-o",
                out,
                "-ldots",
                "-allow-lowercase",
                "-allow-multidot",
                "-l",
                "-J",
                "-r",
                "-V",
                label,
                content,
            ],
        )
        .unwrap();
        image
    }

    /// A FAT image of that many KiB; `bits` are those of its allocation table.
    fn vfat(&self, name: &str, label: &str, (bits, kib): (&str, &str), content: &Path) -> PathBuf {
        let image = self.dir.path().join(name);
        let out = image.to_str().unwrap();
        run("mkfs.vfat", &["-F", bits, "-n", label, "-C", out, kib]).unwrap();
        let tree = content.join("openstack");
        run("mcopy", &["-s", "-i", out, tree.to_str().unwrap(), "::/"]).unwrap();
        image
    }

    /// Makes the image available as the block device with that name.
    fn attach(&self, device: &str, image: &Path) {
        let hardware = self.hardware();
        fs::create_dir(hardware.sys.join("class/block").join(device)).unwrap();
        symlink(image, hardware.dev.join(device)).unwrap();
    }

    /// Like [`attach`](Self::attach), with a real block device, if this machine can make one.
    fn attach_loop(&mut self, device: &str, image: &Path) -> Result<(), String> {
        let node = run(
            "losetup",
            &["--find", "--show", "--read-only", image.to_str().unwrap()],
        )?;
        self.loop_devices.push(node.clone());
        self.attach(device, Path::new(&node));
        Ok(())
    }

    fn labelled(&self) -> Vec<LabelledDevice> {
        let hardware = self.hardware();
        let found = devices(&hardware.sys.join("class/block"), &hardware.dev);
        found.unwrap().labelled
    }

    fn locate(&self) -> Option<LabelledDevice> {
        let searched = config_drive::search(&self.hardware(), || unreachable!("no guest"));
        searched.unwrap().drive
    }

    fn find(&self) -> Result<Option<Metadata>, String> {
        config_drive::find(&self.hardware(), || false).map_err(|e| format!("{e:#}"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for node in &self.loop_devices {
            if let Err(e) = run("losetup", &["--detach", node]) {
                eprintln!("{e}");
            }
        }
    }
}

#[test]
fn a_directory_and_its_latest_give_the_same_server() {
    let root = fixture("queens-static");
    let sources = [Source::Directory(root.clone())];
    let found = appliance::metadata::find(&sources, Duration::ZERO).unwrap();
    let by_root = &found.metadata[0];
    let mut by_latest = directory::read(&root.join("openstack/latest")).unwrap();
    assert_eq!(by_root.meta["role"], "master");
    by_latest.source.clone_from(&by_root.source);
    assert_eq!(*by_root, by_latest);
}

#[test]
fn the_label_of_every_kind_of_image_is_read() {
    let machine = Machine::new();
    let content = fixture("queens-static");
    machine.attach("sr0", &machine.iso9660("iso", "config-2", &content));
    machine.attach(
        "vda",
        &machine.vfat("fat12", "FAT-TWELVE", ("12", "2048"), &content),
    );
    machine.attach(
        "vdb",
        &machine.vfat("fat16", "CONFIG-2", ("16", "16384"), &content),
    );
    machine.attach(
        "vdc",
        &machine.vfat("fat32", "fat thirty", ("32", "65536"), &content),
    );
    let found: Vec<_> = machine
        .labelled()
        .into_iter()
        .map(|d| (d.path, d.label, d.file_system))
        .collect();
    let dev = machine.hardware().dev;
    let expected = [
        ("sr0", "config-2", FileSystem::Iso9660),
        ("vda", "FAT-TWELVE", FileSystem::Vfat),
        ("vdb", "CONFIG-2", FileSystem::Vfat),
        ("vdc", "fat thirty", FileSystem::Vfat),
    ];
    assert_eq!(
        found,
        expected.map(|(name, label, fs)| (dev.join(name), label.to_owned(), fs))
    );
    assert_eq!(config_drive_error(&machine).matches("/dev/").count(), 2);
}

/// The error of a machine with more than one config drive.
fn config_drive_error(machine: &Machine) -> String {
    let error = machine.find().unwrap_err();
    assert!(
        error.contains("found 2 config drives, but only one is allowed: "),
        "{error}"
    );
    error
}

#[test]
fn a_machine_without_drive_or_with_another_label_has_none() {
    let machine = Machine::new();
    assert_eq!(machine.find(), Ok(None));
    let content = fixture("queens-static");
    machine.attach("sr0", &machine.iso9660("cidata", "cidata", &content));
    machine.attach("sr1", &machine.iso9660("config-20", "config-20", &content));
    machine.attach(
        "vdb",
        &machine.vfat("unnamed", "NO NAME", ("12", "2048"), &content),
    );
    assert_eq!(machine.find(), Ok(None));
}

#[test]
fn a_label_in_capitals_is_a_config_drive() {
    for (label, capitals) in [("CONFIG-2", true), ("config-2", false)] {
        let machine = Machine::new();
        machine.attach(
            "sr0",
            &machine.iso9660("iso", label, &fixture("queens-static")),
        );
        let drive = machine.locate().unwrap();
        assert_eq!(drive.label.starts_with('C'), capitals);
        assert_eq!(drive.path, machine.hardware().dev.join("sr0"));
    }
}

#[test]
fn two_drives_are_refused_and_both_named() {
    let machine = Machine::new();
    let content = fixture("queens-static");
    machine.attach("sr0", &machine.iso9660("iso", "config-2", &content));
    machine.attach(
        "vdb",
        &machine.vfat("fat", "CONFIG-2", ("12", "2048"), &content),
    );
    let error = config_drive_error(&machine);
    assert!(
        error.contains("/dev/sr0 (iso9660") && error.contains("/dev/vdb (vfat"),
        "{error}"
    );
    assert!(error.contains("--metadata-dir"), "{error}");
}

/// A FAT image of that tree.
pub fn fat_image(tree: &Path) -> tempfile::NamedTempFile {
    let image = tempfile::NamedTempFile::new().unwrap();
    let machine = Machine::new();
    let made = machine.vfat("fat", "config-2", ("16", "65536"), tree);
    fs::copy(made, image.path()).unwrap();
    image
}

/// What is on the image, read from a real block device; as [`read_mounted`].
pub fn read_image(image: &Path, file_system: FileSystem) -> Option<Metadata> {
    read_mounted(&mut Machine::new(), image, file_system)
}

/// Reads a drive on a real block device, or checks the error of a kernel that cannot. If this is
/// not possible here, prints that and returns nothing.
fn read_mounted(machine: &mut Machine, image: &Path, file_system: FileSystem) -> Option<Metadata> {
    if let Err(e) = machine.attach_loop("sr0", image) {
        eprintln!("not tested: this machine has no free loop device: {e}");
        return None;
    }
    let result = machine.find();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !machine
            .loop_devices
            .iter()
            .any(|node| mounts.contains(node.as_str())),
        "{mounts}"
    );
    // Check this afterwards: mount(2) loads the module if it can.
    let kernel = fs::read_to_string("/proc/filesystems").unwrap();
    if kernel
        .split_whitespace()
        .any(|name| name == file_system.name())
    {
        return Some(result.unwrap().unwrap());
    }
    let error = result.unwrap_err();
    assert!(
        error.contains("dev/sr0: this kernel cannot read"),
        "{error}"
    );
    assert!(
        error.contains(&format!("`modprobe {}`", file_system.module())),
        "{error}"
    );
    eprintln!("only the error was tested: this kernel has no {file_system}");
    None
}

/// Checks that this is the server of the fixture `queens-static`, from a drive named `sr0`.
fn assert_queens(metadata: &Metadata) {
    assert!(metadata.source.ends_with("/dev/sr0"), "{}", metadata.source);
    assert_eq!(metadata.name, "server02");
    assert_eq!(metadata.interfaces.len(), 1);
}

#[test]
fn an_iso9660_drive_is_mounted_and_read() {
    let mut machine = Machine::new();
    let image = machine.iso9660("iso", "config-2", &fixture("queens-static"));
    if let Some(metadata) = read_mounted(&mut machine, &image, FileSystem::Iso9660) {
        assert_queens(&metadata);
    }
}

#[test]
fn a_vfat_drive_is_mounted_and_read() {
    let mut machine = Machine::new();
    let image = machine.vfat(
        "fat",
        "config-2",
        ("16", "65536"),
        &fixture("queens-static"),
    );
    if let Some(metadata) = read_mounted(&mut machine, &image, FileSystem::Vfat) {
        assert_queens(&metadata);
    }
}

#[test]
fn a_drive_that_cannot_be_mounted_is_named() {
    let machine = Machine::new();
    // A regular file in place of the device: its label is found, but it cannot be mounted.
    machine.attach(
        "sr0",
        &machine.iso9660("iso", "config-2", &fixture("queens-static")),
    );
    let error = machine.find().unwrap_err();
    assert!(
        error.contains("config drive ") && error.contains("/dev/sr0: "),
        "{error}"
    );
}
