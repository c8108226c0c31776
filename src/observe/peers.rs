//! Compares the BGP peers of this node's BIRD with Calico's own list of nodes.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;
use time::Duration;

use crate::clients::bird::{self, Bird, Peer};
use crate::clients::calicoctl::{self, ConfiguredPeer, Node};
use crate::paths::BIRD_SOCKET;
use crate::sys::process::Runner;
use crate::sys::root::Root;

/// How long a session may be down before that is a problem. Until then it may still come up.
const COMING_UP: Duration = Duration::minutes(1);
/// The types of peers, as `calicoctl node status` shows them.
const MESH: &str = "node-to-node mesh";
const GLOBAL: &str = "global";
const ONE_NODE: &str = "node specific";
/// The state of a peer that BIRD does not have.
const MISSING: &str = "missing";

/// One BGP peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerReport {
    /// Its session in BIRD. For a peer that BIRD does not have, the state is `missing`.
    #[serde(flatten)]
    pub peer: Peer,
    /// The name of the node in Calico's list; absent if it is no node, or the list is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The problem, if it has one. It has none while it can still come up by itself.
    pub problem: Option<String>,
}

/// This node's BGP peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers {
    /// The peers that BIRD has, and those that it should have.
    pub reports: Vec<PeerReport>,
    /// Why the peers could not be compared with Calico's list.
    pub not_compared: Option<String>,
}

/// The node that is asked: its name and its address.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its address.
    pub address: &'a str,
}

/// What Calico's datastore has about BGP.
#[derive(Clone, Debug, Default)]
struct Calico {
    nodes: Vec<Node>,
    has_mesh: bool,
    configured: Vec<ConfiguredPeer>,
}

/// A peer that BIRD should have.
struct Wanted {
    kind: &'static str,
    node: Option<String>,
}

/// Asks Calico and then BIRD. A node that registers itself is in Calico's list a moment before BIRD
/// has it as a peer, so BIRD is asked last.
pub fn peers(root: &Root, runner: &dyn Runner, own: Own<'_>) -> Peers {
    let calico = told(calico(runner));
    let bird = told(
        root.resolve(BIRD_SOCKET)
            .and_then(|socket| bird::ask(&socket)),
    );
    Peers {
        reports: judge(bird.as_ref(), calico.as_ref().ok(), own),
        not_compared: calico.err(),
    }
}

fn told<T>(result: Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("{error:#}"))
}

fn calico(runner: &dyn Runner) -> Result<Calico> {
    Ok(Calico {
        nodes: calicoctl::nodes(runner)?,
        has_mesh: calicoctl::has_mesh(runner)?,
        configured: calicoctl::configured_peers(runner)?,
    })
}

impl Calico {
    /// The peers of the node `own`, by address. With a mesh, these are all other nodes; in addition
    /// or instead, the user can configure peers, such as route reflectors.
    fn wanted(&self, own: Own<'_>) -> BTreeMap<String, Wanted> {
        let others = self.nodes.iter().filter(|_| self.has_mesh);
        let others = others.filter_map(|node| {
            let kind = MESH;
            let node_name = node.name.clone();
            Some((
                node.address?.to_string(),
                Wanted {
                    kind,
                    node: node_name,
                },
            ))
        });
        let for_own = |peer: &&ConfiguredPeer| peer.node.as_deref().is_none_or(|n| n == own.name);
        let configured = self.configured.iter().filter(for_own).map(|peer| {
            let address = peer.address.to_string();
            let kind = if peer.node.is_some() {
                ONE_NODE
            } else {
                GLOBAL
            };
            let node = self.name_of(&address);
            (address, Wanted { kind, node })
        });
        let mut wanted: BTreeMap<String, Wanted> = configured.chain(others).collect();
        wanted.remove(own.address);
        wanted
    }

    /// The name of the node with this address.
    fn name_of(&self, address: &str) -> Option<String> {
        let has = |node: &&Node| node.address.is_some_and(|own| own.to_string() == address);
        self.nodes.iter().find(has)?.name.clone()
    }
}

/// Judges every peer of BIRD, and every peer that BIRD should have according to `calico`, which is
/// `None` if its list is not known.
fn judge(
    bird: Result<&Option<Bird>, &String>,
    calico: Option<&Calico>,
    own: Own<'_>,
) -> Vec<PeerReport> {
    let mut wanted = calico.map(|calico| calico.wanted(own)).unwrap_or_default();
    let mut reports = Vec::new();
    for peer in bird.into_iter().flatten().flat_map(|bird| &bird.peers) {
        let wanted = wanted.remove(&peer.address);
        let node = calico.and_then(|calico| calico.name_of(&peer.address));
        let is_unwanted = calico.is_some() && wanted.is_none();
        let problem = is_down(peer, bird).then(|| {
            if is_unwanted {
                return unwanted(peer);
            }
            down(peer, node.as_deref(), own)
        });
        reports.push(PeerReport {
            peer: peer.clone(),
            node,
            problem,
        });
    }
    let missing = wanted.into_iter().map(|(address, wanted)| PeerReport {
        problem: lacks(bird).map(|why| missing(&why, &address, &wanted, own)),
        peer: Peer {
            address,
            kind: wanted.kind,
            state: MISSING.to_owned(),
            since: "-".to_owned(),
            info: "BIRD does not have this peer".to_owned(),
        },
        node: wanted.node,
    });
    reports.extend(missing);
    reports
}

/// Whether the session is down, and will not come up by itself.
fn is_down(peer: &Peer, bird: Result<&Option<Bird>, &String>) -> bool {
    if peer.is_established() {
        return false;
    }
    let times = bird
        .ok()
        .and_then(Option::as_ref)
        .and_then(|bird| bird.times);
    let age = times.and_then(|times| peer.age(times.now));
    peer.is_refused() || age.is_none_or(|age| age >= COMING_UP)
}

/// Why BIRD lacks a peer; `None` if it may have started too recently to have it.
fn lacks(bird: Result<&Option<Bird>, &String>) -> Option<String> {
    match bird {
        Err(error) => Some(error.clone()),
        Ok(None) => Some(format!("no BIRD listens at {BIRD_SOCKET}")),
        Ok(Some(bird)) => {
            let is_new = bird
                .times
                .is_some_and(|times| times.now - times.boot < COMING_UP);
            (!is_new).then(|| "BIRD does not have this peer".to_owned())
        }
    }
}

fn down(peer: &Peer, node: Option<&str>, own: Own<'_>) -> String {
    let whose = node.map_or_else(
        || format!("peer {}", peer.address),
        |node| format!("node {node}"),
    );
    let next = if peer.is_refused() {
        "compare the AS numbers: `calicoctl get nodes -o wide`, `calicoctl get bgpPeer`".to_owned()
    } else {
        "see `calicoctl node status` and `docker logs calico-node` on both sides, and allow TCP \
         port 179 between them in the security group"
            .to_owned()
    };
    format!(
        "no BGP session with {whose} since {} ({}); {next}; {}",
        peer.since,
        peer.info,
        removal(peer.kind, &peer.address, node, own)
    )
}

fn missing(why: &str, address: &str, wanted: &Wanted, own: Own<'_>) -> String {
    let whose = wanted
        .node
        .as_ref()
        .map_or_else(|| format!("peer {address}"), |node| format!("node {node}"));
    format!(
        "no BGP session with {whose}, although Calico lists it: {why}; see `docker logs \
         calico-node`, then run `systemctl restart kube-calico`; {}",
        removal(wanted.kind, address, wanted.node.as_deref(), own)
    )
}

fn unwanted(peer: &Peer) -> String {
    format!(
        "no BGP session with a peer that Calico no longer lists ({}); compare `calicoctl get nodes \
         -o wide` and `calicoctl get bgpPeer`; see `docker logs calico-node`, then run `systemctl \
         restart kube-calico`",
        peer.info
    )
}

/// How to remove a peer that no longer exists.
fn removal(kind: &str, address: &str, node: Option<&str>, own: Own<'_>) -> String {
    match (kind, node) {
        (MESH, Some(node)) => {
            format!("if this node is gone for good, run `calicoctl delete node {node}`")
        }
        (MESH, None) => {
            "if this node is gone for good, find its name with `calicoctl get nodes -o wide`, and \
             run `calicoctl delete node NAME`"
                .to_owned()
        }
        (GLOBAL, _) => format!(
            "if this peer is gone for good, run `calicoctl delete bgpPeer {address} --scope=global`"
        ),
        _ => format!(
            "if this peer is gone for good, run `calicoctl delete bgpPeer {address} --scope=node \
             --node={}`",
            own.name
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::clients::bird::Times;
    use crate::sys::process::{Command, Output};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use time::{Date, Month, PrimitiveDateTime, Time};

    /// The master of the tutorial's cluster.
    const MASTER: Own<'_> = Own {
        name: "server02",
        address: "192.168.1.102",
    };
    const REFUSED: &str = "Active Socket: Connection refused";

    /// BIRD, which started an hour before 13:30:00, with peers: address, since, info.
    fn bird(peers: &[(&str, &str, &str)]) -> Bird {
        let at = |hour| {
            let date = Date::from_calendar_date(2018, Month::January, 3).unwrap();
            PrimitiveDateTime::new(date, Time::from_hms(hour, 30, 0).unwrap())
        };
        let peer = |&(address, since, info): &(&str, &str, &str)| Peer {
            address: address.to_owned(),
            kind: MESH,
            state: "start".to_owned(),
            since: since.to_owned(),
            info: info.to_owned(),
        };
        Bird {
            peers: peers.iter().map(peer).collect(),
            times: Some(Times {
                now: at(13),
                boot: at(12),
            }),
        }
    }

    /// Calico's list with the master and these workers.
    fn calico(workers: &[u8]) -> Calico {
        let node = |number: &u8| Node {
            name: Some(format!("server0{number}")),
            address: Some([192, 168, 1, 100 + number].into()),
        };
        Calico {
            nodes: [2].iter().chain(workers).map(node).collect(),
            has_mesh: true,
            configured: Vec::new(),
        }
    }

    fn judged(bird: Bird, calico: &Calico) -> Vec<PeerReport> {
        judge(Ok(&Some(bird)), Some(calico), MASTER)
    }

    /// The problem of the only peer.
    #[track_caller]
    fn only(reports: &[PeerReport]) -> Option<&str> {
        let [report] = reports else {
            panic!("{reports:?}");
        };
        report.problem.as_deref()
    }

    #[test]
    fn a_node_without_others_has_no_peers_and_no_problem() {
        assert_eq!(judged(bird(&[]), &calico(&[])), []);
        assert_eq!(judge(Ok(&None), Some(&calico(&[])), MASTER), []);
    }

    #[test]
    fn established_sessions_are_no_problem() {
        let peers = bird(&[
            ("192.168.1.101", "2018-01-01", "Established"),
            ("192.168.1.103", "13:29:59", "Established"),
        ]);
        let reports = judged(peers, &calico(&[1, 3]));
        assert_eq!(reports.len(), 2);
        assert!(reports.iter().all(|report| report.problem.is_none()));
        assert_eq!(reports[1].node.as_deref(), Some("server03"));
    }

    #[test]
    fn a_peer_that_bird_does_not_have_is_a_problem() {
        let reports = judged(bird(&[]), &calico(&[1]));
        let problem = only(&reports).unwrap();
        for part in [
            "node server01",
            "BIRD does not have this peer",
            "docker logs calico-node",
            "systemctl restart kube-calico",
            "calicoctl delete node server01",
        ] {
            assert!(problem.contains(part), "{part}: {problem}");
        }
        assert_eq!(reports[0].peer.state, "missing");
        assert_eq!(reports[0].peer.kind, "node-to-node mesh");
    }

    #[test]
    fn a_bird_that_has_just_started_may_lack_peers() {
        let mut young = bird(&[]);
        let times = young.times.as_mut().unwrap();
        times.boot = times.now - Duration::seconds(59);
        assert_eq!(only(&judged(young.clone(), &calico(&[1]))), None);
        young.times.as_mut().unwrap().boot -= Duration::seconds(1);
        assert!(only(&judged(young, &calico(&[1]))).is_some());
    }

    #[test]
    fn a_session_that_is_down_for_a_minute_is_a_problem() {
        let down = |since| judged(bird(&[("192.168.1.101", since, REFUSED)]), &calico(&[1]));
        assert_eq!(only(&down("13:29:01")), None);
        let reports = down("13:29:00");
        let problem = only(&reports).unwrap();
        for part in [
            "node server01 since 13:29:00",
            REFUSED,
            "calicoctl node status",
            "port 179",
            "calicoctl delete node server01",
        ] {
            assert!(problem.contains(part), "{part}: {problem}");
        }
        assert!(only(&down("2018-01-01")).is_some());
        assert!(only(&down("at some time")).is_some());
    }

    #[test]
    fn settings_that_do_not_fit_are_a_problem_at_once() {
        let peers = bird(&[("192.168.1.101", "13:29:59", "Idle Received: Bad peer AS")]);
        let reports = judged(peers, &calico(&[1]));
        let problem = only(&reports).unwrap();
        assert!(problem.contains("compare the AS numbers"), "{problem}");
    }

    #[test]
    fn a_peer_that_calico_does_not_list_is_a_problem_only_without_a_session() {
        let gone = |info| judged(bird(&[("192.168.1.101", "12:31:00", info)]), &calico(&[]));
        assert_eq!(only(&gone("Established")), None);
        let reports = gone(REFUSED);
        let problem = only(&reports).unwrap();
        assert!(problem.contains("Calico no longer lists"), "{problem}");
        assert!(!problem.contains("delete"), "{problem}");
    }

    #[test]
    fn without_a_mesh_the_configured_peers_count() {
        let reflector = |last, node: Option<&str>| ConfiguredPeer {
            address: [192, 168, 1, last].into(),
            node: node.map(str::to_owned),
        };
        let calico = Calico {
            has_mesh: false,
            configured: vec![
                reflector(201, None),
                reflector(202, Some("server02")),
                reflector(203, Some("server01")),
                // A node that is a reflector does not peer with itself.
                reflector(102, None),
            ],
            ..calico(&[1, 3])
        };
        let reports = judged(
            bird(&[("192.168.1.201", "12:31:00", "Established")]),
            &calico,
        );
        let found: Vec<(&str, &str, bool)> = reports
            .iter()
            .map(|r| {
                (
                    r.peer.address.as_str(),
                    r.peer.state.as_str(),
                    r.problem.is_some(),
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                ("192.168.1.201", "start", false),
                ("192.168.1.202", "missing", true)
            ]
        );
        let problem = reports[1].problem.as_deref().unwrap();
        let removal = "calicoctl delete bgpPeer 192.168.1.202 --scope=node --node=server02";
        assert!(problem.contains(removal), "{problem}");
    }

    #[test]
    fn without_a_bird_every_peer_is_a_problem_with_the_reason() {
        let reports = judge(Ok(&None), Some(&calico(&[1])), MASTER);
        let problem = only(&reports).unwrap();
        assert!(
            problem.contains("no BIRD listens at /var/run/calico"),
            "{problem}"
        );
        let broken = "the answer ends".to_owned();
        let reports = judge(Err(&broken), Some(&calico(&[1])), MASTER);
        assert!(only(&reports).unwrap().contains(&broken));
    }

    #[test]
    fn without_calicos_list_the_sessions_of_bird_still_count() {
        let peers = bird(&[("192.168.1.101", "12:31:00", REFUSED)]);
        let reports = judge(Ok(&Some(peers)), None, MASTER);
        let problem = only(&reports).unwrap();
        assert!(
            problem.contains("peer 192.168.1.101 since 12:31:00"),
            "{problem}"
        );
        assert!(problem.contains("calicoctl delete node NAME"), "{problem}");
    }

    /// calicoctl of a master with one worker; or one that fails.
    struct Calicoctl {
        works: bool,
    }

    impl Runner for Calicoctl {
        fn run(&self, command: &Command) -> Result<Output> {
            let node = |name: &str, last: u8| {
                format!(
                    r#"{{"kind": "node", "apiVersion": "v1", "metadata": {{"name": "{name}"}},
                        "spec": {{"bgp": {{"ipv4Address": "192.168.1.{last}/24"}}}}}}"#
                )
            };
            let stdout = match command.arguments.join(" ").as_str() {
                "get nodes -o json" => {
                    format!("[{}, {}]", node("server02", 102), node("server01", 101))
                }
                "config get nodeToNodeMesh" => "on\n".to_owned(),
                "get bgpPeer -o json" => "[]\n".to_owned(),
                other => panic!("{other}"),
            };
            Ok(Output {
                code: Some(i32::from(!self.works)),
                stdout,
                stderr: String::new(),
            })
        }
    }

    #[test]
    fn a_master_whose_bird_does_not_follow_calico_has_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join(BIRD_SOCKET.trim_start_matches('/'));
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        // Started 13 minutes before, and without a peer since then.
        let answers = [
            (
                "show protocols\n",
                "0001 BIRD v0.3.1 ready.\n2002-name     proto    table    state  since       info\n\
                 1002-device1  Device   master   up     13:17:00    \n0000 \n",
            ),
            (
                "show status\n",
                "1000-BIRD v0.3.1\n1011-Router ID is 192.168.1.102\n \
                 Current server time is 2018-01-03 13:30:00\n Last reboot on 2018-01-03 13:17:00\n \
                 Last reconfiguration on 2018-01-03 13:17:00\n0013 Daemon is up and running\n",
            ),
        ];
        let served = std::thread::spawn(move || {
            for stream in listener.incoming().take(2) {
                let mut stream = stream.unwrap();
                for (question, answer) in answers {
                    stream.read_exact(&mut vec![0; question.len()]).unwrap();
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            }
        });
        let root = Root::open(dir.path()).unwrap();
        let found = peers(&root, &Calicoctl { works: true }, MASTER);
        assert_eq!(found.not_compared, None);
        assert!(only(&found.reports).unwrap().contains("node server01"));
        let found = peers(&root, &Calicoctl { works: false }, MASTER);
        assert_eq!(found.reports, []);
        let why = found.not_compared.unwrap();
        assert!(why.contains("calicoctl get nodes"), "{why}");
        served.join().unwrap();
    }
}
