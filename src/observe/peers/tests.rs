//! Tests of the comparison, over recorded answers of BIRD and calicoctl.

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
        subnet: None,
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
        "journalctl -u kube-calico",
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
