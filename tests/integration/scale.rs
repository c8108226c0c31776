//! What grows with the number of nodes: measurements for `make bench`, not a test. They print one `name value` per line:
//! the microseconds of processor time with 10, 100 and 1,000 nodes, and the exponent of the growth from 100 to 1,000. An exponent of 1
//! means that ten times as many nodes take ten times as long.
//!
//! `cargo test --test integration scale:: -- --ignored --nocapture`

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use appliance::join::nodes::{Applicant, Nodes, Presence};
use appliance::nodespec::settings::Settings;
use appliance::nodespec::value::{Layer, Place};
use appliance::nodespec::{HostFacts, Inputs, NodeSpec};
use appliance::observe::peers::{Own, peers};
use appliance::paths::BIRD_SOCKET;
use appliance::records::nodes::NodeRecord;
use appliance::sys::process::{Command, Output, Runner};
use appliance::sys::root::Root;
use nix::time::ClockId;
use time::OffsetDateTime;

use crate::rendered::{self, desired};
use crate::spec::metadata;

/// The numbers of nodes.
const SIZES: [u32; 3] = [10, 100, 1000];
/// How often each is repeated. The shortest time counts: the first one still fills caches.
const REPEAT: usize = 7;

/// The address of the node with that number, from 1 on.
fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + number)
}

/// The processor time of this thread: other programs do not count. `getrusage` counts in ticks of the kernel, which are
/// longer than what is measured.
fn spent() -> Duration {
    ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap().into()
}

/// Prints how long `work` takes, which `prepare` makes for a number of nodes.
fn measure<W: FnMut()>(name: &str, prepare: impl Fn(u32) -> W) {
    let times = SIZES.map(|nodes| {
        let mut work = prepare(nodes);
        let timed = |_| {
            let before = spent();
            work();
            spent() - before
        };
        (0..REPEAT).map(timed).min().unwrap_or(Duration::MAX)
    });
    for (nodes, time) in SIZES.iter().zip(times) {
        println!("scale_nodes_{nodes}_{name}_us {}", time.as_micros());
    }
    let [_, hundred, thousand] = times.map(|time| time.as_secs_f64());
    let exponent = (thousand / hundred).log10();
    println!("scale_nodes_1000_{name}_exponent {exponent:.2}");
}

#[test]
#[ignore = "a measurement"]
fn a_worker_joins_as_one_more_node() {
    measure("records", |count| {
        let dir = tempfile::tempdir().unwrap();
        let record = |number: u32| NodeRecord {
            address: address(number),
            key: format!("{number:064x}"),
            machine: None,
            token: "abcdef".parse().unwrap(),
            seen: OffsetDateTime::UNIX_EPOCH,
        };
        let all = (1..=count).map(|number| (format!("worker{number}"), record(number)));
        let all: appliance::join::nodes::All = all.collect();
        let text = serde_json::to_vec_pretty(&all).unwrap();
        fs::write(dir.path().join("nodes.json"), text).unwrap();
        move || {
            let (nodes, next) = (Nodes::new(dir.path()), record(count + 1));
            let applicant = Applicant {
                key: &next.key,
                address: next.address,
                machine: None,
            };
            let (all, now) = (nodes.all().unwrap(), OffsetDateTime::UNIX_EPOCH);
            let absent = |_: &str| Ok(Presence::Absent);
            applicant.may_have("next", &all, now, &absent).unwrap();
            let free = applicant.may_have_address("next", &all, now, &absent);
            free.unwrap();
            nodes.note("next", &next).unwrap();
            nodes.release("next").unwrap();
        }
    });
}

#[test]
#[ignore = "a measurement"]
fn a_nodes_files_name_every_host() {
    measure("hosts", |count| {
        let manifest = rendered::manifest();
        let mut yaml = "hosts:\n".to_owned();
        for number in 1..=count {
            writeln!(yaml, "  host{number}: {}", address(number)).unwrap();
        }
        move || {
            let settings = Settings::from_yaml("bench", &yaml).unwrap();
            let spec = rendered::spec(("worker", "simple"), settings);
            let files = desired(&spec, &manifest, false).files;
            assert!(!files.is_empty());
        }
    });
}

#[test]
#[ignore = "a measurement"]
fn a_node_finds_itself_in_the_inventory() {
    measure("inventory", |count| {
        let mut yaml = "inventory:\n".to_owned();
        for number in 1..=count {
            let address = address(number);
            let role = if number == 1 { "master" } else { "worker" };
            writeln!(
                yaml,
                "- {{name: server{number}, role: {role}, address: {address}}}"
            )
            .unwrap();
        }
        move || {
            let settings = Settings::from_yaml("bench", &yaml).unwrap();
            let mut own = metadata("config drive /dev/sr0");
            own.name = "server1".to_owned();
            own.hostname = own.name.clone();
            let spec = NodeSpec::resolve(&Inputs {
                layers: vec![Layer::new(Place::Config("site.yaml".to_owned()), settings)],
                metadata: vec![own],
                host: HostFacts {
                    hostname: "server1".to_owned(),
                    ..HostFacts::default()
                },
                ..Inputs::default()
            });
            assert!(spec.unwrap().role.is_master());
        }
    });
}

/// calicoctl, whose list has that many nodes.
struct Calicoctl(u32);

impl Runner for Calicoctl {
    fn run(&self, command: &Command) -> Result<Output> {
        let node = |number| {
            format!(
                r#"{{"kind": "node", "apiVersion": "v1", "metadata": {{"name": "server{number}"}},
                    "spec": {{"bgp": {{"ipv4Address": "{}/8"}}}}}}"#,
                address(number)
            )
        };
        let stdout = match command.arguments.join(" ").as_str() {
            "get nodes -o json" => {
                format!(
                    "[{}]",
                    (1..=self.0).map(node).collect::<Vec<_>>().join(", ")
                )
            }
            "config get nodeToNodeMesh" => "on\n".to_owned(),
            other => {
                assert_eq!(other, "get bgpPeer -o json");
                "[]\n".to_owned()
            }
        };
        Ok(Output {
            code: Some(0),
            stdout,
            stderr: String::new(),
        })
    }
}

/// Answers as the BIRD of the first of these nodes, with a session to each other one.
fn serve_as_bird(listener: &UnixListener, nodes: u32) {
    let mut protocols =
        "0001 BIRD 1.6.3 ready.\n2002-name     proto    table    state  since       info\n"
            .to_owned();
    for number in 2..=nodes {
        let name = address(number).to_string().replace('.', "_");
        writeln!(
            protocols,
            " Mesh_{name} BGP      master   up     13:17:00    Established   "
        )
        .unwrap();
    }
    protocols += "0000 \n";
    let status = "1000-BIRD 1.6.3\n Current server time is 2018-01-03 13:30:00\n \
                  Last reboot on 2018-01-03 13:17:00\n0013 Daemon is up and running\n";
    while let Ok((stream, _)) = listener.accept() {
        for question in BufReader::new(&stream).lines() {
            let answer = match question.as_deref() {
                Ok("show protocols") => protocols.as_str(),
                _ => status,
            };
            if (&stream).write_all(answer.as_bytes()).is_err() {
                break;
            }
        }
    }
}

#[test]
#[ignore = "a measurement"]
fn a_node_compares_its_peers_with_calicos_nodes() {
    measure("routes", |count| {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let socket = dir.path().join(BIRD_SOCKET.trim_start_matches('/'));
        fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        thread::spawn(move || serve_as_bird(&listener, count));
        let own = address(1).to_string();
        move || {
            let _kept = &dir;
            let own = Own {
                name: "server1",
                address: &own,
            };
            let found = peers(&root, &Calicoctl(count), own);
            assert_eq!(found.not_compared, None);
            assert_eq!(found.reports.len(), count as usize - 1);
            assert!(
                found
                    .reports
                    .iter()
                    .all(|peer| peer.problem.is_none() && peer.node.is_some())
            );
        }
    });
}
