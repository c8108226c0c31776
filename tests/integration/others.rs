//! Files that belong to others, such as `/etc/hosts`: all but the appliance's own part stays, and what
//! keeps such a file from being written is named before the first write.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown, symlink};
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount, umount};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rustix::buffer::spare_capacity;
use rustix::fs::{XattrFlags, getxattr, setxattr};

use crate::harness::Machine;

const SETTINGS: &str = "etc/appliance/config.yaml";
const ATTRIBUTE: &str = "user.origin";

/// A machine with this `/etc/hosts`.
fn machine(hosts: &[u8]) -> Machine {
    let machine = Machine::new();
    fs::write(machine.root().join("etc/hosts"), hosts).unwrap();
    machine
}

fn hosts(machine: &Machine) -> Vec<u8> {
    fs::read(machine.root().join("etc/hosts")).unwrap()
}

#[test]
fn a_hosts_file_in_any_encoding_keeps_every_line() {
    for text in [
        b"127.0.0.1 localhost\n# M\xfcller's entries\n10.9.8.7 cache cache.lan\n".as_slice(),
        b"\xef\xbb\xbf127.0.0.1 localhost\n\0\n\xff\xfe\n",
        b"",
    ] {
        let machine = machine(text);
        machine.installed(&[]);
        let first = hosts(&machine);
        assert!(first.starts_with(text), "{}", first.escape_ascii());
        assert!(
            first[text.len()..].starts_with(b"# BEGIN appliance"),
            "{}",
            first.escape_ascii()
        );
        machine.put(SETTINGS, "hosts: {ntp: 10.9.8.1}\n");
        machine.installed(&[]);
        let second = hosts(&machine);
        assert!(second.starts_with(text) && second != first);
        machine.put(SETTINGS, "hosts: {}\n");
        machine.installed(&[]);
        assert_eq!(hosts(&machine), first);
    }
}

#[test]
fn a_hosts_file_with_crlf_keeps_its_line_ends() {
    let text = b"127.0.0.1 localhost\r\n10.9.8.7 cache";
    let machine = machine(text);
    machine.installed(&[]);
    let first = hosts(&machine);
    assert!(first.starts_with(b"127.0.0.1 localhost\r\n10.9.8.7 cache\r\n# BEGIN"));
    let lines = first.split_inclusive(|&byte| byte == b'\n');
    assert!(lines.into_iter().all(|line| line.ends_with(b"\r\n")));
    let said = machine.installed(&[]);
    assert_eq!(hosts(&machine), first, "{said}");
}

#[test]
fn owner_mode_attributes_and_link_of_a_hosts_file_stay() {
    let machine = machine(b"127.0.0.1 localhost\n");
    let real = machine.root().join("srv/hosts");
    fs::create_dir(real.parent().unwrap()).unwrap();
    let path = machine.root().join("etc/hosts");
    fs::rename(&path, &real).unwrap();
    symlink("/srv/hosts", &path).unwrap();
    fchown(File::open(&real).unwrap(), Some(1234), Some(2345)).unwrap();
    fs::set_permissions(&real, Permissions::from_mode(0o664)).unwrap();
    setxattr(&real, ATTRIBUTE, b"by hand", XattrFlags::empty()).unwrap();

    machine.installed(&[]);

    assert_eq!(fs::read_link(&path).unwrap(), Path::new("/srv/hosts"));
    assert!(machine.read("srv/hosts").contains("# BEGIN appliance"));
    let kept = fs::metadata(&real).unwrap();
    assert_eq!(
        (kept.uid(), kept.gid(), kept.mode() & 0o7777),
        (1234, 2345, 0o664)
    );
    let mut value = Vec::with_capacity(100);
    getxattr(&real, ATTRIBUTE, spare_capacity(&mut value)).unwrap();
    assert_eq!(value, b"by hand");
}

#[test]
fn what_cannot_be_read_stops_the_run_before_the_first_write() {
    let machine = machine(b"");
    let path = machine.root().join("etc/hosts");
    fs::remove_file(&path).unwrap();

    fs::create_dir(&path).unwrap();
    let said = machine.refusal(&[]);
    assert!(
        said.contains("/etc/hosts") && said.contains("not a regular file"),
        "{said}"
    );
    fs::remove_dir(&path).unwrap();

    mkfifo(&path, Mode::S_IRWXU).unwrap();
    let said = machine.refusal(&[]);
    assert!(said.contains("not a regular file"), "{said}");
    fs::remove_file(&path).unwrap();

    symlink("hosts", &path).unwrap();
    let said = machine.refusal(&[]);
    assert!(
        said.contains("/etc/hosts: too many symbolic links"),
        "{said}"
    );
}

/// A file or directory with an attribute of chattr(1), until it is dropped.
struct Attributed<'a>(&'a Path, &'static str);

impl Attributed<'_> {
    fn change(&self, sign: char) {
        let mut chattr = Command::new("chattr");
        let chattr = chattr.arg(format!("{sign}{}", self.1)).arg(self.0);
        assert!(chattr.status().unwrap().success(), "chattr needs root");
    }
}

impl Drop for Attributed<'_> {
    fn drop(&mut self) {
        self.change('-');
    }
}

#[test]
fn attributes_that_forbid_changes_are_named_with_the_command_that_removes_them() {
    let machine = machine(b"127.0.0.1 localhost\n");
    let path = machine.root().join("etc/hosts");
    let directory = machine.root().join("etc");
    for (target, letter, name) in [
        (&path, "i", "immutable"),
        (&path, "a", "append-only"),
        (&directory, "i", "immutable"),
    ] {
        let attributed = Attributed(target, letter);
        attributed.change('+');
        let said = machine.refusal(&[]);
        let command = format!("`chattr -{letter} {}`", target.display());
        assert!(said.contains(name) && said.contains(&command), "{said}");
    }
    machine.installed(&[]);
    // Nothing has to change any more.
    let attributed = Attributed(&path, "i");
    attributed.change('+');
    machine.installed(&[]);
}

#[test]
fn a_hosts_file_that_is_a_mount_or_on_a_read_only_file_system_is_named() {
    let machine = machine(b"127.0.0.1 localhost\n");
    let path = machine.root().join("etc/hosts");
    let bind = |flags: MsFlags, path: &Path| {
        let nothing = None::<&str>;
        mount(Some(path), path, nothing, MsFlags::MS_BIND | flags, nothing)
    };
    bind(MsFlags::empty(), &path).expect("a mount needs root");
    let said = machine.refusal(&[]);
    umount(&path).unwrap();
    let command = format!("`umount {}`", path.display());
    assert!(
        said.contains("is a mount point") && said.contains(&command),
        "{said}"
    );

    let directory = machine.root().join("etc");
    bind(MsFlags::empty(), &directory).unwrap();
    bind(MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, &directory).unwrap();
    let said = machine.refusal(&[]);
    umount(&directory).unwrap();
    assert!(
        said.contains("is on a read-only file system") && said.contains("mount -o remount,rw"),
        "{said}"
    );
    machine.installed(&[]);
}

#[test]
fn a_dry_run_shows_lines_of_others_without_their_control_characters() {
    let machine = machine(b"127.0.0.1 localhost\n# \x1b[31mcaf\xe9\r\n");
    let said = machine.planned(&[]);
    assert!(
        said.contains("change this program's part of /etc/hosts"),
        "{said}"
    );
    assert!(said.contains(" # \u{fffd}[31mcaf\u{fffd}\n"), "{said}");
}
