//! What `image prepare` puts in and takes out, and what `image check` finds.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use appliance::commands::man;

use super::bed::{TRACES, checked, failed, prepare, system, used};
use crate::harness::{Machine, said};

fn prepared(machine: &Machine) -> String {
    let output = prepare(machine);
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

#[test]
fn a_machine_that_has_run_becomes_an_image() {
    let machine = used();
    let before = checked(&machine.root());
    for (check, path, _) in TRACES {
        assert!(
            failed(&before).contains(&check.to_string()),
            "{path}: {before:#}"
        );
    }
    prepared(&machine);
    let document = checked(&machine.root());
    assert_eq!(document["sound"], true, "{document:#}");
    assert_eq!(machine.read("etc/machine-id"), "");
    assert_eq!(machine.read("etc/hostname"), "localhost\n");
    assert_eq!(
        machine.read("etc/shadow"),
        "root:*:1:0:99999:7:::\ndebian:!:1:0:99999:7:::\n"
    );
    assert_eq!(
        machine.read("etc/iscsi/initiatorname.iscsi"),
        "GenerateName=yes\n"
    );
    // Programs that log go on only where the file is.
    assert_eq!(machine.read("var/log/syslog"), "");
    for kept in [
        "var/lib/cloud/seed/nocloud/meta-data",
        "etc/ssh/sshd_config",
        "var/log/journal",
    ] {
        assert!(machine.root().join(kept).exists(), "{kept}");
    }
}

#[test]
fn an_image_has_the_manual_pages() {
    let machine = system();
    prepared(&machine);
    for (name, page) in man::pages().unwrap() {
        let installed = format!("usr/local/share/man/man1/{name}");
        assert_eq!(machine.read(&installed).as_bytes(), page, "{name}");
        assert_eq!(machine.mode(&installed), 0o644, "{name}");
    }
    assert!(
        machine
            .read("usr/local/share/man/man1/appliance.1")
            .contains(".SH EXAMPLES")
    );
}

#[test]
fn a_second_run_unpacks_nothing_and_a_cut_one_goes_on() {
    let machine = system();
    prepared(&machine);
    let kubelet = machine.root().join("opt/appliance/current/bin/kubelet");
    let inode = fs::metadata(&kubelet).unwrap().ino();
    machine.put("tmp/left", "x");
    let again = prepared(&machine);
    assert!(!again.contains("unpack the bundle"), "{again}");
    assert_eq!(fs::metadata(&kubelet).unwrap().ino(), inode);
    fs::write(&kubelet, "cut").unwrap();
    assert_eq!(failed(&checked(&machine.root())), ["bundle"]);
    prepared(&machine);
    assert_eq!(checked(&machine.root())["sound"], true);
}

#[test]
fn a_node_of_a_cluster_is_refused_before_anything_is_changed() {
    for path in [
        "etc/kubernetes/ca/ca-key.pem",
        "etc/kubernetes/admin.kubeconfig",
        "etc/kubernetes/pki/ca.key",
        "var/lib/etcd/member/snap/db",
        "var/lib/etcd.simple-2026-01-01/member/snap/db",
        "var/lib/kubelet/pki/kubelet.key",
        "var/lib/appliance/state.json",
    ] {
        let machine = used();
        machine.put(path, "{}");
        let before = machine.snapshot();
        let output = prepare(&machine);
        assert_eq!(output.status.code(), Some(2), "{path}: {}", said(&output));
        assert!(
            said(&output).contains("node of a cluster already"),
            "{}",
            said(&output)
        );
        assert_eq!(machine.snapshot(), before, "{path}");
    }
}

#[test]
fn every_reason_against_an_image_is_told_at_once() {
    let machine = system();
    fs::remove_file(machine.root().join("usr/bin/cloud-init")).unwrap();
    fs::remove_file(machine.root().join("usr/bin/socat")).unwrap();
    machine.put("etc/kubernetes/ca/ca.pem", "");
    let before = machine.snapshot();
    let refusal = said(&prepare(&machine));
    for reason in [
        "cloud-init is missing",
        "install socat",
        "/etc/kubernetes/ca/ca.pem",
    ] {
        assert!(refusal.contains(reason), "{refusal}");
    }
    assert_eq!(machine.snapshot(), before);
}

#[test]
fn each_trace_alone_fails_its_own_check_and_no_other() {
    let machine = system();
    prepared(&machine);
    for (check, path, content) in TRACES {
        let at = machine.root().join(path);
        let before = fs::read(&at).ok();
        machine.put(path, content);
        let document = checked(&machine.root());
        assert_eq!(failed(&document), [*check], "{path}: {document:#}");
        let row = document["checks"]
            .as_array()
            .unwrap()
            .iter()
            .find(|c| c["check"] == *check);
        assert!(!row.unwrap()["hint"].as_str().unwrap().is_empty());
        // Directories that stay behind are no trace, except of those that go as a whole.
        match before {
            Some(before) => fs::write(&at, before).unwrap(),
            None if path.contains("journal") || path.contains("cloud/data") => {
                fs::remove_dir_all(at.parent().unwrap()).unwrap();
            }
            None => fs::remove_file(&at).unwrap(),
        }
    }
    assert_eq!(checked(&machine.root())["sound"], true);
}

#[test]
fn what_an_image_lacks_is_told() {
    let machine = system();
    let nothing_yet = ["bundle", "container images", "appliance", "first boot"];
    assert_eq!(failed(&checked(&machine.root())), nothing_yet);
    prepared(&machine);
    let root = machine.root();
    let fails = |check: &str| {
        let document = checked(&root);
        assert_eq!(failed(&document), [check], "{document:#}");
        prepared(&machine);
        assert_eq!(checked(&root)["sound"], true);
    };
    fs::remove_file(root.join("opt/appliance/current/images/pause.tar")).unwrap();
    fails("container images");
    fs::remove_file(
        root.join("etc/systemd/system/multi-user.target.wants/appliance-install.service"),
    )
    .unwrap();
    fails("first boot");
    machine.put("etc/systemd/system/appliance-install.service", "[Unit]\n");
    fails("first boot");
    let program = root.join("usr/local/bin/appliance");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).unwrap();
    fails("appliance");
    machine.put("usr/local/bin/appliance", "#!/bin/sh\n");
    fails("appliance");
}

#[test]
fn a_damaged_program_of_the_right_size_is_found() {
    let machine = system();
    prepared(&machine);
    let etcd = machine.root().join("opt/appliance/current/bin/etcd");
    let mut bytes = fs::read(&etcd).unwrap();
    bytes[100] ^= 1;
    fs::write(&etcd, bytes).unwrap();
    assert_eq!(failed(&checked(&machine.root())), ["bundle"]);
}

#[test]
fn no_link_in_an_image_leads_the_cleaning_out_of_it() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("ssh_host_rsa_key"), "mine").unwrap();
    fs::write(outside.path().join("syslog"), "mine").unwrap();
    let machine = system();
    fs::remove_dir_all(machine.root().join("var/log")).unwrap();
    fs::remove_dir_all(machine.root().join("etc/ssh")).unwrap();
    symlink(outside.path(), machine.root().join("var/log")).unwrap();
    symlink(outside.path(), machine.root().join("etc/ssh")).unwrap();
    // Up more often than there are directories, as a link in a hostile image may go.
    let up = format!("{}{}", "../".repeat(30), outside.path().display());
    symlink(up, machine.root().join("var/tmp")).unwrap();
    prepared(&machine);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 2);
    assert_eq!(fs::read(outside.path().join("syslog")).unwrap(), b"mine");
}

#[test]
fn the_first_boot_of_an_image_unpacks_nothing_again() {
    let machine = system();
    prepared(&machine);
    let unpacked = machine.root().join("opt/appliance");
    let files = |dir: &std::path::Path| -> Vec<(u64, i64)> {
        let mut all = Vec::new();
        for name in [
            "current/bin/etcd",
            "current/bin/kubelet",
            "current/images/pause.tar",
        ] {
            let metadata = fs::metadata(dir.join(name)).unwrap();
            all.push((metadata.ino(), metadata.ctime_nsec()));
        }
        all
    };
    let before = files(&unpacked);
    // The payload of the harness is the one that was baked in.
    let said = machine.installed(&[]);
    assert!(!said.contains("unpack"), "{said}");
    assert!(said.contains("changes made"), "{said}");
    assert_eq!(files(&unpacked), before);
}
