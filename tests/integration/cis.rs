//! `appliance check --cis` on the trees of new nodes, and the page of documentation with its results.
//!
//! `APPLIANCE_BLESS=1` writes the page again.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use appliance::cis::{Judged, document, judge};
use appliance::observe;
use appliance::sys::process::System;
use appliance::sys::root::Root;
use serde_json::Value;

use crate::harness::{Machine, said};

const API_SERVER: &str = "etc/systemd/system/kube-apiserver.service";
const KUBELET: &str = "etc/systemd/system/kubelet.service";

fn check(machine: &Machine, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(["check", "--cis", "--root"])
        .arg(machine.root())
        .args(arguments)
        .output()
        .unwrap()
}

/// A new node with this role and profile. A worker has certificates that were made by hand.
fn node(role: &str, profile: &str) -> Machine {
    let machine = Machine::new();
    let mut arguments = vec!["--role", role, "--profile", profile];
    if role == "worker" {
        if profile == "with-ca" {
            issue(&machine);
        }
        arguments.extend([
            "--set",
            "nodeName=server01",
            "--set",
            "address=192.168.1.101",
        ]);
        arguments.extend(["--set", "master=192.168.1.102"]);
    }
    machine.installed(&arguments);
    machine
}

/// Puts the certificates of a worker into the machine.
pub fn issue(machine: &Machine) {
    let dir = tempfile::tempdir().unwrap();
    for command in [
        "certs init --ca ca",
        "certs issue --ca ca --role worker --set nodeName=server01 --set address=192.168.1.101 \
         --set master=192.168.1.102 --output tree",
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_appliance"))
            .args(command.split_whitespace())
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
    let copied = Command::new("cp")
        .arg("-r")
        .arg(dir.path().join("tree/."))
        .arg(machine.root())
        .status();
    assert!(copied.unwrap().success());
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", said(output)))
}

/// The items with this result, each with what was found.
fn with_result(output: &Output, result: &str) -> BTreeMap<String, String> {
    let document = json(output);
    let items = document["items"].as_array().unwrap().iter();
    let items = items.filter(|item| item["result"] == result);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    items
        .map(|item| (text(&item["item"]), text(&item["found"])))
        .collect()
}

#[test]
fn a_new_node_fails_no_item() {
    for role in ["master", "worker", "single"] {
        let machine = node(role, "with-ca");
        let output = check(&machine, &["-o", "json"]);
        let failed = with_result(&output, "fail");
        assert!(failed.is_empty(), "{role}: {failed:?}");
        assert_eq!(output.status.code(), Some(0), "{role}");
        let document = json(&output);
        assert_eq!(document["sound"], true);
        let items = document["items"].as_array().unwrap();
        assert_eq!(items.len(), 131);
        let counted: u64 = document["summary"]
            .as_object()
            .unwrap()
            .values()
            .map(|count| count.as_u64().unwrap())
            .sum();
        assert_eq!(counted, 131);
        // Nothing passes or differs without a reason.
        for item in items.iter().filter(|item| item["result"] != "pass") {
            assert_ne!(item["why"], "", "{item}");
        }
        let passed = with_result(&output, "pass").len();
        let least = match role {
            "master" => 60,
            "worker" => 15,
            _ => 75,
        };
        assert!(passed >= least, "{role}: only {passed} pass");
    }
}

#[test]
fn a_changed_node_fails_the_items_that_changed() {
    let machine = node("single", "with-ca");
    let kubelet = machine.read(KUBELET);
    let loosened = kubelet
        .replace("--read-only-port=0", "--read-only-port=10255")
        .replace("  --protect-kernel-defaults=true \\\n", "");
    machine.put(KUBELET, &loosened);
    // A drop-in that overrides the unit.
    let unit = machine.read(API_SERVER);
    let start = unit.find("ExecStart=").unwrap();
    let command = unit[start..].split("\nTimeoutStartSec").next().unwrap();
    let command = command.replace("--anonymous-auth=false", "--anonymous-auth=true");
    machine.put(
        "etc/systemd/system/kube-apiserver.service.d/10-open.conf",
        &format!("[Service]\nExecStart=\n{command}\n"),
    );
    let cni = machine.root().join("etc/cni/net.d/10-calico.conf");
    fs::set_permissions(cni, fs::Permissions::from_mode(0o666)).unwrap();
    // Someone decrypts the secrets: new ones are stored as they are.
    let path = "etc/kubernetes/ca/kubernetes/encryption.yaml";
    let encryption = machine.read(path);
    let providers = encryption.replace("  providers:\n", "  providers:\n  - identity: {}\n");
    machine.put(path, &providers);
    let ca = machine.read("etc/kubernetes/ca/ca.pem");
    machine.put("etc/kubernetes/ca/etcd-ca/etcd-ca.pem", &ca);

    let output = check(&machine, &["-o", "json"]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let failed = with_result(&output, "fail");
    let numbers: Vec<&str> = failed.keys().map(String::as_str).collect();
    assert_eq!(
        numbers,
        ["1.1.1", "1.1.34", "1.4.9", "1.5.9", "2.1.5", "2.1.7"],
        "{failed:?}"
    );
    assert_eq!(failed["2.1.5"], "--read-only-port=10255");
    assert!(
        failed["1.4.9"].contains("10-calico.conf: 0666"),
        "{failed:?}"
    );
    let text = said(&check(&machine, &[]));
    assert!(text.contains("2.1.5") && text.contains("FAIL"), "{text}");
    assert!(text.contains("6 FAIL"), "{text}");
    let key = encryption.split("secret: ").nth(1).unwrap();
    let key = key.split_whitespace().next().unwrap();
    assert!(!text.contains(key) && !said(&output).contains(key));
}

#[test]
fn the_options_move_their_items() {
    let machine = Machine::new();
    machine.installed(&[
        "--set",
        "podSecurityPolicy=on",
        "--set",
        "alwaysPullImages=on",
    ]);
    let output = check(&machine, &["-o", "json"]);
    let passed = with_result(&output, "pass");
    for item in ["1.1.11", "1.1.24"] {
        assert!(passed.contains_key(item), "{item}: {}", said(&output));
    }
    let manual = with_result(&output, "manual");
    assert!(manual.contains_key("1.7.1"), "{manual:?}");
}

#[test]
fn the_profile_simple_fails_loudly() {
    for role in ["master", "worker", "single"] {
        let machine = node(role, "simple");
        let output = check(&machine, &[]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(text.contains("THIS NODE IS NOT HARDENED"), "{text}");
        assert!(text.contains("anyone who reaches this machine"), "{text}");
    }
}

#[test]
fn a_machine_that_is_no_node_is_not_judged() {
    let output = check(&Machine::new(), &[]);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
}

fn judged(machine: &Machine) -> Vec<Judged> {
    let root = Root::open(&machine.root()).unwrap();
    let state = observe::records::state(&root).unwrap().unwrap();
    judge(&observe::cis::read(&root, &System, &state).unwrap())
}

/// The results of two nodes, each for the items of its own kind.
fn of_both(master: &Machine, worker: &Machine) -> Vec<Judged> {
    let own = judged(master).into_iter().zip(judged(worker));
    own.map(|(master, worker)| match master.item.starts_with("2.") {
        true => worker,
        false => master,
    })
    .collect()
}

#[test]
fn the_documentation_has_the_results_of_new_nodes() {
    let results = |profile| of_both(&node("master", profile), &node("worker", profile));
    let (with_ca, simple) = (results("with-ca"), results("simple"));
    // One node with both roles answers the same.
    let single = judged(&node("single", "with-ca"));
    let brief =
        |all: &[Judged]| -> Vec<_> { all.iter().map(|one| (one.item, one.result)).collect() };
    assert_eq!(brief(&single), brief(&with_ca));

    let page = document(&with_ca, &simple);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cis.md");
    if std::env::var_os("APPLIANCE_BLESS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/cis.md is not what new nodes answer; write it again: APPLIANCE_BLESS=1 cargo test --test integration \
         cis::"
    );
    for line in page.lines().filter(|line| line.starts_with('|')) {
        let cells = line.matches('|').count();
        assert!([3, 4, 6].contains(&cells), "a broken row: {line}");
    }
}
