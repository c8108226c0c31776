//! The nodes of the cluster, as far as this node knows them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::addons::object::{condition, listed, of_type, text};
use crate::clients::kubectl;
use crate::records::state::State;
use crate::status::{MasterReport, Overall, Report};
use crate::sys::process::Runner;

/// The nodes of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Nodes {
    /// Every node that is known, by name.
    pub list: Vec<Node>,
    /// Why a master could not ask the API server for all nodes.
    pub unknown: Option<String>,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Its name; its address if the name is not known.
    pub name: String,
    /// Its address; empty if it is not known.
    pub address: String,
    /// Whether it is this machine.
    pub here: bool,
    /// Its state.
    pub state: NodeState,
    /// What is wrong with it, in the words of whoever said so.
    pub why: Option<String>,
    /// The version of its kubelet.
    pub version: Option<String>,
}

/// What is known of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// Its services and checks are well.
    Healthy,
    /// One of them is not.
    Degraded,
    /// The API server says that it is ready.
    Ready,
    /// It is ready, and takes no new pods.
    Cordoned,
    /// The API server says that it is not ready.
    NotReady,
    /// This node exchanges routes with it.
    Connected,
    /// This node exchanges no routes with it now.
    NotConnected,
}

impl NodeState {
    /// Whether somebody should look at it.
    pub fn is_bad(self) -> bool {
        matches!(
            self,
            NodeState::Degraded | NodeState::NotReady | NodeState::NotConnected
        )
    }
}

impl Nodes {
    /// The nodes around the node of `report`. A master asks the API server for all; without its answer, and on a worker,
    /// they are the masters and the BGP peers.
    pub fn of(report: &Report, runner: &dyn Runner) -> Nodes {
        let Some(state) = &report.node else {
            return Nodes::default();
        };
        let is_master = state.shape().is_ok_and(|shape| shape.role.is_master());
        match is_master.then(|| kubectl::get(runner, &["nodes"])) {
            Some(Ok(list)) => Nodes {
                list: known(report, state, listed(&list).map(of_api)),
                unknown: None,
            },
            Some(Err(error)) => Nodes {
                list: known(report, state, peers(report)),
                unknown: Some(format!("{error:#}")),
            },
            None => Nodes {
                list: known(report, state, peers(report)),
                unknown: None,
            },
        }
    }
}

/// This node, the masters, and `others`, each once.
fn known(report: &Report, state: &State, others: impl Iterator<Item = Node>) -> Vec<Node> {
    let mut all = BTreeMap::new();
    let own = here(report, state);
    all.insert(own.name.clone(), own);
    let masters = report.masters.iter().flat_map(|all| &all.masters);
    for node in masters.map(of_master).chain(others) {
        let name = node.name.clone();
        let known = all.entry(name).or_insert_with(|| node.clone());
        known.version = known.version.take().or(node.version);
        if node.state.is_bad() && !known.state.is_bad() {
            (known.state, known.why) = (node.state, node.why);
        }
    }
    all.into_values().collect()
}

fn here(report: &Report, state: &State) -> Node {
    Node {
        name: state.node.clone(),
        address: state.address.clone(),
        here: true,
        state: match report.overall {
            Overall::Healthy | Overall::ClusterNotReady => NodeState::Healthy,
            Overall::Degraded | Overall::NotInstalled => NodeState::Degraded,
        },
        why: None,
        version: None,
    }
}

fn of_master(master: &MasterReport) -> Node {
    Node {
        name: master.name.clone(),
        address: master.address.to_string(),
        here: false,
        state: match &master.problem {
            None => NodeState::Healthy,
            Some(_) => NodeState::Degraded,
        },
        why: master.problem.clone(),
        version: None,
    }
}

/// A node of the API's list.
fn of_api(item: &Value) -> Node {
    let status = &item["status"];
    let ready = of_type(&status["conditions"], "Ready");
    let why = ready.map_or("its kubelet has not reported yet", |ready| {
        text(&ready["message"])
    });
    let state = match condition(&status["conditions"], "Ready", "True") {
        None => NodeState::NotReady,
        Some(_) if item["spec"]["unschedulable"] == true => NodeState::Cordoned,
        Some(_) => NodeState::Ready,
    };
    let address = of_type(&status["addresses"], "InternalIP");
    let version = text(&status["nodeInfo"]["kubeletVersion"]);
    Node {
        name: text(&item["metadata"]["name"]).to_owned(),
        address: address
            .map_or("", |entry| text(&entry["address"]))
            .to_owned(),
        here: false,
        state,
        why: (state.is_bad() && !why.is_empty()).then(|| why.to_owned()),
        version: (!version.is_empty()).then(|| version.to_owned()),
    }
}

/// The nodes with which this one exchanges routes.
fn peers(report: &Report) -> impl Iterator<Item = Node> {
    report.peers.iter().map(|one| Node {
        name: one.node.as_ref().unwrap_or(&one.peer.address).clone(),
        address: one.peer.address.clone(),
        here: false,
        state: match one.peer.is_established() {
            true => NodeState::Connected,
            false => NodeState::NotConnected,
        },
        why: one.problem.clone(),
        version: None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use anyhow::{Result, bail};
    use serde_json::json;

    use super::*;
    use crate::clients::bird::Peer;
    use crate::observe::peers::PeerReport;
    use crate::sys::process::{Command, Output};

    /// kubectl of a cluster with this list of nodes, or without an API server.
    struct Api(Option<Value>);

    impl Runner for Api {
        fn run(&self, command: &Command) -> Result<Output> {
            assert!(command.program.ends_with("/kubectl"), "{command}");
            let Some(list) = &self.0 else {
                bail!("connection refused");
            };
            Ok(Output {
                code: Some(0),
                stdout: list.to_string(),
                stderr: String::new(),
            })
        }
    }

    fn report(role: &str) -> Report {
        let state = json!({
            "appliance": "0.1.0", "bundle": "v1.9", "kubernetes": "v1.9.0", "digest": "", "demonstration": false,
            "role": role, "profile": "with-ca", "node": "own", "address": "192.0.2.1",
        });
        let peer = PeerReport {
            peer: Peer {
                address: "192.0.2.7".to_owned(),
                kind: "node-to-node mesh",
                state: "start".to_owned(),
                since: String::new(),
                info: "Active".to_owned(),
            },
            node: Some("peer".to_owned()),
            problem: Some("no session".to_owned()),
        };
        Report {
            overall: Overall::Healthy,
            node: Some(serde_json::from_value(state).unwrap()),
            peers: vec![peer],
            ..Report::not_installed()
        }
    }

    fn shown(nodes: &Nodes) -> Vec<(&str, NodeState, Option<&str>)> {
        let list = nodes.list.iter();
        list.map(|node| (&*node.name, node.state, node.why.as_deref()))
            .collect()
    }

    #[test]
    fn a_master_shows_the_nodes_of_the_api_and_itself_once() {
        let item = |name: &str, ready: &str, cordoned: bool| {
            json!({
                "metadata": { "name": name },
                "spec": { "unschedulable": cordoned },
                "status": {
                    "conditions": [{ "type": "Ready", "status": ready, "message": "no news" }],
                    "addresses": [{ "type": "InternalIP", "address": "192.0.2.2" }],
                    "nodeInfo": { "kubeletVersion": "v1.9.0" },
                },
            })
        };
        let list = json!({ "items": [
            item("a", "True", false), item("b", "True", true), item("c", "Unknown", false),
            item("own", "False", false), json!({ "metadata": { "name": "new" } }),
        ]});
        let nodes = Nodes::of(&report("master"), &Api(Some(list)));
        assert_eq!(
            shown(&nodes),
            [
                ("a", NodeState::Ready, None),
                ("b", NodeState::Cordoned, None),
                ("c", NodeState::NotReady, Some("no news")),
                (
                    "new",
                    NodeState::NotReady,
                    Some("its kubelet has not reported yet")
                ),
                ("own", NodeState::NotReady, Some("no news")),
            ]
        );
        assert_eq!(nodes.unknown, None);
        assert!(nodes.list[4].here && nodes.list[4].version.as_deref() == Some("v1.9.0"));
    }

    #[test]
    fn without_the_api_the_peers_are_shown() {
        let expected = [
            ("own", NodeState::Healthy, None),
            ("peer", NodeState::NotConnected, Some("no session")),
        ];
        let nodes = Nodes::of(&report("master"), &Api(None));
        assert_eq!(shown(&nodes), expected);
        assert_eq!(nodes.unknown.as_deref(), Some("connection refused"));
        // A worker does not ask.
        let nodes = Nodes::of(&report("worker"), &Api(Some(json!({ "items": [{}] }))));
        assert_eq!(shown(&nodes), expected);
        assert_eq!(nodes.unknown, None);
    }
}
