//! From the tutorial's first cluster to its second.

use std::fs;
use std::process::Output;

use crate::harness::{Machine, payload, said};

fn convert(machine: &Machine, arguments: &[&str]) -> Output {
    let mut convert = machine.command("convert", &payload(), arguments);
    convert.output().unwrap()
}

#[test]
fn a_simple_node_says_what_goes_and_asks() {
    let machine = Machine::new();
    machine.installed(&["--profile", "simple"]);
    let before = machine.snapshot();
    let refusal = machine.refusal(&["--profile", "with-ca"]);
    assert!(
        refusal.contains("run `appliance convert`: it asks first, takes the old cluster down"),
        "{refusal}"
    );
    let shown = convert(&machine, &["--profile", "with-ca", "--dry-run"]);
    assert!(shown.status.success(), "{}", said(&shown));
    for step in [
        "stop kube-apiserver",
        "rename /var/lib/etcd to /var/lib/etcd.simple-",
    ] {
        assert!(said(&shown).contains(step), "{}", said(&shown));
    }
    let nobody = convert(&machine, &["--profile", "with-ca"]);
    assert_eq!(nobody.status.code(), Some(2), "{}", said(&nobody));
    assert!(said(&nobody).contains("standard input is not a terminal; use --yes"));
    assert_eq!(machine.snapshot(), before);
}

#[test]
fn what_is_not_simple_is_not_converted() {
    let machine = Machine::new();
    assert_eq!(convert(&machine, &[]).status.code(), Some(4));
    machine.installed(&[]);
    let output = convert(&machine, &["--yes"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("`convert` only changes a node of profile simple to with-ca"),
        "{}",
        said(&output)
    );
    let refusal = machine.refusal(&["--profile", "simple"]);
    assert!(
        refusal.contains("a node with certificates cannot go back to profile simple"),
        "{refusal}"
    );
}

/// When `convert` begins the installation, it has removed the record of the node, and what a kubelet would take for its
/// certificate. The units of the former node are still there.
#[test]
fn a_worker_that_was_taken_down_gets_certificates() {
    let machine = Machine::new();
    let worker = |profile| {
        [
            "--role",
            "worker",
            "--set",
            "master=192.168.1.101",
            "--profile",
            profile,
        ]
    };
    machine.installed(&worker("simple"));
    let refusal = machine.refusal(&worker("with-ca"));
    assert!(refusal.contains("run `appliance convert`"), "{refusal}");
    for gone in [
        "etc/kubernetes/kubelet.kubeconfig",
        "var/lib/appliance/state.json",
    ] {
        fs::remove_file(machine.root().join(gone)).unwrap();
    }
    let planned = machine.planned(&worker("with-ca"));
    assert!(planned.contains("kubelet-client.pem"), "{planned}");
}
