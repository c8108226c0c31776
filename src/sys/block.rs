//! Finds block devices by the label of their file system, without udev: a link under
//! `/dev/disk/by-label` may not exist yet, and of two devices with one label it shows only one.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;

/// Where the primary volume descriptor is on an ISO 9660 image (ECMA-119, 8.1: sector 16).
const ISO9660_DESCRIPTOR_OFFSET: u64 = 32_768;

/// A block device that carries a labelled file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledDevice {
    /// Its device file, such as `/dev/sr0`.
    pub path: PathBuf,
    /// The file system's label, without the padding.
    pub label: String,
    /// Which file system it is.
    pub file_system: FileSystem,
}

/// A file system whose label this module can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// A CD image.
    Iso9660,
    /// FAT12, FAT16 or FAT32.
    Vfat,
}

impl FileSystem {
    /// Its name for mount(2) and in `/proc/filesystems`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iso9660 => "iso9660",
            Self::Vfat => "vfat",
        }
    }

    /// The kernel module that provides it.
    pub fn module(self) -> &'static str {
        match self {
            Self::Iso9660 => "isofs",
            Self::Vfat => "vfat",
        }
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One entry of `/sys/class/block`.
struct Entry {
    name: String,
    /// For a partition: the name of the disk it is on.
    disk: Option<String>,
}

/// A block device that has data which cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableDevice {
    /// Its device file.
    pub path: PathBuf,
    /// Why it cannot be read, in the kernel's words.
    pub why: String,
}

/// The block devices of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    /// Those that carry a file system with a label, sorted by name.
    pub labelled: Vec<LabelledDevice>,
    /// Those that cannot be read, sorted by name. Any of them may have a label.
    pub unreadable: Vec<UnreadableDevice>,
}

/// Lists the devices that carry an ISO 9660 or FAT file system with a label, and those that cannot be read.
///
/// `sys_class_block` is `/sys/class/block` and `dev` is `/dev`, except in tests. A partition is left
/// out if its disk has the same file system and label: a hybrid CD image is visible both on the
/// disk and on its first partition. A device that is gone or has no medium is in neither list.
///
/// # Errors
/// If `sys_class_block` cannot be listed.
pub fn devices(sys_class_block: &Path, dev: &Path) -> Result<Devices> {
    let mut found: Vec<(Entry, LabelledDevice)> = Vec::new();
    let mut unreadable = Vec::new();
    for entry in entries(sys_class_block)? {
        // sysfs writes `!` where the device's name has a `/`, as in `cciss/c0d0`.
        let path = dev.join(entry.name.replace('!', "/"));
        match read_label(&path) {
            Ok(Some((file_system, label))) => found.push((
                entry,
                LabelledDevice {
                    path,
                    label,
                    file_system,
                },
            )),
            Ok(None) => {}
            Err(error) if has_no_data(&error) => log::debug!("{}: {error}", path.display()),
            Err(error) => unreadable.push(UnreadableDevice {
                path,
                why: error.to_string(),
            }),
        }
    }
    let is_repeat = |entry: &Entry, device: &LabelledDevice| {
        found.iter().any(|(other, disk)| {
            entry.disk.as_ref() == Some(&other.name)
                && device.label == disk.label
                && device.file_system == disk.file_system
        })
    };
    let labelled = found
        .iter()
        .filter(|(entry, device)| !is_repeat(entry, device))
        .map(|(_, device)| device.clone())
        .collect();
    Ok(Devices {
        labelled,
        unreadable,
    })
}

/// Whether this is the usual error of a device without data: a drive without a medium, a device that was
/// removed, or one without a driver.
fn has_no_data(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(
        code,
        Some(Errno::ENOMEDIUM | Errno::ENOENT | Errno::ENXIO | Errno::ENODEV)
    )
}

/// The block devices that can hold data, sorted by name.
fn entries(sys_class_block: &Path) -> Result<Vec<Entry>> {
    let list = || {
        format!(
            "cannot list the block devices in {}",
            sys_class_block.display()
        )
    };
    let mut entries = Vec::new();
    for entry in fs::read_dir(sys_class_block).with_context(list)? {
        let entry = entry.with_context(list)?;
        // The kernel names block devices in ASCII.
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if is_floppy(&name) || is_empty(&entry.path()) {
            continue;
        }
        let disk = disk_of(&entry.path());
        entries.push(Entry { name, disk });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Whether it is a floppy drive: each read of an empty one takes seconds and logs an error.
fn is_floppy(name: &str) -> bool {
    name.strip_prefix("fd")
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Whether the kernel says the device has no sectors, as unused loop devices have none.
fn is_empty(entry: &Path) -> bool {
    fs::read_to_string(entry.join("size")).is_ok_and(|size| size.trim() == "0")
}

/// The disk of a partition: in sysfs, the directory of a partition is inside that of its disk.
fn disk_of(entry: &Path) -> Option<String> {
    if !entry.join("partition").exists() {
        return None;
    }
    let real = fs::canonicalize(entry).ok()?;
    Some(real.parent()?.file_name()?.to_str()?.to_owned())
}

fn read_label(device: &Path) -> io::Result<Option<(FileSystem, String)>> {
    // Without O_NONBLOCK, opening a CD drive would close its tray.
    let device = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(device)?;
    if let Some(label) = iso9660_label(&device)? {
        return Ok(Some((FileSystem::Iso9660, label)));
    }
    Ok(vfat_label(&device)?.map(|label| (FileSystem::Vfat, label)))
}

/// The volume identifier of the primary volume descriptor (ECMA-119, 8.4).
fn iso9660_label(device: &File) -> io::Result<Option<String>> {
    const PRIMARY: [u8; 7] = *b"\x01CD001\x01";
    let mut descriptor = [0; 72];
    if !read_at(device, &mut descriptor, ISO9660_DESCRIPTOR_OFFSET)? {
        return Ok(None);
    }
    Ok(descriptor
        .starts_with(&PRIMARY)
        .then(|| label(&descriptor[40..72]))
        .flatten())
}

/// The volume label of a FAT boot sector (Microsoft's FAT specification 1.03, "Boot Sector and BPB").
fn vfat_label(device: &File) -> io::Result<Option<String>> {
    /// The label's presence, from the extended boot signature; the label; the type's name.
    const FAT12_OR_16: (usize, usize, usize, &[u8]) = (0x26, 0x2b, 0x36, b"FAT");
    const FAT32: (usize, usize, usize, &[u8]) = (0x42, 0x47, 0x52, b"FAT32");
    const LABEL_FOLLOWS: u8 = 0x29;

    let mut sector = [0; 512];
    if !read_at(device, &mut sector, 0)? || sector[510..] != [0x55, 0xaa] {
        return Ok(None);
    }
    Ok([FAT32, FAT12_OR_16]
        .into_iter()
        .find(|(signature, _, name, expected)| {
            sector[*signature] == LABEL_FOLLOWS && sector[*name..].starts_with(expected)
        })
        .and_then(|(_, at, _, _)| label(&sector[at..at + 11])))
}

/// Fills the buffer from that offset; false if the device ends before.
fn read_at(device: &File, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
    match device.read_exact_at(buffer, offset) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

/// A label without its padding; `None` if it is blank.
fn label(field: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(field);
    let text = text.trim_end_matches([' ', '\0']);
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::os::unix::fs::symlink;

    /// A made-up machine: `sys/class/block` and `dev` with regular files for devices.
    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            for sub in ["sys/class/block", "sys/devices", "dev"] {
                fs::create_dir_all(dir.path().join(sub)).unwrap();
            }
            Self(dir)
        }

        /// Adds a disk, or a partition when the path is `disk/partition`.
        fn add(&self, sysfs_path: &str, content: &[u8]) {
            let root = self.0.path();
            let real = root.join("sys/devices").join(sysfs_path);
            let name = real.file_name().unwrap();
            fs::create_dir_all(&real).unwrap();
            fs::write(
                real.join("size"),
                format!("{}\n", content.len().div_ceil(512)),
            )
            .unwrap();
            if sysfs_path.contains('/') {
                fs::write(real.join("partition"), "1\n").unwrap();
            }
            symlink(&real, root.join("sys/class/block").join(name)).unwrap();
            fs::write(root.join("dev").join(name), content).unwrap();
        }

        fn devices(&self) -> Devices {
            let root = self.0.path();
            devices(&root.join("sys/class/block"), &root.join("dev")).unwrap()
        }

        fn labels(&self) -> Vec<(String, String)> {
            self.devices()
                .labelled
                .into_iter()
                .map(|d| {
                    (
                        d.path.file_name().unwrap().to_str().unwrap().to_owned(),
                        d.label,
                    )
                })
                .collect()
        }
    }

    fn iso9660(label: &str) -> Vec<u8> {
        let mut image = vec![0; 40_000];
        image[32_768..32_775].copy_from_slice(b"\x01CD001\x01");
        image[32_808..32_840].fill(b' ');
        image[32_808..32_808 + label.len()].copy_from_slice(label.as_bytes());
        image
    }

    fn pair(name: &str, label: &str) -> (String, String) {
        (name.to_owned(), label.to_owned())
    }

    #[test]
    fn a_hybrid_image_on_disk_and_partition_is_one_drive() {
        let machine = Machine::new();
        machine.add("sda", &iso9660("config-2"));
        machine.add("sda/sda1", &iso9660("config-2"));
        assert_eq!(machine.labels(), [pair("sda", "config-2")]);
    }

    #[test]
    fn a_partition_with_another_label_than_its_disk_counts() {
        let machine = Machine::new();
        machine.add("sda", &iso9660("rescue"));
        machine.add("sda/sda1", &iso9660("config-2"));
        assert_eq!(
            machine.labels(),
            [pair("sda", "rescue"), pair("sda1", "config-2")]
        );
    }

    #[test]
    fn a_partition_on_a_disk_without_file_system_counts() {
        let machine = Machine::new();
        machine.add("vdb", &[0; 4096]);
        machine.add("vdb/vdb1", &iso9660("config-2"));
        assert_eq!(machine.labels(), [pair("vdb1", "config-2")]);
    }

    #[test]
    fn two_disks_with_one_label_are_two() {
        let machine = Machine::new();
        machine.add("sr0", &iso9660("config-2"));
        machine.add("sr1", &iso9660("config-2"));
        assert_eq!(machine.labels().len(), 2);
    }

    #[test]
    fn a_device_that_is_gone_or_short_is_passed_over() {
        let machine = Machine::new();
        machine.add("sda", b"short");
        machine.add("sdb", &iso9660("config-2"));
        fs::remove_file(machine.0.path().join("dev/sdb")).unwrap();
        machine.add("sdd", &iso9660("config-2"));
        assert_eq!(machine.labels(), [pair("sdd", "config-2")]);
        assert_eq!(machine.devices().unreadable, []);
    }

    #[test]
    fn a_device_that_cannot_be_read_is_named_and_hides_no_other() {
        let machine = Machine::new();
        machine.add("sda", &iso9660("config-2"));
        machine.add("sdb", &iso9660("config-2"));
        let bad = machine.0.path().join("dev/sda");
        fs::remove_file(&bad).unwrap();
        // The kernel maps nothing at the start of a process's memory: reading there fails with EIO.
        symlink("/proc/self/mem", &bad).unwrap();
        assert_eq!(machine.labels(), [pair("sdb", "config-2")]);
        let unreadable = machine.devices().unreadable;
        assert_eq!(unreadable.len(), 1, "{unreadable:?}");
        assert_eq!(unreadable[0].path, bad);
        assert!(
            unreadable[0].why.contains("Input/output error"),
            "{unreadable:?}"
        );
    }

    #[test]
    fn a_device_too_short_for_a_cd_can_hold_fat() {
        let machine = Machine::new();
        let mut image = vec![0; 20_480];
        image[0x26] = 0x29;
        image[0x2b..0x36].copy_from_slice(b"config-2   ");
        image[0x36..0x3b].copy_from_slice(b"FAT12");
        image[510..512].copy_from_slice(&[0x55, 0xaa]);
        machine.add("vdb", &image);
        assert_eq!(machine.labels(), [pair("vdb", "config-2")]);
    }

    #[test]
    fn a_boot_sector_without_its_mark_or_without_a_label_is_no_fat() {
        let machine = Machine::new();
        let mut image = vec![0; 20_480];
        image[0x2b..0x36].copy_from_slice(b"config-2   ");
        image[0x36..0x3b].copy_from_slice(b"FAT12");
        image[510..512].copy_from_slice(&[0x55, 0xaa]);
        machine.add("vdb", &image);
        image[0x26] = 0x29;
        image[510] = 0;
        machine.add("vdc", &image);
        assert_eq!(machine.labels(), []);
    }

    #[test]
    fn a_floppy_drive_is_not_touched() {
        let machine = Machine::new();
        machine.add("fd0", &iso9660("config-2"));
        assert_eq!(machine.labels(), []);
    }

    #[test]
    fn a_descriptor_of_another_type_or_a_blank_label_is_none() {
        let machine = Machine::new();
        let mut boot_record = iso9660("config-2");
        boot_record[32_768] = 0;
        machine.add("sr0", &boot_record);
        machine.add("sr1", &iso9660(""));
        assert_eq!(machine.labels(), []);
    }

    #[test]
    fn a_missing_listing_is_an_error_that_names_it() {
        let error = devices(Path::new("/nonexistent/block"), Path::new("/dev"));
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("/nonexistent/block")
        );
    }
}
