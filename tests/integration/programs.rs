//! `appliance kubectl`, `etcdctl`, `calicoctl` and `logs`: the program gets what it needs, and everything that the user
//! typed.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::said;
use crate::living::Living;

/// Prints its arguments, and the variables that say where the cluster is.
const SHOW: &str = r#"#!/bin/sh
for argument; do echo "<$argument>"; done
for name in KUBECONFIG ETCDCTL_API ETCDCTL_ENDPOINTS ETCDCTL_CACERT ETCDCTL_CERT ETCDCTL_CA_FILE HTTPS_PROXY; do
    eval "value=\${$name-}"
    [ -z "$value" ] || echo "$name=$value"
done
exit 7
"#;

fn node(arguments: &[&str]) -> Living {
    let node = Living::new(arguments);
    for program in ["kubectl", "etcdctl", "calicoctl"] {
        let path = node
            .machine
            .root()
            .join("opt/appliance/current/bin")
            .join(program);
        fs::write(&path, SHOW).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let journalctl = node.machine.root().join("usr/bin/journalctl");
    fs::write(&journalctl, SHOW).unwrap();
    fs::set_permissions(journalctl, fs::Permissions::from_mode(0o755)).unwrap();
    node
}

#[track_caller]
fn assert_becomes(node: &Living, environment: &str, arguments: &[&str], expected: &[&str]) {
    let script =
        format!("export HTTPS_PROXY=http://proxy.example:3128 {environment}; appliance \"$@\"");
    let output = node.script(&script, arguments);
    assert_eq!(output.status.code(), Some(7), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_program_gets_its_credentials_and_every_argument() {
    let master = node(&[]);
    let kubeconfig = "KUBECONFIG=/etc/kubernetes/admin.kubeconfig";
    assert_becomes(
        &master,
        "KUBECONFIG=/root/another",
        &["kubectl", "get", "pods", "-o", "json", "--help", "a b"],
        &[
            "<get>", "<pods>", "<-o>", "<json>", "<--help>", "<a b>", kubeconfig,
        ],
    );
    assert_becomes(
        &master,
        "",
        &["etcdctl", "--cert", "mine.pem", "get", "x"],
        &[
            "<--cert>",
            "<mine.pem>",
            "<get>",
            "<x>",
            "ETCDCTL_API=3",
            "ETCDCTL_ENDPOINTS=https://127.0.0.1:2379",
            "ETCDCTL_CACERT=/etc/kubernetes/ca/etcd-ca/etcd-ca.pem",
        ],
    );
    assert_becomes(
        &master,
        "ETCDCTL_API=2",
        &["etcdctl", "ls"],
        &[
            "<ls>",
            "ETCDCTL_API=2",
            "ETCDCTL_ENDPOINTS=https://127.0.0.1:2379",
            "ETCDCTL_CA_FILE=/etc/kubernetes/ca/etcd-ca/etcd-ca.pem",
        ],
    );
    assert_becomes(
        &master,
        "",
        &["calicoctl", "get", "--help"],
        &["<get>", "<--help>"],
    );
}

#[test]
fn a_worker_has_no_credentials_of_the_admin() {
    let worker = node(&[
        "--role",
        "worker",
        "--profile",
        "simple",
        "--set",
        "master=192.168.1.104",
    ]);
    for program in ["kubectl", "etcdctl"] {
        let output = worker.run(&[program, "get"]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains("run this command on a master"));
    }
    assert_becomes(
        &worker,
        "",
        &["calicoctl", "node", "status"],
        &["<node>", "<status>"],
    );
}

#[test]
fn logs_are_those_of_the_services_that_were_named() {
    let master = node(&[]);
    assert_becomes(
        &master,
        "",
        &[
            "logs",
            "etcd",
            "appliance-renew",
            "install",
            "-f",
            "-n",
            "5",
            "--since",
            "-1h",
        ],
        &[
            "<--lines=5>",
            "<--unit=etcd.service>",
            "<--unit=appliance-renew.service>",
            "<--unit=appliance-renew.timer>",
            "<--unit=appliance-install.service>",
            "<--since=-1h>",
            "<--follow>",
        ],
    );
    let output = master.run(&["logs", "kubelett"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(
        said(&output).contains("kube-apiserver"),
        "{}",
        said(&output)
    );
}
