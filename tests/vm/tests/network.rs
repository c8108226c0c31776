//! Tests the VMs' network without VMs. Needs root.

// A test that cannot continue panics with the place.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use appliance_vm::drive::{Addressing, ConfigDrive};
use appliance_vm::network::{Network, Port};
use nix::sched::{CloneFlags, setns};

/// Within this time a packet arrives, or it is lost.
const ARRIVES: Duration = Duration::from_secs(1);

/// Asks for the metadata of the server that asks.
const ASK: &str = "exec 3<>/dev/tcp/169.254.169.254/80; \
    printf 'GET /openstack/latest/meta_data.json HTTP/1.1\\r\\n\\r\\n' >&3; cat <&3";

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
    let network = Network::create(&[&server]).unwrap();
    let other = Network::create(&[&server]).unwrap();
    assert_ne!(network.namespace(), other.namespace());
    let port = network.plug(&server).unwrap();

    let answer = said(&port, ASK);
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

/// A network namespace with one end of a link, in place of a VM. It goes when it is dropped.
struct Vm {
    namespace: String,
}

impl Vm {
    /// Plugs the other end of the link into the bridge in place of the TAP device of `server`.
    fn plug(network: &Network, server: &ConfigDrive, number: u8) -> (Vm, Port) {
        let port = network.plug(server).unwrap();
        let vm = Vm {
            namespace: format!("appliance-test-{}-{number}", std::process::id()),
        };
        let (cloud, own) = (network.namespace(), vm.namespace.as_str());
        let tap = format!("tap-{}", server.name);
        ip(&["netns", "add", own]);
        ip(&["-n", cloud, "link", "del", &tap]);
        ip(&[
            "-n", cloud, "link", "add", &tap, "type", "veth", "peer", "name", "ens3", "netns", own,
        ]);
        ip(&["-n", cloud, "link", "set", &tap, "master", "cloud", "up"]);
        ip(&[
            "-n",
            own,
            "link",
            "set",
            "ens3",
            "address",
            &server.mac,
            "up",
        ]);
        let address = format!("{}/24", server.address);
        ip(&["-n", own, "address", "add", &address, "dev", "ens3"]);
        let pod = format!("172.20.{number}.1/32");
        ip(&["-n", own, "link", "set", "lo", "up"]);
        ip(&["-n", own, "address", "add", &pod, "dev", "lo"]);
        (vm, port)
    }

    /// A socket inside, at this address.
    fn socket(&self, address: &str) -> UdpSocket {
        let namespace = File::open(path(&self.namespace)).unwrap();
        let open = || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            UdpSocket::bind((address, 0)).unwrap()
        };
        let socket = thread::scope(|scope| scope.spawn(open).join().unwrap());
        socket.set_read_timeout(Some(ARRIVES)).unwrap();
        socket
    }

    /// Whether a packet from its address `from` arrives at the address `to` of another VM, and an answer
    /// comes back.
    fn reaches(&self, from: &str, other: &Vm, to: &str) -> bool {
        let (own, its) = (self.socket(from), other.socket(to));
        own.send_to(b"?", its.local_addr().unwrap()).unwrap();
        let mut byte = [0];
        let Ok((_, sender)) = its.recv_from(&mut byte) else {
            return false;
        };
        its.send_to(b"!", sender).unwrap();
        own.recv_from(&mut byte).is_ok()
    }

    /// Adds a route to the pods of another node.
    fn route(&self, arguments: &[&str]) {
        ip(&[&["-n", &self.namespace, "route", "replace"], arguments].concat());
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        ip(&["netns", "delete", &self.namespace]);
    }
}

#[test]
fn a_port_sends_from_its_own_address_and_its_address_pairs_only() {
    let servers = [1, 3].map(|number| ConfigDrive {
        addressing: Addressing::Dhcp,
        ..ConfigDrive::of_tutorial(number, "worker", "#cloud-config\n{}\n")
    });
    let [one, three] = &servers;
    let network = Network::create(&[one, three]).unwrap();
    let ((first, first_port), (second, second_port)) =
        (Vm::plug(&network, one, 1), Vm::plug(&network, three, 3));
    first.route(&["172.20.3.0/24", "via", &three.address]);
    second.route(&["172.20.1.0/24", "via", &one.address]);

    for (vm, server) in [(&first, one), (&second, three)] {
        vm.route(&["169.254.169.254", "via", "192.168.1.2"]);
        let answer = ip(&["netns", "exec", &vm.namespace, "bash", "-c", ASK]);
        let answer = String::from_utf8(answer.stdout).unwrap();
        assert!(answer.contains(&server.uuid), "{answer}");
    }

    let nodes = || first.reaches(&one.address, &second, &three.address);
    let pods = || first.reaches("172.20.1.1", &second, "172.20.3.1");
    assert!(nodes() && !pods());
    assert!(!first.reaches("172.20.1.1", &second, &three.address));
    // Both directions need a pair.
    first_port.allow(&["172.20.0.0/16"]).unwrap();
    assert!(!pods());
    second_port.allow(&["172.20.0.0/16"]).unwrap();
    assert!(pods());
    for port in [&first_port, &second_port] {
        port.forbid(&["172.20.0.0/16"]).unwrap();
    }
    assert!(nodes() && !pods());
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
    let network = Network::create(&[&server]).unwrap();
    assert!(!path(&leftover).exists());
    // It waits for input until it is killed.
    assert!(!vm.wait().unwrap().success());
    assert!(path(&foreign).exists());
    ip(&["netns", "delete", &foreign]);
    drop(network);
}
