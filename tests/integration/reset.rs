//! `appliance reset` on a directory in place of `/`. What needs a running system is in [`live`].

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::{Machine, document, said};

mod cluster;
mod ground;
mod live;
mod paths;
mod vm;
mod vms;

/// The command on a directory, before it runs.
pub fn command(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_appliance"));
    command.args(["reset", "--root"]).arg(root).args(arguments);
    command
}

fn reset(machine: &Machine, arguments: &[&str]) -> Output {
    command(&machine.root(), arguments).output().unwrap()
}

/// Resets it, which must succeed. Returns the output.
fn was_reset(machine: &Machine, arguments: &[&str]) -> String {
    let output = reset(machine, &[&["--yes"], arguments].concat());
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

/// Every path with its mode and its content; directories have none.
type Tree = BTreeMap<String, (u32, Option<Vec<u8>>)>;

fn tree(dir: &Path) -> Tree {
    let mut all = Tree::new();
    collect(dir, "", &mut all);
    all
}

fn collect(dir: &Path, name: &str, all: &mut Tree) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{name}/{}", entry.file_name().to_string_lossy());
        let metadata = entry.metadata().unwrap();
        let content = if metadata.is_symlink() {
            let target = fs::read_link(entry.path()).unwrap();
            Some(target.to_string_lossy().into_owned().into_bytes())
        } else if metadata.is_file() {
            Some(fs::read(entry.path()).unwrap())
        } else {
            collect(&entry.path(), &name, all);
            None
        };
        all.insert(name, (metadata.permissions().mode(), content));
    }
}

/// The paths that are only in one of both, or differ; without logs, copies, and what was there anyway.
fn differences(before: &Tree, after: &Tree) -> Vec<String> {
    let is_told = |path: &&String| {
        let stays = ["/var/log/kubernetes", "/var/log/calico", "/var/backups"];
        !stays.iter().any(|stay| path.starts_with(stay)) && before.get(*path) != after.get(*path)
    };
    let mut all: Vec<String> = before.keys().filter(is_told).cloned().collect();
    let new = after.keys().filter(|path| !before.contains_key(*path));
    all.extend(new.filter(is_told).cloned());
    all
}

/// A machine with files of others where a node has its own.
fn lived_in() -> Machine {
    let machine = Machine::new();
    machine.put("etc/hosts", "127.0.0.1 localhost\n10.0.0.9 mine\n");
    machine.put("etc/cni/net.d/99-mine.conf", "{}");
    // As Debian's containerd makes it.
    let cni = machine.root().join("etc/cni/net.d");
    fs::set_permissions(cni, fs::Permissions::from_mode(0o700)).unwrap();
    machine.put("etc/sysctl.d/99-mine.conf", "vm.swappiness = 1\n");
    machine.put(
        "etc/systemd/system/mine.service",
        "[Service]\nExecStart=/bin/true\n",
    );
    machine.put("var/log/mine", "");
    machine.put("var/lib/mine", "");
    let wants = machine
        .root()
        .join("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants).unwrap();
    symlink(
        "/etc/systemd/system/mine.service",
        wants.join("mine.service"),
    )
    .unwrap();
    fs::create_dir_all(machine.root().join("usr/local/bin")).unwrap();
    machine
}

#[test]
fn a_reset_machine_is_as_it_was_before_the_installation() {
    for profile in ["with-ca", "simple"] {
        let machine = lived_in();
        let before = tree(&machine.root());
        machine.installed(&["--profile", profile]);
        let paths: Vec<String> = tree(&machine.root()).into_keys().collect();
        // What the programs of a node leave.
        for path in [
            "var/lib/etcd/member/wal/0.wal",
            "var/lib/kubelet/pods/a/volume/data",
            "var/lib/kubelet/pki/kubelet.key",
            "var/lib/dockershim/sandbox/1",
            "var/lib/appliance/join/nodes/server01",
            "etc/kubernetes/kubelet.kubeconfig",
            "root/.kube/cache/discovery/x",
        ] {
            machine.put(path, "");
        }
        was_reset(&machine, &["--data", "--keys"]);
        let after = tree(&machine.root());
        assert_eq!(differences(&before, &after), Vec::<String>::new());
        let again = was_reset(&machine, &["--data", "--keys"]);
        assert!(again.contains("this machine is not a node"), "{again}");
        assert_eq!(tree(&machine.root()), after);
        // As on a new machine.
        fs::remove_dir_all(machine.root().join("var/backups")).unwrap();
        machine.installed(&["--profile", profile]);
        assert!(tree(&machine.root()).into_keys().eq(paths));
    }
}

#[test]
fn data_and_keys_stay_and_the_next_installation_uses_them() {
    let machine = lived_in();
    let before = tree(&machine.root());
    machine.installed(&[]);
    machine.put("var/lib/etcd/member/wal/0.wal", "acknowledged");
    let ca = "etc/kubernetes/ca/ca-key.pem";
    let key = machine.read(ca);
    let told = was_reset(&machine, &[]);
    for kept in ["/var/lib/etcd (data", "/etc/kubernetes/ca (keys"] {
        assert!(told.contains(&format!("This stays: {kept}")), "{told}");
    }
    assert_eq!(machine.read(ca), key);
    assert!(!machine.root().join("var/lib/appliance/state.json").exists());
    assert!(
        !machine
            .root()
            .join("etc/systemd/system/etcd.service")
            .exists()
    );
    assert!(!machine.root().join("var/backups").exists());
    // Nothing more to do, but data and keys are still known.
    let again = reset(&machine, &["--dry-run"]);
    assert!(
        said(&again).contains("nothing more to remove"),
        "{}",
        said(&again)
    );
    machine.installed(&[]);
    assert_eq!(machine.read(ca), key);
    assert_eq!(
        machine.read("var/lib/etcd/member/wal/0.wal"),
        "acknowledged"
    );
    was_reset(&machine, &[]);
    was_reset(&machine, &["--data", "--keys"]);
    assert_eq!(
        differences(&before, &tree(&machine.root())),
        Vec::<String>::new()
    );
}

#[test]
fn the_last_copy_has_everything_and_only_root_reads_it() {
    let machine = Machine::new();
    machine.installed(&[]);
    machine.put("var/lib/etcd/member/wal/0.wal", "acknowledged");
    let key = machine.read("etc/kubernetes/ca/ca-key.pem");
    was_reset(&machine, &["--data", "--keys", "--copy-to", "/srv/copies/"]);
    let copies: Vec<_> = fs::read_dir(machine.root().join("srv/copies"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let [copy] = &copies[..] else {
        panic!("{copies:?}")
    };
    assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let into = tempfile::tempdir().unwrap();
    tar::Archive::new(fs::File::open(copy).unwrap())
        .unpack(into.path())
        .unwrap();
    let read = |path: &str| fs::read_to_string(into.path().join(path)).unwrap();
    assert_eq!(read("var/lib/etcd/member/wal/0.wal"), "acknowledged");
    assert_eq!(read("etc/kubernetes/ca/ca-key.pem"), key);
}

#[test]
fn what_cannot_be_copied_is_not_removed() {
    let machine = Machine::new();
    machine.installed(&[]);
    let key = machine.read("etc/kubernetes/ca/ca-key.pem");
    // A file is where the directory would be.
    machine.put("srv/copies", "");
    let output = reset(&machine, &["--yes", "--keys", "--copy-to", "/srv/copies"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(machine.read("etc/kubernetes/ca/ca-key.pem"), key);
    was_reset(&machine, &["--keys"]);
    assert!(!machine.root().join("etc/kubernetes/ca").exists());
}

#[test]
fn it_shows_the_list_and_asks() {
    let machine = Machine::new();
    machine.installed(&[]);
    let before = machine.snapshot();
    let shown = reset(&machine, &["--dry-run", "--keys", "-o", "json"]);
    let document = document(&shown);
    assert_eq!(document["changed"], true);
    let steps = document["steps"].as_array().unwrap();
    for step in [
        "remove /etc/systemd/system/etcd.service",
        "remove this program's part of /etc/hosts",
    ] {
        assert!(steps.iter().any(|found| found == step), "{document}");
    }
    let copy = document["copy"].as_str().unwrap();
    assert!(copy.starts_with("/var/backups/appliance-2"), "{copy}");
    let nobody = reset(&machine, &[]);
    assert_eq!(nobody.status.code(), Some(2), "{}", said(&nobody));
    assert!(said(&nobody).contains("standard input is not a terminal; use --yes"));
    assert_eq!(machine.snapshot(), before);
}

#[test]
fn a_machine_of_others_loses_nothing() {
    let machine = lived_in();
    for path in [
        "etc/kubernetes/kubelet.conf",
        "etc/kubernetes/pki/ca.key",
        "var/lib/etcd/member/wal/0.wal",
        "var/lib/kubelet/pods/a/data",
    ] {
        machine.put(path, "theirs");
    }
    machine.put(
        "etc/systemd/system/kubelet.service",
        "[Service]\nExecStart=/usr/bin/kubelet\n",
    );
    let before = machine.snapshot();
    let told = was_reset(&machine, &["--data", "--keys"]);
    assert!(told.contains("this machine is not a node"), "{told}");
    assert_eq!(machine.snapshot(), before);
}

#[test]
fn half_a_node_goes_too() {
    let machine = lived_in();
    let before = tree(&machine.root());
    machine.installed(&[]);
    for path in ["opt/appliance", "var/lib/appliance", "etc/kubernetes/ca"] {
        fs::remove_dir_all(machine.root().join(path)).unwrap();
    }
    let wants = "etc/systemd/system/multi-user.target.wants/etcd.service";
    fs::remove_file(machine.root().join("etc/systemd/system/etcd.service")).unwrap();
    assert!(machine.root().join(wants).is_symlink());
    was_reset(&machine, &["--data", "--keys"]);
    let after = tree(&machine.root());
    let mut left = differences(&before, &after);
    // Without the record, it is not known who made a directory that others have, too.
    left.retain(|path| after.get(path).is_none_or(|(_, content)| content.is_some()));
    // It may have come with the image, or with the operator.
    assert_eq!(left, ["/usr/local/bin/appliance"]);
}

#[test]
fn what_came_with_the_image_stays_but_the_next_boot_installs_nothing() {
    let machine = lived_in();
    let unit = "etc/systemd/system/appliance-install.service";
    let link = "etc/systemd/system/multi-user.target.wants/appliance-install.service";
    let program = machine.root().join("usr/local/bin/appliance");
    fs::copy(env!("CARGO_BIN_EXE_appliance"), &program).unwrap();
    machine.put(
        unit,
        "[Service]\nExecStart=/usr/local/bin/appliance install\n",
    );
    symlink(
        "/etc/systemd/system/appliance-install.service",
        machine.root().join(link),
    )
    .unwrap();
    let told = was_reset(&machine, &[]);
    assert!(told.contains("this machine is not a node"), "{told}");
    let before = tree(&machine.root());
    machine.installed(&[]);
    was_reset(&machine, &["--data", "--keys"]);
    let mut changed = differences(&before, &tree(&machine.root()));
    // The installation replaced the program by its own.
    changed.retain(|path| path != "/usr/local/bin/appliance");
    assert_eq!(changed, [format!("/{link}")]);
    assert!(program.exists());
}

#[test]
fn a_path_for_the_copy_is_absolute() {
    let machine = Machine::new();
    machine.installed(&[]);
    let output = reset(&machine, &["--yes", "--keys", "--copy-to", "copies"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}

#[test]
fn status_tells_of_an_interrupted_run() {
    let machine = Machine::new();
    machine.installed(&[]);
    fs::copy(
        env!("CARGO_BIN_EXE_appliance"),
        machine.root().join("appliance"),
    )
    .unwrap();
    fs::remove_file(machine.root().join("var/lib/appliance/state.json")).unwrap();
    machine.put(
        "var/lib/appliance/run.json",
        r#"{"command": "install", "begun": "2026-01-02T03:04:05Z", "at": "2026-01-02T03:04:05Z",
            "step": 41, "of": 91, "what": "start etcd", "process": null}"#,
    );
    let status = Command::new("chroot")
        .arg(machine.root())
        .args(["/appliance", "status"])
        .output()
        .unwrap();
    let text = said(&status);
    assert!(
        text.contains("install was interrupted ") && text.contains("at step 41 of 91"),
        "{text}"
    );
    assert!(text.contains("run it again: `appliance install`"), "{text}");
    machine.installed(&[]);
    assert!(!machine.root().join("var/lib/appliance/run.json").exists());
}

#[test]
fn files_that_were_in_directories_of_the_node_before_stay() {
    let theirs = [
        "var/lib/kubelet/config.json",
        "var/lib/kubelet/mine/deep/file",
        "etc/kubernetes/addons/mine.yaml",
        "etc/calico/bird/mine.conf",
        "opt/appliance/shims/mine",
        "opt/appliance/mine/bin/tool",
        "var/lib/kube-proxy/mine",
        "var/log/containers/mine.log",
    ];
    let machine = Machine::new();
    for path in theirs {
        machine.put(path, "theirs");
    }
    let link = machine.root().join("usr/local/bin/tool");
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    symlink("/opt/appliance/mine/bin/tool", &link).unwrap();
    let before = tree(&machine.root());
    machine.installed(&["--role", "single"]);
    machine.put("var/lib/kubelet/pods/a/volumes/b/c", "a pod's");
    was_reset(&machine, &["--data", "--keys"]);
    assert_eq!(
        differences(&before, &tree(&machine.root())),
        Vec::<String>::new()
    );
}

#[test]
fn a_damaged_record_makes_it_remove_nothing_of_others() {
    let machine = Machine::new();
    machine.put("etc/shadow", "theirs");
    machine.put("srv/data", "theirs");
    machine.installed(&[]);
    let record = machine.read("var/lib/appliance/brought.json");
    let files =
        r#""files": ["/etc/shadow", "/srv/data", "/etc/kubernetes/../shadow", "/etc/systemd","#;
    let damaged = record.replacen(r#""files": ["#, files, 1);
    assert_ne!(damaged, record);
    machine.put("var/lib/appliance/brought.json", &damaged);
    was_reset(&machine, &["--data", "--keys"]);
    for path in ["etc/shadow", "srv/data"] {
        assert_eq!(machine.read(path), "theirs");
    }
}

#[test]
fn data_that_was_written_after_the_last_copy_is_copied_again() {
    let machine = Machine::new();
    machine.installed(&[]);
    machine.put(
        "var/backups/appliance-1.tar",
        "a copy of a run that was interrupted",
    );
    machine.put("var/lib/etcd/member/wal/0.wal", "acknowledged after it");
    let run = r#"{"command": "reset", "begun": "2026-11-30T00:00:00Z", "at": "2026-11-30T00:00:00Z", "step": 9,
        "of": 20, "what": "x", "process": null,
        "copy": {"path": "/var/backups/appliance-1.tar", "of": ["/var/lib/etcd", "/etc/kubernetes/ca"]}}"#;
    machine.put("var/lib/appliance/run.json", run);
    was_reset(&machine, &["--data", "--keys"]);
    let copies = fs::read_dir(machine.root().join("var/backups")).unwrap();
    assert_eq!(copies.count(), 2);
}
