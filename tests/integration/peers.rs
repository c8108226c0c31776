//! The BGP peers of a node, from two real BIRDs in a network of their own and recorded answers of
//! calicoctl: one node's BIRD does not follow Calico's list of nodes, and later does.

use std::fs;
use std::path::Path;
use std::process::{Child, Command as StdCommand, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use appliance::clients::bird;
use appliance::observe::peers::{Own, PeerReport, peers};
use appliance::sys::process::{Command, Output, Runner};
use appliance::sys::root::Root;

const MASTER: Own<'_> = Own {
    name: "server02",
    address: "10.99.0.2",
};
const WORKER: Own<'_> = Own {
    name: "server01",
    address: "10.99.0.1",
};
/// Starts both BIRDs; they end with the shell.
const START: &str = "ip link set lo up && ip address add 10.99.0.1/32 dev lo && \
    ip address add 10.99.0.2/32 dev lo || exit 1; \
    bird -f -c server01.conf -s server01/var/run/calico/bird.ctl & \
    bird -f -c server02.conf -s server02/var/run/calico/bird.ctl & wait";

/// calicoctl, whose list has both nodes.
struct Calicoctl;

impl Runner for Calicoctl {
    fn run(&self, command: &Command) -> Result<Output> {
        let node = |own: Own<'_>| {
            format!(
                r#"{{"kind": "node", "apiVersion": "v1", "metadata": {{"name": "{}"}},
                    "spec": {{"bgp": {{"ipv4Address": "{}/24"}}}}}}"#,
                own.name, own.address
            )
        };
        let stdout = match command.arguments.join(" ").as_str() {
            "get nodes -o json" => format!("[{}, {}]", node(MASTER), node(WORKER)),
            "config get nodeToNodeMesh" => "on\n".to_owned(),
            "get bgpPeer -o json" => "[]\n".to_owned(),
            other => panic!("{other}"),
        };
        Ok(Output {
            code: Some(0),
            stdout,
            stderr: String::new(),
        })
    }
}

/// Two nodes, each with a BIRD.
struct Nodes {
    dir: tempfile::TempDir,
    running: Child,
}

impl Drop for Nodes {
    fn drop(&mut self) {
        let _ = self.running.kill();
        let _ = self.running.wait();
    }
}

impl Nodes {
    /// The worker's BIRD has the master as a peer, the master's has no peer.
    fn start() -> Nodes {
        let dir = tempfile::tempdir().unwrap();
        for own in [MASTER, WORKER] {
            fs::create_dir_all(dir.path().join(own.name).join("var/run/calico")).unwrap();
        }
        configure(dir.path(), MASTER, &[]);
        configure(dir.path(), WORKER, &[MASTER]);
        let running = StdCommand::new("unshare")
            .args(["--map-root-user", "--net", "--pid", "--kill-child"])
            .args(["sh", "-c", START])
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("unshare (Debian package util-linux)");
        Nodes { dir, running }
    }

    fn root(&self, own: Own<'_>) -> Root {
        Root::open(&self.dir.path().join(own.name)).unwrap()
    }

    /// The only peer of a node, as soon as it fits.
    fn peer(&self, own: Own<'_>, fits: impl Fn(&PeerReport) -> bool) -> PeerReport {
        let mut found = None;
        for _ in 0..300 {
            let mut seen = peers(&self.root(own), &Calicoctl, own);
            assert_eq!(seen.not_compared, None);
            assert_eq!(seen.reports.len(), 1, "{seen:?}");
            found = seen.reports.pop();
            if let Some(report) = found.take_if(|report| fits(report)) {
                return report;
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!(
            "{}: {found:?} (BIRD is in the Debian package bird)",
            own.name
        );
    }
}

fn configure(dir: &Path, own: Own<'_>, others: &[Own<'_>]) {
    let address = own.address;
    let mut text =
        format!("router id {address};\nlisten bgp address {address};\nprotocol device {{}}\n");
    for other in others {
        let (peer, name) = (other.address, other.address.replace('.', "_"));
        text += &format!(
            "protocol bgp Mesh_{name} {{ local {address} as 64512; neighbor {peer} as 64512; \
             multihop; connect retry time 1; error wait time 1, 1; }}\n"
        );
    }
    fs::write(dir.join(format!("{}.conf", own.name)), text).unwrap();
}

#[test]
fn a_bird_that_does_not_follow_calico_is_seen_on_both_sides() {
    let nodes = Nodes::start();
    // Both have just started.
    let lacking = |report: &PeerReport| report.problem.is_none();
    let at_master = nodes.peer(MASTER, lacking);
    assert_eq!(at_master.peer.state, "missing");
    assert_eq!(at_master.node.as_deref(), Some("server01"));
    let at_worker = nodes.peer(WORKER, lacking);
    assert_eq!(at_worker.peer.state, "start");
    assert_eq!(at_worker.node.as_deref(), Some("server02"));

    // The age of the session and of BIRD itself come from BIRD's own clock.
    let socket = nodes.dir.path().join("server01/var/run/calico/bird.ctl");
    let bird = bird::ask(&socket).unwrap().unwrap();
    let times = bird.times.unwrap();
    let age = |now| bird.peers[0].age(now).unwrap();
    assert!(age(times.now) <= times.now - times.boot, "{bird:?}");
    let minute = time::Duration::MINUTE;
    assert_eq!(age(times.now + minute), age(times.now) + minute);

    // Its configuration follows.
    configure(nodes.dir.path(), MASTER, &[WORKER]);
    let control = StdCommand::new("birdc")
        .args(["-s", "server02/var/run/calico/bird.ctl", "configure"])
        .current_dir(nodes.dir.path())
        .output()
        .expect("birdc (Debian package bird)");
    assert!(control.status.success(), "{control:?}");
    for own in [MASTER, WORKER] {
        let report = nodes.peer(own, |report| report.peer.is_established());
        assert_eq!(report.problem, None);
    }
}
