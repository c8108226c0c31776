//! Tests the VMs' network without VMs. Needs root.

// A test that cannot continue panics with the place.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use appliance_vm::drive::{Addressing, ConfigDrive};
use appliance_vm::network::{Network, Port};

fn server() -> ConfigDrive {
    ConfigDrive {
        addressing: Addressing::Dhcp,
        ..ConfigDrive::of_tutorial(3, "worker", "#cloud-config\n{}\n")
    }
}

fn path(namespace: &str) -> PathBuf {
    Path::new("/run/netns").join(namespace)
}

fn ip(arguments: &[&str]) -> Output {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    output
}

/// The output of a shell command in the network's namespace.
fn said(port: &Port, command: &str) -> String {
    let output = port.command("bash").args(["-c", command]).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn a_network_serves_metadata_leads_nowhere_and_goes_without_a_trace() {
    let server = server();
    let network = Network::create(&[&server], &server).unwrap();
    let other = Network::create(&[&server], &server).unwrap();
    assert_ne!(network.namespace(), other.namespace());
    let port = network.plug(&server).unwrap();

    let ask = "exec 3<>/dev/tcp/169.254.169.254/80; \
               printf 'GET /openstack/latest/meta_data.json HTTP/1.1\\r\\n\\r\\n' >&3; cat <&3";
    let answer = said(&port, ask);
    assert!(answer.contains(&server.uuid), "{answer}");
    assert!(answer.contains("\"role\":\"worker\""), "{answer}");

    let outside = said(&port, "LC_ALL=C ip route get 192.0.2.1");
    assert!(outside.contains("unreachable"), "{outside}");
    assert_eq!(said(&port, "cat /proc/sys/net/ipv4/ip_forward"), "0\n");

    let state = |port: &Port| said(port, "cat /sys/class/net/tap-server03/flags");
    let plugged = state(&port);
    port.cut().unwrap();
    assert_ne!(state(&port), plugged);
    port.restore().unwrap();
    assert_eq!(state(&port), plugged);

    let namespaces = [network.namespace(), other.namespace()].map(path);
    assert!(namespaces.iter().all(|path| path.exists()));
    drop((network, other));
    assert!(!namespaces.iter().any(|path| path.exists()));
}

#[test]
fn what_a_killed_run_left_is_removed_with_its_processes() {
    // The ID of a process that has ended.
    let mut ended = Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    let leftover = format!("appliance-vm-{}-0", ended.id());
    ip(&["netns", "add", &leftover]);
    let mut vm = Command::new("ip")
        .args(["netns", "exec", &leftover, "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let foreign = format!("appliance-test-{}", ended.id());
    ip(&["netns", "add", &foreign]);

    let server = server();
    let network = Network::create(&[&server], &server).unwrap();
    assert!(!path(&leftover).exists());
    // It waits for input until it is killed.
    assert!(!vm.wait().unwrap().success());
    assert!(path(&foreign).exists());
    ip(&["netns", "delete", &foreign]);
    drop(network);
}
