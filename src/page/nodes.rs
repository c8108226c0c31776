//! The nodes of the cluster, as far as this node knows them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::records::state::State;
use crate::status::{MasterReport, NodeReport, Overall, Report};

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
    /// The nodes around the node of `report`. A master knows all of Kubernetes; without its answer, and on a worker, they
    /// are the masters and the BGP peers.
    pub fn of(report: &Report) -> Nodes {
        let Some(state) = &report.node else {
            return Nodes::default();
        };
        let is_master = state.shape().is_ok_and(|shape| shape.role.is_master());
        let asked = report.nodes.as_ref().filter(|_| is_master);
        let unknown = asked.and_then(|all| all.unknown.clone());
        let list = match asked.filter(|_| unknown.is_none()) {
            Some(all) => known(report, state, all.nodes.iter().map(of_kubernetes)),
            None => known(report, state, peers(report)),
        };
        Nodes { list, unknown }
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

/// A node as Kubernetes describes it.
fn of_kubernetes(node: &NodeReport) -> Node {
    let state = match node.ready {
        false => NodeState::NotReady,
        true if node.cordoned => NodeState::Cordoned,
        true => NodeState::Ready,
    };
    Node {
        name: node.name.clone(),
        address: node.address.clone().unwrap_or_default(),
        here: false,
        state,
        why: node.message.clone(),
        version: node.version.clone(),
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
    use serde_json::{Value, json};
    use time::OffsetDateTime;

    use super::*;
    use crate::clients::bird::Peer;
    use crate::observe::peers::PeerReport;
    use crate::status::NodesReport;

    /// A node of this role, where Kubernetes answers with this list.
    fn report(role: &str, list: Result<Value, String>) -> Report {
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
            nodes: Some(NodesReport::of(list, None, OffsetDateTime::UNIX_EPOCH)),
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
        let nodes = Nodes::of(&report("master", Ok(list)));
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
        let nodes = Nodes::of(&report("master", Err("connection refused".to_owned())));
        assert_eq!(shown(&nodes), expected);
        assert_eq!(nodes.unknown.as_deref(), Some("connection refused"));
        // A worker may read only its own node.
        let nodes = Nodes::of(&report("worker", Ok(json!({ "items": [{}] }))));
        assert_eq!(shown(&nodes), expected);
        assert_eq!(nodes.unknown, None);
    }
}
