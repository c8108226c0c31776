//! Nodes on one machine: network namespaces on a bridge, which has its own namespace, too, so that
//! the machine's own network stays unchanged. Needs root.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU16, Ordering};

use tempfile::TempDir;

use crate::harness::{Running, eventually, flag, said, sim};

/// The number in the names of one lab, which differs from those of other labs in this process.
static LABS: AtomicU16 = AtomicU16::new(0);

/// Several nodes; dropping them removes them and all their processes.
pub struct Lab {
    pub directory: TempDir,
    prefix: String,
    namespaces: Vec<String>,
}

/// Whether the test can run; if not, prints the reason.
pub fn is_possible() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    let root = id.stdout == b"0\n";
    if !root {
        eprintln!("SKIPPED: network namespaces need root");
    }
    root
}

/// Runs a command that must succeed; returns its output.
pub fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn ip(words: &str) {
    succeeds(Command::new("ip").args(words.split_whitespace()));
}

impl Lab {
    /// Makes nodes 1 to `nodes`, all on one network.
    pub fn new(nodes: u8) -> Self {
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let mut lab = Self {
            directory: tempfile::tempdir().unwrap(),
            prefix: format!("sim-{}-{number}", std::process::id()),
            namespaces: Vec::new(),
        };
        let switch = lab.add("switch");
        ip(&format!("-n {switch} link add br0 type bridge"));
        ip(&format!("-n {switch} link set br0 up"));
        for node in 1..=nodes {
            let name = lab.add(&node.to_string());
            ip(&format!(
                "-n {switch} link add port{node} type veth peer name eth0 netns {name}"
            ));
            ip(&format!("-n {switch} link set port{node} master br0 up"));
            ip(&format!("-n {name} link set eth0 up"));
            let address = lab.address(node);
            ip(&format!("-n {name} address add {address}/24 dev eth0"));
            let settings = "net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0";
            succeeds(
                lab.on(node, "sysctl")
                    .arg("-qw")
                    .args(settings.split_whitespace()),
            );
        }
        lab
    }

    /// Makes a namespace that is not a node, such as a pod's; returns its name.
    pub fn add(&mut self, name: &str) -> String {
        let name = format!("{}-{name}", self.prefix);
        ip(&format!("netns add {name}"));
        self.namespaces.push(name.clone());
        ip(&format!("-n {name} link set lo up"));
        name
    }

    /// A node's address.
    pub fn address(&self, node: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, 0, node)
    }

    /// A node's name in Calico.
    pub fn name(&self, node: u8) -> String {
        format!("node-{node}")
    }

    /// A command on a node.
    pub fn on(&self, node: u8, program: &str) -> Command {
        inside(&format!("{}-{node}", self.prefix), program)
    }

    /// A stand-in on a node, under the name of `program`; the directory of calico/node is separate
    /// for each node.
    pub fn sim(&self, node: u8, program: &str) -> Command {
        let mut command = self.on(node, sim(self.directory.path(), program).to_str().unwrap());
        command
            .env("SIM_CALICO_RUN", self.run_directory(node))
            .env_remove("NOTIFY_SOCKET");
        command
    }

    /// The socket of a node's BIRD.
    pub fn run_directory(&self, node: u8) -> PathBuf {
        self.directory.path().join(format!("run-{node}"))
    }

    /// Starts a member of etcd on each of the first `members` nodes, without TLS; returns
    /// them and the list of all endpoints.
    pub fn etcd(&self, members: u8) -> (Vec<Running>, String) {
        let url = |node, port: u16| format!("http://{}:{port}", self.address(node));
        let peers: Vec<String> = (1..=members)
            .map(|node| format!("{}={}", self.name(node), url(node, 2380)))
            .collect();
        let start = |node| {
            let data = self.directory.path().join(format!("etcd-{node}"));
            Running::start(self.on(node, "etcd").args([
                flag("name", self.name(node)),
                flag("data-dir", data.display()),
                flag("listen-client-urls", url(node, 2379)),
                flag("advertise-client-urls", url(node, 2379)),
                flag("listen-peer-urls", url(node, 2380)),
                flag("initial-advertise-peer-urls", url(node, 2380)),
                flag("initial-cluster", peers.join(",")),
                flag("enable-v2", true),
            ]))
        };
        let running = (1..=members).map(start).collect();
        let endpoints: Vec<String> = (1..=members).map(|node| url(node, 2379)).collect();
        let endpoints = endpoints.join(",");
        eventually("etcd", || {
            let mut health = self.on(1, "etcdctl");
            health.env("ETCDCTL_API", "3").args([
                flag("endpoints", &endpoints),
                "endpoint".into(),
                "health".into(),
            ]);
            health.output().unwrap().status.success()
        });
        (running, endpoints)
    }

    /// Starts calico/node on a node, and waits until it is ready.
    pub fn calico_node(&self, node: u8, endpoints: &str, more: &[(&str, &Path)]) -> Running {
        let running = Running::start(
            self.sim(node, "start_runit")
                .env("NODENAME", self.name(node))
                .env("IP", format!("{}/24", self.address(node)))
                .env("ETCD_ENDPOINTS", endpoints)
                .env("CALICO_IPV4POOL_CIDR", "172.20.0.0/16")
                .env("FELIX_HEALTHENABLED", "true")
                .envs(more.iter().copied()),
        );
        self.until_answers(node, "127.0.0.1:9099/readiness", "");
        running
    }

    /// The output of calicoctl on a node.
    pub fn calicoctl(&self, node: u8, endpoints: &str, words: &str) -> Output {
        let configuration = self.directory.path().join("calicoctl.cfg");
        std::fs::write(
            &configuration,
            format!(
                "apiVersion: v1\nkind: calicoApiConfig\nmetadata:\nspec:\n  \
                 datastoreType: \"etcdv2\"\n  etcdEndpoints: \"{endpoints}\"\n"
            ),
        )
        .unwrap();
        let mut command = self.sim(node, "calicoctl");
        command.args(words.split_whitespace());
        if !words.starts_with("node") {
            command.arg("--config").arg(configuration);
        }
        command.output().unwrap()
    }

    /// Waits until HTTP at `place` answers 200 on a node, with `text` in the body.
    pub fn until_answers(&self, node: u8, place: &str, text: &str) {
        let name = format!("{}-{node}", self.prefix);
        eventually(place, || {
            fetch(&name, place).is_some_and(|found| found.contains(text))
        });
    }

    /// The answer of HTTP at `place` on a node.
    pub fn fetch(&self, node: u8, place: &str) -> Option<String> {
        fetch(&format!("{}-{node}", self.prefix), place)
    }

    /// The status of HTTP at `place` on a node: `204`.
    pub fn status(&self, node: u8, place: &str) -> String {
        let curl = [
            "--silent",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
        ];
        let name = format!("{}-{node}", self.prefix);
        let command = &mut inside(&name, "curl");
        command.args(curl).arg(format!("http://{place}"));
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    }

    /// Every process in the lab, including those that programs left behind.
    pub fn processes(&self) -> Vec<String> {
        let of = |name: &String| {
            let output = Command::new("ip").args(["netns", "pids", name]).output();
            String::from_utf8(output.unwrap().stdout).unwrap()
        };
        let lists: String = self.namespaces.iter().map(of).collect();
        lists.split_whitespace().map(str::to_owned).collect()
    }
}

/// The answer of HTTP at `place` in this namespace.
pub fn fetch(namespace: &str, place: &str) -> Option<String> {
    let url = format!("http://{place}");
    let limits = ["--silent", "--fail", "--max-time", "5", "--noproxy", "*"];
    let output = inside(namespace, "curl").args(limits).arg(url).output();
    let output = output.unwrap();
    let body = String::from_utf8(output.stdout).unwrap();
    output.status.success().then_some(body)
}

/// A command in a namespace. `ip` becomes this command, so that a signal reaches it.
pub fn inside(namespace: &str, program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, program]);
    command
}

impl Drop for Lab {
    fn drop(&mut self) {
        for process in self.processes() {
            let _ = Command::new("kill").args(["-KILL", &process]).status();
        }
        for name in &self.namespaces {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}
