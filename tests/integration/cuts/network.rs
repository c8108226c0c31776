//! A network for the commands: an interface with the addresses of the tutorial's machines, and nothing else.

use std::fs::File;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::OnceLock;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use crate::harness::said;

/// The address of the machine on which commands run.
pub const OWN: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 102);
/// The address of another machine.
pub const OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 101);

/// Moves this thread, and what it starts, into the network, which is made once. This needs root.
pub fn enter() {
    static NETWORK: OnceLock<File> = OnceLock::new();
    let network = NETWORK.get_or_init(|| thread::spawn(made).join().unwrap());
    setns(network, CloneFlags::CLONE_NEWNET).unwrap();
}

/// Moves this thread, and what it starts, into such a network of its own: for commands that look for free ports, which a
/// scene may use at the same time.
pub fn enter_alone() {
    let network = thread::spawn(made).join().unwrap();
    setns(network, CloneFlags::CLONE_NEWNET).unwrap();
}

fn made() -> File {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network of its own needs root");
    for line in [
        "link set lo up".to_owned(),
        "link add eth0 type veth peer name peer0".to_owned(),
        format!("addr add {OWN}/24 dev eth0"),
        format!("addr add {OTHER}/24 dev eth0"),
        "link set eth0 up".to_owned(),
        "link set peer0 up".to_owned(),
        "route add default via 192.168.1.1".to_owned(),
    ] {
        let output = Command::new("ip").args(line.split(' ')).output().unwrap();
        assert!(output.status.success(), "{line}: {}", said(&output));
    }
    File::open("/proc/thread-self/ns/net").unwrap()
}
