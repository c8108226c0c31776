//! Finds out about the cluster what the checks judge: kubectl, calicoctl, BIRD and the probes.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::addons::object::{condition, listed, of_type, text};
use crate::clients::bird::{self, Peer};
use crate::clients::kubectl;
use crate::paths::{BIN_DIR, BIRD_SOCKET};
use crate::sys::process::{Command, Runner};
use crate::sys::root::Root;

/// What was found out, or why it could not be.
pub type Found<T> = Result<T, String>;

/// All that was found out.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The versions of client and server.
    pub versions: Found<Versions>,
    /// What the control plane says of itself.
    pub components: Found<Vec<Component>>,
    /// The nodes of the cluster.
    pub nodes: Found<Vec<Node>>,
    /// The names of the nodes that joined this master.
    pub joined: Found<BTreeSet<String>>,
    /// The BGP peers of this node.
    pub peers: Found<Vec<Peer>>,
    /// The ranges Calico gives addresses of.
    pub pools: Found<Vec<String>>,
    /// What the probes say.
    pub probes: Found<Probes>,
}

/// Two versions of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// That of kubectl.
    pub client: String,
    /// That of the API server.
    pub server: String,
}

/// A part of the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// Whether it says that it is healthy.
    pub healthy: bool,
    /// What it says.
    pub message: String,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether it takes pods.
    pub schedulable: bool,
}

/// What a probe says, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// The node, by name, or by address where that matters.
    pub node: String,
    /// What was found.
    pub found: Found<T>,
}

/// The way from one node's pod to another's.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The node of the pod that asks.
    pub from: Node,
    /// The node of the pod that is asked.
    pub to: Node,
    /// Whether a connection comes about.
    pub connected: Found<()>,
    /// The biggest packet that passes unfragmented, of those as big as the MTU of pods, in bytes.
    pub passes: Found<u32>,
}

/// What the probes say.
#[derive(Clone, Debug, Default)]
pub struct Probes {
    /// The nodes that have one.
    pub pods: Vec<Node>,
    /// The addresses of `kubernetes.default`, as each finds them.
    pub dns: Vec<Answer<Vec<String>>>,
    /// Whether the service is reached at each node's address.
    pub node_ports: Vec<Answer<()>>,
    /// Ways between nodes: each node is the start of one and the end of another.
    pub pairs: Vec<Pair>,
    /// Whether each reaches the metadata service.
    pub metadata: Vec<Answer<bool>>,
}

/// An error in one line, as a fact.
pub fn told<T>(result: Result<T>) -> Found<T> {
    result.map_err(|error| format!("{error:#}"))
}

/// The versions in what `kubectl version --short` prints.
pub fn versions(runner: &dyn Runner) -> Result<Versions> {
    let text = kubectl::text(runner, &["version", "--short"])?;
    let version = |side: &str| {
        let mut lines = text.lines();
        let found = lines.find_map(|line| line.trim().strip_prefix(side));
        let found = found.with_context(|| format!("kubectl does not say its {side}"))?;
        Ok::<_, anyhow::Error>(found.trim().to_owned())
    };
    Ok(Versions {
        client: version("Client Version:")?,
        server: version("Server Version:")?,
    })
}

/// What the control plane says of itself.
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
pub fn nodes(runner: &dyn Runner) -> Result<Vec<Node>> {
    let list = kubectl::get(runner, &["nodes"])?;
    let node = |item: &Value| {
        let status = &item["status"];
        let internal = of_type(&status["addresses"], "InternalIP");
        Node {
            name: text(&item["metadata"]["name"]).to_owned(),
            address: internal.map_or("", |a| text(&a["address"])).to_owned(),
            ready: condition(&status["conditions"], "Ready", "True").is_some(),
            schedulable: item["spec"]["unschedulable"] != true,
        }
    };
    Ok(listed(&list).map(node).collect())
}

/// The BGP peers of this node.
pub fn peers(root: &Root) -> Result<Vec<Peer>> {
    bird::ask(&root.resolve(BIRD_SOCKET)?)?
        .with_context(|| format!("no BIRD listens at {BIRD_SOCKET}"))
}

/// The ranges Calico gives pods addresses of, as `calicoctl` v1 lists them.
pub fn pools(runner: &dyn Runner) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Pool {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        cidr: String,
    }
    let program = format!("{BIN_DIR}/calicoctl");
    let output = runner.check(&Command::new(&program, &["get", "ipPool", "-o", "json"]))?;
    let pools: Vec<Pool> =
        serde_json::from_str(&output.stdout).context("what `calicoctl get ipPool` prints")?;
    let cidrs = pools.into_iter().map(|pool| pool.metadata.cidr);
    // Pods have IPv4 addresses; Calico makes a pool of IPv6 ones by itself.
    Ok(cidrs.filter(|cidr| !cidr.contains(':')).collect())
}
