//! What the page has to show: readings of nodes in different states.

use appliance::clients::bird::Peer;
use appliance::maintenance::storage::StorageReport;
use appliance::observe::peers::PeerReport;
use appliance::page::nodes::{Node, NodeState, Nodes};
use appliance::page::reading::Reading;
use appliance::page::timeline::{Event, What};
use appliance::records::run::Run;
use appliance::records::state::State;
use appliance::records::upgrade::Stage;
use appliance::status::{
    AddonReport, BackupReport, CertificateReport, Changing, ImageReport, Overall, Report,
    ServiceReport,
};
use serde_json::json;
use time::format_description::well_known::Rfc3339;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

const NOW: OffsetDateTime = datetime!(2026-11-30 15:20:31 UTC);

/// A text that breaks out of whatever does not escape it, and is too wide.
pub const HOSTILE: &str = "</title></style></td><script>document.title='broken'</script><img src=x onerror=alert(1)>\" \
                           onload='x' {{ report }} \u{202e}gnp.\u{1b}[31m\u{0}&lt;b&gt;";

/// All scenes by their names.
pub fn all() -> Vec<(&'static str, Reading)> {
    vec![
        ("healthy", healthy()),
        ("degraded", degraded()),
        ("install", install()),
        ("hostile", hostile()),
        ("many", many()),
    ]
}

fn state(name: &str) -> State {
    serde_json::from_value(json!({
        "appliance": "0.1.0", "bundle": "v1.9.11", "kubernetes": "v1.9.11", "digest": "0".repeat(64),
        "demonstration": false, "role": "master", "profile": "with-ca", "node": name, "address": "192.168.1.102",
    }))
    .unwrap()
}

fn service(name: &str, endpoint: Option<&str>) -> ServiceReport {
    ServiceReport {
        name: name.to_owned(),
        state: "active (running)".to_owned(),
        endpoint: endpoint.map(str::to_owned),
        problem: None,
        journal: Vec::new(),
    }
}

fn certificate(name: &str, days: i64) -> CertificateReport {
    let ends = NOW + Duration::days(days);
    CertificateReport {
        name: name.to_owned(),
        path: format!("/etc/kubernetes/ca/{name}/{name}.pem"),
        subject: format!("CN={name}"),
        sans: Vec::new(),
        not_after: ends.format(&Rfc3339).unwrap(),
        problem: None,
    }
}

fn peer(number: usize) -> PeerReport {
    PeerReport {
        peer: Peer {
            address: format!("192.168.{}.{}", 1 + number / 250, 3 + number % 250),
            kind: "node-to-node mesh",
            state: "up".to_owned(),
            since: "09:14:02".to_owned(),
            info: "Established".to_owned(),
        },
        node: Some(format!("server{number:02}")),
        problem: None,
    }
}

fn node(name: &str, address: &str, state: NodeState) -> Node {
    Node {
        name: name.to_owned(),
        address: address.to_owned(),
        here: false,
        state,
        why: None,
        version: Some("v1.9.11".to_owned()),
    }
}

fn here() -> Node {
    Node {
        here: true,
        version: None,
        ..node("server02", "192.168.1.102", NodeState::Healthy)
    }
}

/// A master on which all is well.
pub fn healthy() -> Reading {
    let storage = |name: &str, used: u64, size: u64| StorageReport {
        name: name.to_owned(),
        used: used << 20,
        size: size << 20,
        problem: None,
    };
    let image = |reference: &str| ImageReport {
        reference: reference.to_owned(),
        id: Some("sha256:0".to_owned()),
        problem: None,
    };
    let addon = |name: &str, state: &str| AddonReport {
        name: name.to_owned(),
        state: state.to_owned(),
        available: true,
        since: None,
        problem: None,
    };
    let report = Report {
        overall: Overall::Healthy,
        node: Some(state("server02")),
        services: vec![
            service("docker", None),
            service("etcd", Some("https://127.0.0.1:2379/health")),
            service("kube-apiserver", Some("https://127.0.0.1:6443/healthz")),
            service(
                "kube-controller-manager",
                Some("http://127.0.0.1:10252/healthz"),
            ),
            service("kube-scheduler", Some("http://127.0.0.1:10251/healthz")),
            service("kube-calico", Some("http://127.0.0.1:9099/liveness")),
            service("appliance-signer", None),
            service("appliance-join", None),
        ],
        images: vec![
            image("calico/node:v2.6.12"),
            image("gcr.io/google_containers/pause-amd64:3.0"),
        ],
        certificates: [
            ("ca", 3640),
            ("etcd", 361),
            ("kubernetes", 361),
            ("admin", 361),
            ("calico", 361),
        ]
        .map(|(name, days)| certificate(name, days))
        .into(),
        peers: vec![peer(3), peer(4)],
        storage: vec![
            storage("/", 3412, 20_480),
            storage("etcd's database", 12, 2048),
        ],
        backup: Some(BackupReport {
            last: None,
            failed: None,
            every: None,
            problem: None,
        }),
        addons: vec![
            addon("calico-kube-controllers", "available, 1 of 1"),
            addon("kube-dns", "available, 1 of 1"),
        ],
        ..Report::not_installed()
    };
    Reading {
        at: NOW,
        nodes: Nodes {
            list: vec![
                here(),
                node("server03", "192.168.1.103", NodeState::Ready),
                node("server04", "192.168.1.104", NodeState::Cordoned),
            ],
            unknown: None,
        },
        run: None,
        events: vec![
            Event {
                at: NOW - Duration::hours(3),
                what: What::Backup {
                    place: "s3://backups/cluster/2026-11-30-122000.age".to_owned(),
                },
            },
            Event {
                at: NOW - Duration::days(12),
                what: What::Upgrade {
                    words: "the upgrade to bundle v1.9.11 (Kubernetes v1.9.11, appliance 0.1.0, 000000000000)"
                        .to_owned(),
                    stage: Stage::Done,
                },
            },
        ],
        report,
    }
}

/// The same master: etcd has failed, so the API server does not answer.
pub fn degraded() -> Reading {
    let mut reading = healthy();
    let report = &mut reading.report;
    report.overall = Overall::Degraded;
    let etcd = &mut report.services[1];
    etcd.state = "failed (exit-code)".to_owned();
    etcd.problem = Some("see journalctl -u etcd".to_owned());
    etcd.journal = vec![
        "etcd Version: 3.2.18".to_owned(),
        "open /var/lib/etcd/member/snap/db: no space left on device".to_owned(),
        "etcd.service: Main process exited, code=exited, status=1/FAILURE".to_owned(),
    ];
    report.services[2].problem =
        Some("GET https://127.0.0.1:6443/healthz: connection refused".to_owned());
    report.certificates[1].problem =
        Some("expires soon; run `appliance install` to renew it".to_owned());
    report.storage[0].problem = Some(
        "97 % are used; most of it: /var/log (12 GiB), /var/lib/docker (3 GiB); remove what nobody needs".to_owned(),
    );
    report.storage[0].used = report.storage[0].size * 97 / 100;
    for addon in &mut report.addons {
        addon.available = false;
        addon.state = "the API server does not answer".to_owned();
    }
    report.peers[1].peer.info = "Active Socket: Connection refused".to_owned();
    report.peers[1].problem =
        Some("no session for 14 minutes; see `calicoctl node status` on server04".to_owned());
    reading.nodes = Nodes {
        list: vec![
            Node {
                state: NodeState::Degraded,
                ..here()
            },
            node("server03", "192.168.1.103", NodeState::Connected),
            Node {
                why: report.peers[1].problem.clone(),
                ..node("server04", "192.168.1.104", NodeState::NotConnected)
            },
        ],
        unknown: Some(
            "`/opt/appliance/current/bin/kubectl get nodes -o json` ended with status 1: The connection to the server \
             127.0.0.1:6443 was refused"
                .to_owned(),
        ),
    };
    reading.events.insert(
        0,
        Event {
            at: NOW - Duration::minutes(40),
            what: What::BackupFailed {
                why: "etcd does not answer".to_owned(),
            },
        },
    );
    reading
}

/// A machine that is becoming a node.
pub fn install() -> Reading {
    let since = NOW - Duration::minutes(3);
    let command =
        "/usr/local/bin/appliance install --role worker --master 192.168.1.102".to_owned();
    Reading {
        at: NOW,
        report: Report {
            changing: Some(Changing {
                process: 812,
                command: command.clone(),
                since: since.format(&Rfc3339).unwrap(),
                step: Some("start kube-calico".to_owned()),
                words: format!("process 812, `{command}`"),
            }),
            ..Report::not_installed()
        },
        nodes: Nodes::default(),
        run: Some(Run {
            command: "install".to_owned(),
            begun: since,
            at: NOW,
            step: 41,
            of: 91,
            what: "start kube-calico".to_owned(),
            process: None,
            times: None,
            copy: None,
        }),
        events: vec![Event {
            at: since,
            what: What::Runs { command },
        }],
    }
}

/// The degraded master, with hostile text in every value that is not this program's own.
pub fn hostile() -> Reading {
    let mut reading = degraded();
    spoil(&mut reading.report);
    for one in &mut reading.nodes.list {
        (one.name, one.address) = (long(), long());
        (one.why, one.version) = (Some(long()), Some(long()));
    }
    reading.nodes.unknown = Some(long());
    let whats = [
        What::Runs { command: long() },
        What::Interrupted {
            command: long(),
            step: 1,
            of: 2,
            doing: long(),
        },
        What::Upgrade {
            words: long(),
            stage: Stage::GoingBack,
        },
        What::Backup { place: long() },
        What::BackupFailed { why: long() },
        What::Restored { complete: false },
    ];
    reading.events = whats.map(|what| Event { at: NOW, what }).into();
    reading
}

/// A text that is hostile and long.
fn long() -> String {
    format!("{HOSTILE}{}", "x".repeat(300))
}

fn spoil(report: &mut Report) {
    report.node = Some(State {
        bundle: long(),
        kubernetes: long(),
        address: long(),
        ..state(&long())
    });
    report.interrupted = Some(long());
    report.upgrade = Some(long());
    report.boot = Some(long());
    for one in &mut report.services {
        (one.name, one.state) = (long(), long());
        (one.endpoint, one.problem) = (Some(long()), Some(long()));
        one.journal = vec![long(); 8];
    }
    for one in &mut report.images {
        (one.reference, one.problem) = (long(), Some(long()));
    }
    for one in &mut report.certificates {
        (one.name, one.not_after, one.problem) = (long(), long(), Some(long()));
    }
    for one in &mut report.peers {
        (one.node, one.problem) = (Some(long()), Some(long()));
        (one.peer.address, one.peer.info, one.peer.since) = (long(), long(), long());
    }
    for one in &mut report.addons {
        (one.name, one.state, one.problem) = (long(), long(), Some(long()));
    }
    for one in &mut report.storage {
        (one.name, one.problem) = (long(), Some(long()));
    }
    report.backup.as_mut().unwrap().problem = Some(long());
    report.changing = install().report.changing.map(|changing| Changing {
        command: long(),
        step: Some(long()),
        ..changing
    });
}

/// A master of 200 nodes, three of which are not ready.
pub fn many() -> Reading {
    let mut reading = healthy();
    let nodes = (3..203).map(|number| {
        let one = peer(number);
        let name = one.node.unwrap();
        match number % 67 {
            0 => Node {
                why: Some("Kubelet stopped posting node status.".to_owned()),
                ..node(&name, &one.peer.address, NodeState::NotReady)
            },
            _ => node(&name, &one.peer.address, NodeState::Ready),
        }
    });
    reading.nodes.list = [here()].into_iter().chain(nodes).collect();
    reading.report.peers = (3..203).map(peer).collect();
    reading
}
