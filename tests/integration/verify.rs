//! `appliance verify` below a directory: what differs from what was installed is found, and nothing else.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;
use std::process::{Command, Output};

use appliance::sys::lock::{Lock, Patience};
use appliance::sys::root::Root;
use serde_json::Value;

use crate::harness::{Machine, document, said};

mod live;

fn verify(machine: &Machine, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(["verify", "--root"])
        .arg(machine.root())
        .args(arguments)
        .output()
        .unwrap()
}

/// A machine that was installed, and is as it was.
fn installed() -> Machine {
    let machine = Machine::new();
    machine.installed(&[]);
    let before = machine.snapshot();
    let output = verify(&machine, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(machine.snapshot(), before, "{}", said(&output));
    machine
}

/// Nothing differs from what was installed, or noted since.
pub fn assert_as_installed(machine: &Machine) {
    let output = verify(machine, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

/// The only difference of the machine.
fn difference(machine: &Machine) -> Value {
    let output = verify(machine, &["-o", "json"]);
    assert_eq!(output.status.code(), Some(7), "{}", said(&output));
    let document = document(&output);
    assert_eq!(document["asInstalled"], false);
    let all = document["differences"].as_array().unwrap();
    assert_eq!(all.len(), 1, "{document}");
    all[0].clone()
}

fn assert_difference(machine: &Machine, kind: &str, name: &str, problem: &str) {
    let found = difference(machine);
    assert_eq!(found["kind"], kind, "{found}");
    assert_eq!(found["name"], name, "{found}");
    assert!(
        found["problem"].as_str().unwrap().contains(problem),
        "{found}"
    );
    assert!(!found["fix"].as_str().unwrap().is_empty(), "{found}");
}

/// Changes one bit of a file in place.
fn flip(path: &PathBuf) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn bundle(machine: &Machine) -> PathBuf {
    let bundles = machine.root().join("opt/appliance");
    bundles.join(fs::read_link(bundles.join("current")).unwrap())
}

#[test]
fn a_flipped_bit_in_each_program_and_image_is_found_and_the_command_against_it_works() {
    let machine = installed();
    let directory = bundle(&machine);
    for (path, fix) in [
        ("bin/kubelet", None),
        ("bin/etcd", Some("systemctl restart etcd")),
        ("images/pause.tar", None),
    ] {
        flip(&directory.join(path));
        let found = difference(&machine);
        let name = found["name"].as_str().unwrap().to_owned();
        assert!(name.ends_with(path), "{found}");
        assert_eq!(found["kind"], "program");
        assert_eq!(
            found["problem"],
            "its bytes are not those that were installed"
        );
        let advice = found["fix"].as_str().unwrap();
        assert!(
            advice.starts_with(&format!("rm -f {name} && appliance install")),
            "{advice}"
        );
        assert!(fix.is_none_or(|fix| advice.ends_with(fix)), "{advice}");
        fs::remove_file(machine.root().join(&name[1..])).unwrap();
        machine.installed(&[]);
        assert_as_installed(&machine);
    }
    flip(&directory.join("manifest.json"));
    let found = difference(&machine);
    assert!(
        found["name"].as_str().unwrap().ends_with("/manifest.json"),
        "{found}"
    );
}

#[test]
fn a_flipped_bit_in_the_program_itself_is_found() {
    let machine = installed();
    flip(&machine.root().join("usr/local/bin/appliance"));
    let found = difference(&machine);
    assert_eq!(found["name"], "/usr/local/bin/appliance");
    assert_eq!(found["fix"], "./appliance install");
}

#[test]
fn a_changed_unit_a_missing_file_another_mode_and_another_owner_are_found() {
    let machine = installed();
    let unit = "etc/systemd/system/etcd.service";
    let path = machine.root().join(unit);
    let text = machine.read(unit);
    machine.put(
        unit,
        &text.replace("--data-dir=/var/lib/etcd", "--data-dir=/srv"),
    );
    assert_ne!(machine.read(unit), text);
    assert_difference(
        &machine,
        "file",
        &format!("/{unit}"),
        "its content was changed",
    );
    machine.put(unit, &text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    assert_difference(
        &machine,
        "file",
        &format!("/{unit}"),
        "its mode is 0666, not 0644",
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    chown(&path, Some(42), None).expect("this test needs root");
    assert_difference(
        &machine,
        "file",
        &format!("/{unit}"),
        "belongs to another user",
    );
    // An installation writes it again, as its own.
    machine.installed(&[]);
    assert_as_installed(&machine);
    fs::remove_file(&path).unwrap();
    assert_difference(&machine, "file", &format!("/{unit}"), "missing");
}

#[test]
fn a_masked_unit_another_link_and_a_directory_for_everyone_are_found() {
    let machine = installed();
    let unit = machine
        .root()
        .join("etc/systemd/system/kube-scheduler.service");
    fs::remove_file(&unit).unwrap();
    symlink("/dev/null", &unit).unwrap();
    assert_difference(
        &machine,
        "file",
        "/etc/systemd/system/kube-scheduler.service",
        "missing",
    );
    fs::remove_file(&unit).unwrap();
    machine.installed(&[]);

    let link = machine.root().join("usr/local/bin/kubectl");
    fs::remove_file(&link).unwrap();
    symlink("/usr/bin/false", &link).unwrap();
    assert_difference(
        &machine,
        "link",
        "/usr/local/bin/kubectl",
        "it leads to /usr/bin/false",
    );
    machine.installed(&[]);

    let directory = machine.root().join("var/lib/etcd");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    assert_difference(
        &machine,
        "directory",
        "/var/lib/etcd",
        "its mode is 0755, not 0700",
    );
}

#[test]
fn only_this_programs_part_of_a_file_of_others_is_compared() {
    let machine = installed();
    let hosts = machine.read("etc/hosts");
    machine.put("etc/hosts", &format!("10.0.0.9 mine\n{hosts}"));
    assert_as_installed(&machine);
    machine.put("etc/hosts", &hosts.replace("server02", "other"));
    assert_difference(&machine, "file", "/etc/hosts", "part was changed");
    machine.put("etc/hosts", "127.0.0.1 localhost\n");
    assert_difference(&machine, "file", "/etc/hosts", "part is missing");
}

#[test]
fn a_drop_in_of_others_is_told_and_is_no_difference() {
    let machine = installed();
    let ours = "etc/systemd/system/docker.service.d/appliance-forward.conf";
    assert!(machine.root().join(ours).exists());
    for path in [
        "etc/systemd/system/etcd.service.d/limits.conf",
        "run/systemd/system/kube-.service.d/all.conf",
        "etc/systemd/system/docker.service.d/proxy.conf",
    ] {
        machine.put(path, "[Service]\nEnvironment=PASSWORD=hunter2\n");
    }
    let output = verify(&machine, &["-o", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let document = document(&output);
    let told: Vec<(&str, &str)> = document["dropIns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["unit"].as_str().unwrap(), one["path"].as_str().unwrap()))
        .collect();
    assert!(
        told.contains(&(
            "etcd.service",
            "/etc/systemd/system/etcd.service.d/limits.conf"
        )),
        "{document}"
    );
    assert!(
        told.contains(&(
            "kube-apiserver.service",
            "/run/systemd/system/kube-.service.d/all.conf"
        )),
        "{document}"
    );
    assert!(
        told.iter().all(|(unit, _)| *unit != "docker.service"),
        "{document}"
    );
    let text = said(&verify(&machine, &[]));
    assert!(
        text.contains("limits.conf") && !text.contains("hunter2"),
        "{text}"
    );
}

#[test]
fn the_timer_gets_one_line_without_secrets() {
    let machine = installed();
    let line = |expected: i32| {
        let output = verify(&machine, &["--brief"]);
        assert_eq!(output.status.code(), Some(expected), "{}", said(&output));
        let text = said(&output);
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    };
    assert!(line(0).starts_with("all "));
    let token = "etc/kubernetes/ca/kubernetes/token.csv";
    let secret = machine.read(token);
    machine.put(token, &format!("hunter2{secret}"));
    let text = line(7);
    assert!(
        text.contains("file /etc/kubernetes/ca/kubernetes/token.csv: its content was changed"),
        "{text}"
    );
    assert!(
        !text.contains("hunter2") && !text.contains(secret.split(',').next().unwrap()),
        "{text}"
    );
}

#[test]
fn no_node_is_4_another_run_is_5_and_no_record_is_1() {
    let machine = Machine::new();
    assert_eq!(verify(&machine, &[]).status.code(), Some(4));
    machine.installed(&[]);
    let root = Root::open(&machine.root()).unwrap();
    let lock = Lock::take(&root, Patience::None).unwrap();
    let output = verify(&machine, &[]);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    drop(lock);
    fs::remove_file(machine.root().join("var/lib/appliance/written.json")).unwrap();
    let output = verify(&machine, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("run `appliance install`, which writes it"),
        "{}",
        said(&output)
    );
    machine.installed(&[]);
    assert_as_installed(&machine);
}

#[test]
fn what_an_installation_renews_is_no_difference() {
    let machine = installed();
    fs::remove_file(machine.root().join("etc/kubernetes/ca/etcd/etcd.pem")).unwrap();
    machine.installed(&["--set", "mtu=1400"]);
    assert_as_installed(&machine);
}
