//! Genuine iptables, nftables and the kernel decide which packets reach a node; `preflight` says the same.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{self, Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::harness::said;

const NODE: &str = "192.0.2.11";
const OTHER: &str = "192.0.2.12";
/// Ports of a worker at which a service listens in this test.
const PORTS: [u16; 2] = [179, 10250];
/// How long a packet may take that is not dropped.
const PATIENCE: Duration = Duration::from_secs(2);
/// Rules in either backend of iptables, `@` is the program; and those of nftables.
const RULES: &[&str] = &[
    "true",
    "@ -P INPUT DROP",
    "@ -A INPUT -j REJECT",
    "@ -P INPUT DROP; @ -A INPUT -i lo -j ACCEPT; @ -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT; \
     @ -A INPUT -p tcp --dport 22 -j ACCEPT",
    "@ -P INPUT DROP; @ -A INPUT -p tcp -m multiport --dports 22,170:180 -j ACCEPT",
    "@ -A INPUT -p tcp --syn --dport 10250 -m comment --comment 'no \"kubelet\" here -j ACCEPT' -j DROP",
    "@ -N own; @ -A own -p tcp --dport 179 -j RETURN; @ -A own -p tcp -j REJECT; @ -A INPUT -j own",
    "@ -N own; @ -A own -p tcp --dport 179 -j ACCEPT; @ -A INPUT -g own; @ -A INPUT -j ACCEPT; @ -P INPUT DROP",
    "@ -t raw -A PREROUTING -p tcp --dport 179 -j DROP",
    "@ -t mangle -A INPUT -d 192.0.2.11 -p tcp ! --dport 179 -j DROP",
    "@ -A INPUT -d 192.0.2.99 -j DROP",
    "@ -A INPUT -m conntrack --ctstate NEW -p tcp --dport 1:1024 -j REJECT",
    "@ -A INPUT ! -i lo -m addrtype --dst-type LOCAL -p tcp --dport 10250 -j DROP",
];
const TABLES: &[&str] = &[
    "chain i { type filter hook input priority 0; policy drop; iif lo accept; ct state established,related accept; tcp dport 22 accept; }",
    "chain i { type filter hook input priority 0; policy drop; ct state vmap { established: accept, invalid: drop }; tcp dport { 22, 170-180 } accept; }",
    "chain i { type filter hook input priority 0; meta l4proto tcp th dport 10250 counter reject; }",
    "set s { type inet_service; flags interval; elements = { 100-200 }; } chain i { type filter hook input priority 0; tcp dport @s drop; }",
    "chain o { tcp dport 179 accept; drop; } chain i { type filter hook input priority 0; iifname vmap { lo: accept }; meta nfproto ipv4 jump o; }",
    "chain o { tcp dport 179 return; ip daddr 192.0.2.11 drop; } chain i { type filter hook input priority 0; goto o; }",
    "chain p { type filter hook prerouting priority -300; ip protocol tcp tcp dport != 179 drop; }",
    "chain i { type filter hook input priority 0; policy drop; } chain f { type filter hook forward priority 0; policy drop; }",
    "chain f { type filter hook forward priority 0; policy drop; }",
    "chain i { type filter hook input priority 0; fib daddr type local tcp dport vmap { 179: drop, 10250: accept }; }",
];

/// The namespaces of a node and of another machine in its network, until they are dropped.
struct Pair([String; 2]);

impl Pair {
    fn new() -> Pair {
        static PAIRS: AtomicUsize = AtomicUsize::new(0);
        let id = format!(
            "{}-{}",
            process::id(),
            PAIRS.fetch_add(1, Ordering::Relaxed)
        );
        let pair = Pair(["node", "other"].map(|name| format!("appliance-wall-{name}-{id}")));
        let [node, other] = &pair.0;
        for name in &pair.0 {
            ip(&format!("netns add {name}"));
            ip(&format!("-n {name} link set lo up"));
        }
        ip(&format!(
            "-n {node} link add eth0 type veth peer name eth0 netns {other}"
        ));
        for (name, address) in [(node, NODE), (other, OTHER)] {
            ip(&format!("-n {name} address add {address}/24 dev eth0"));
            ip(&format!("-n {name} link set eth0 up"));
        }
        pair
    }

    /// Runs a program in the namespace of the node.
    fn run(&self, words: &[&str]) -> Output {
        let words = [&["netns", "exec", self.0[0].as_str()], words].concat();
        Command::new("ip").args(words).output().unwrap()
    }

    /// What `action` returns in the namespace of that number.
    fn within<T: Send>(&self, number: usize, action: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.0[number])).unwrap();
        thread::scope(|scope| {
            let there = scope.spawn(move || {
                setns(namespace, CloneFlags::CLONE_NEWNET).expect("run the tests as root");
                action()
            });
            there.join().unwrap()
        })
    }

    /// Which ports the other machine reaches.
    fn reached(&self) -> [bool; 2] {
        let reaches = |port: u16| {
            self.within(1, move || {
                let address: SocketAddr = format!("{NODE}:{port}").parse().unwrap();
                TcpStream::connect_timeout(&address, PATIENCE).is_ok()
            })
        };
        thread::scope(|scope| {
            let first = scope.spawn(|| reaches(PORTS[0]));
            let second = reaches(PORTS[1]);
            [first.join().unwrap(), second]
        })
    }

    /// What `preflight` says of the firewall: the level, and what was seen.
    fn told(&self) -> (String, String) {
        let worker = [
            "--role",
            "worker",
            "--set",
            "nodeName=node-a",
            "--set",
            "master=192.0.2.10",
        ];
        let words = [
            &[env!("CARGO_BIN_EXE_appliance"), "preflight", "-o", "json"],
            &worker[..],
        ]
        .concat();
        let output = self.run(
            &[
                &words[..],
                &["--metadata-source", "cloud-init=/nonexistent"],
            ]
            .concat(),
        );
        let document: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        let mut checks = document["checks"].as_array().unwrap().iter();
        let check = checks.find(|check| check["name"] == "firewall").unwrap();
        (
            check["level"].as_str().unwrap().to_owned(),
            check["seen"].as_str().unwrap().to_owned(),
        )
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().unwrap();
    assert!(
        output.status.success(),
        "{}; run the tests as root",
        said(&output)
    );
}

/// Whether a worker with these rules can be reached at its ports, according to the kernel and to `preflight`.
fn agree(script: &str) {
    let pair = Pair::new();
    let listeners = pair.within(0, || {
        PORTS.map(|port| TcpListener::bind((NODE, port)).unwrap())
    });
    // A new pair of interfaces may lose the first packets.
    while pair.reached() != PORTS.map(|_| true) {}
    let output = pair.run(&["sh", "-ec", script]);
    assert!(output.status.success(), "{script}: {}", said(&output));
    let reached = pair.reached();
    drop(listeners);
    let (level, seen) = pair.told();
    assert!(!seen.contains("cannot tell"), "{script}: {seen}");
    for (port, reached) in PORTS.into_iter().zip(reached) {
        let is_told = seen.contains(&format!("TCP {port}"));
        assert_eq!(reached, !is_told, "{script}: port {port}, {level}: {seen}");
    }
}

/// A script that makes a table of nftables with these chains.
fn own_table(chains: &str) -> String {
    format!(
        "nft 'table inet own {{\n{}\n}}'",
        chains.replace("; } ", "; }\n")
    )
}

#[test]
fn genuine_rules_of_iptables_let_pass_what_this_program_says() {
    for rules in RULES {
        for program in ["iptables-legacy", "iptables-nft"] {
            agree(&rules.replace('@', program));
        }
    }
}

#[test]
fn genuine_rules_of_nftables_let_pass_what_this_program_says() {
    for table in TABLES {
        agree(&own_table(table));
    }
}

#[test]
fn rules_that_cannot_be_judged_are_told_as_such() {
    for script in [
        "iptables-nft -P INPUT DROP; iptables-nft -A INPUT -s 192.0.2.0/24 -j ACCEPT",
        "iptables-legacy -A INPUT -m limit --limit 5/minute -j DROP",
        "iptables-nft -A INPUT -i eth0 -p tcp -j DROP",
        &own_table(
            "chain i { type filter hook input priority 0; policy drop; ip saddr 192.0.2.12 accept; }",
        ),
    ] {
        let pair = Pair::new();
        let output = pair.run(&["sh", "-ec", script]);
        assert!(output.status.success(), "{script}: {}", said(&output));
        let (level, seen) = pair.told();
        assert_eq!(level, "warn");
        assert!(
            seen.contains("cannot tell") && seen.contains("TCP 179"),
            "{script}: {seen}"
        );
    }
}
