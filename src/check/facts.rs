//! Collects the facts that the checks need, from kubectl, calicoctl, BIRD and the probes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;
use serde_json::Value;

use crate::addons::object::{condition, listed, of_type, text};
use crate::addons::{CALICO, Cluster, Standing};
use crate::clients::calicoctl::{self, Pool};
use crate::clients::kubectl;
use crate::language::tr;
use crate::observe::peers::{self, Own, PeerReport};
use crate::observe::{addons, records};
use crate::sys::process::Runner;
use crate::sys::root::Root;

/// A fact, or the reason why it is unknown.
pub type Found<T> = Result<T, String>;

/// All facts about the cluster.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The versions of client and server.
    pub versions: Found<Versions>,
    /// The component statuses of the control plane.
    pub components: Found<Vec<Component>>,
    /// The nodes of the cluster.
    pub nodes: Found<Vec<CheckedNode>>,
    /// The names of the nodes that joined this master.
    pub joined: Found<BTreeSet<String>>,
    /// The BGP peers of this node, and those that it should have.
    pub peers: Found<Vec<PeerReport>>,
    /// Calico's IP pools.
    pub pools: Found<Vec<Pool>>,
    /// The address and subnet of each node, as Calico knows them. Nodes whose subnet is not known are not
    /// in it.
    pub subnets: Found<BTreeMap<String, Ipv4Net>>,
    /// The results of the probes.
    pub probes: Result<Probes, Unprobed>,
}

/// Two versions of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The version of kubectl.
    pub client: String,
    /// The version of the API server.
    pub server: String,
}

/// A part of the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// Whether it reports that it is healthy.
    pub healthy: bool,
    /// Its status message.
    pub message: String,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckedNode {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether it takes pods.
    pub schedulable: bool,
}

/// The result of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// The node: its name, or its address for a test of that address.
    pub node: String,
    /// What was found.
    pub found: Found<T>,
}

/// The connection from a pod on one node, or from this master, to a pod on another node.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The node of the sender.
    pub from: CheckedNode,
    /// The node of the receiving pod.
    pub to: CheckedNode,
    /// Whether they can connect.
    pub connected: Found<()>,
    /// The size of the biggest packet that passes unfragmented, in bytes; at most the MTU of pods. `None`
    /// if it was not measured.
    pub passes: Option<Found<u32>>,
}

/// Why there are no results of the probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unprobed {
    /// The user wants none: `--no-pods`.
    NotWanted,
    /// The probes do not run, for this reason.
    Failed(String),
}

/// The results of the probes.
#[derive(Clone, Debug, Default)]
pub struct Probes {
    /// The nodes that run a probe.
    pub pods: Vec<CheckedNode>,
    /// The addresses that each probe gets for `kubernetes.default`.
    pub dns: Vec<Answer<Vec<String>>>,
    /// Whether the service answers at each node's address.
    pub node_ports: Vec<Answer<()>>,
    /// Connections between nodes.
    pub pairs: Vec<Pair>,
    /// Whether each probe reaches the metadata service.
    pub metadata: Vec<Answer<bool>>,
}

/// Turns an error into one line.
pub fn told<T>(result: Result<T>) -> Found<T> {
    result.map_err(|error| format!("{error:#}"))
}

/// The versions that `kubectl version --short` prints.
pub fn versions(runner: &dyn Runner) -> Result<Versions> {
    let text = kubectl::text(runner, &["version", "--short"])?;
    let version = |side: &str| {
        let mut lines = text.lines();
        let found = lines.find_map(|line| line.trim().strip_prefix(side));
        let found = found
            .with_context(|| tr!("`kubectl version --short` printed no line `{side}`", side))?;
        Ok::<_, anyhow::Error>(found.trim().to_owned())
    };
    Ok(Versions {
        client: version("Client Version:")?,
        server: version("Server Version:")?,
    })
}

/// The component statuses of the control plane.
pub fn components(runner: &dyn Runner) -> Result<Vec<Component>> {
    let list = kubectl::get(runner, &["componentstatuses"])?;
    let component = |item: &Value| {
        let health = of_type(&item["conditions"], "Healthy");
        let said = |field: &str| health.and_then(|c| c[field].as_str()).unwrap_or_default();
        Component {
            name: text(&item["metadata"]["name"]).to_owned(),
            healthy: said("status") == "True",
            message: format!("{} {}", said("message"), said("error"))
                .trim()
                .to_owned(),
        }
    };
    Ok(listed(&list).map(component).collect())
}

/// The nodes of the cluster.
pub fn nodes(runner: &dyn Runner) -> Result<Vec<CheckedNode>> {
    let list = kubectl::get(runner, &["nodes"])?;
    let node = |item: &Value| {
        let status = &item["status"];
        let internal = of_type(&status["addresses"], "InternalIP");
        CheckedNode {
            name: text(&item["metadata"]["name"]).to_owned(),
            address: internal.map_or("", |a| text(&a["address"])).to_owned(),
            ready: condition(&status["conditions"], "Ready", "True").is_some(),
            schedulable: item["spec"]["unschedulable"] != true,
        }
    };
    Ok(listed(&list).map(node).collect())
}

/// Refuses probes while Calico's controllers are not available.
///
/// # Errors
/// If they are not: until then, pods of a new namespace reach nothing, and nothing reaches them.
pub fn refuse_without_policies(root: &Root, runner: &dyn Runner) -> Result<()> {
    let index = addons::index(root)?;
    let Some(calico) = index.iter().find(|addon| addon.name == CALICO) else {
        return Ok(());
    };
    let cluster = Cluster::of(&kubectl::get(runner, &["nodes"])?);
    match addons::standing(runner, calico, &cluster)? {
        Standing::Available(_) => Ok(()),
        Standing::Waiting(why) | Standing::Stuck(why) => bail!(tr!(
            "{CALICO}: {why}; until it is available, pods of a new namespace reach nothing: see `appliance status`",
            CALICO,
            why
        )),
    }
}

/// The address and subnet of each node that Calico knows, by name.
pub fn subnets(runner: &dyn Runner) -> Result<BTreeMap<String, Ipv4Net>> {
    let nodes = calicoctl::nodes(runner)?.into_iter();
    Ok(nodes
        .filter_map(|node| Some((node.name?, node.subnet?)))
        .collect())
}

/// This machine as a sender. Masters are not among the nodes of the API.
pub fn here(root: &Root) -> Result<CheckedNode> {
    let state = records::state(root)?.context(tr!("this machine is not installed"))?;
    Ok(CheckedNode {
        name: state.node,
        address: state.address,
        ready: true,
        schedulable: false,
    })
}

/// The BGP peers of this node, compared with Calico's own list of nodes.
pub fn peers(root: &Root, runner: &dyn Runner) -> Result<Vec<PeerReport>> {
    let state = records::state(root)?.context(tr!("this machine is not installed"))?;
    let own = Own {
        name: &state.node,
        address: &state.address,
    };
    let peers = peers::peers(root, runner, own);
    match peers.not_compared {
        Some(why) => bail!(tr!(
            "cannot compare the BGP peers with Calico's list of nodes: {why}",
            why
        )),
        None => Ok(peers.reports),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::paths;
    use crate::sys::change::Change;
    use crate::sys::process::{Command, Output};

    /// A cluster with a node that runs pods. The controllers' status is of an older version of their deployment, or not.
    struct Rollout(u64);

    impl Runner for Rollout {
        fn run(&self, command: &Command) -> Result<Output> {
            let ready = json!([{"type": "Ready", "status": "True"}]);
            let node =
                json!({"metadata": {"name": "n"}, "spec": {}, "status": {"conditions": ready}});
            let status = json!({
                "observedGeneration": self.0, "availableReplicas": 1, "updatedReplicas": 1
            });
            let deployment = json!({
                "kind": "Deployment", "metadata": {"name": "calico-kube-controllers", "generation": 2},
                "spec": {"replicas": 1}, "status": status,
            });
            let command = command.to_string();
            let objects = match () {
                () if command.contains("get nodes") => json!([node]),
                () if command.contains("get -f") => json!([deployment]),
                () => json!([]),
            };
            Ok(Output {
                code: Some(0),
                stdout: json!({"kind": "List", "items": objects}).to_string(),
                stderr: String::new(),
            })
        }
    }

    #[test]
    fn pods_are_not_blamed_while_calicos_controllers_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        refuse_without_policies(&root, &Rollout(1)).unwrap();
        let index = json!([{"name": CALICO, "path": "/c.yaml", "digest": "d"}]);
        root.write(paths::ADDONS_INDEX, index.to_string().as_bytes(), 0o644)
            .unwrap();
        refuse_without_policies(&root, &Rollout(2)).unwrap();
        let refused = refuse_without_policies(&root, &Rollout(1)).unwrap_err();
        let refused = refused.to_string();
        assert!(refused.starts_with("calico: 0 of 1 available"), "{refused}");
    }
}
