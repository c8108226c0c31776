//! Compares the BGP peers of this node's BIRD with Calico's own list of nodes.

use std::collections::BTreeMap;

use anyhow::Result;
use schemars::JsonSchema;
use serde::Serialize;
use time::Duration;

use crate::clients::bird::{self, Bird, Peer};
use crate::clients::calicoctl::{self, ConfiguredPeer, Node};
use crate::language::tr;
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
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
        let names = self.names();
        let for_own = |peer: &&ConfiguredPeer| peer.node.as_deref().is_none_or(|n| n == own.name);
        let configured = self.configured.iter().filter(for_own).map(|peer| {
            let address = peer.address.to_string();
            let kind = if peer.node.is_some() {
                ONE_NODE
            } else {
                GLOBAL
            };
            let node = names.get(&address).map(ToString::to_string);
            (address, Wanted { kind, node })
        });
        let mut wanted: BTreeMap<String, Wanted> = configured.chain(others).collect();
        wanted.remove(own.address);
        wanted
    }

    /// The names of the nodes by address.
    fn names(&self) -> BTreeMap<String, &str> {
        let nodes = self.nodes.iter();
        nodes
            .filter_map(|node| Some((node.address?.to_string(), node.name.as_deref()?)))
            .collect()
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
    let names = calico.map(Calico::names).unwrap_or_default();
    let mut reports = Vec::new();
    for peer in bird.into_iter().flatten().flat_map(|bird| &bird.peers) {
        let wanted = wanted.remove(&peer.address);
        let node = names.get(&peer.address).map(ToString::to_string);
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
            info: tr!("BIRD does not have this peer"),
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
        Ok(None) => Some(tr!("no BIRD listens at {BIRD_SOCKET}", BIRD_SOCKET)),
        Ok(Some(bird)) => {
            let is_new = bird
                .times
                .is_some_and(|times| times.now - times.boot < COMING_UP);
            (!is_new).then(|| tr!("BIRD does not have this peer"))
        }
    }
}

fn down(peer: &Peer, node: Option<&str>, own: Own<'_>) -> String {
    let whose = node.map_or_else(
        || tr!("peer {}", peer.address),
        |node| tr!("node {node}", node),
    );
    let next = if peer.is_refused() {
        tr!("compare the AS numbers: `calicoctl get nodes -o wide`, `calicoctl get bgpPeer`")
    } else {
        tr!(
            "see `calicoctl node status` and `journalctl -u kube-calico` on both sides, and allow TCP \
         port 179 between them in the security group"
        )
    };
    tr!(
        "no BGP session with {whose} since {} ({}); {next}; {}",
        peer.since,
        peer.info,
        removal(peer.kind, &peer.address, node, own),
        whose,
        next
    )
}

fn missing(why: &str, address: &str, wanted: &Wanted, own: Own<'_>) -> String {
    let whose = wanted.node.as_ref().map_or_else(
        || tr!("peer {address}", address),
        |node| tr!("node {node}", node),
    );
    tr!(
        "no BGP session with {whose}, although Calico lists it: {why}; see `journalctl -u \
         kube-calico`, then run `systemctl restart kube-calico`; {}",
        removal(wanted.kind, address, wanted.node.as_deref(), own),
        whose,
        why
    )
}

fn unwanted(peer: &Peer) -> String {
    tr!(
        "no BGP session with a peer that Calico no longer lists ({}); compare `calicoctl get nodes \
         -o wide` and `calicoctl get bgpPeer`; see `journalctl -u kube-calico`, then run `systemctl \
         restart kube-calico`",
        peer.info
    )
}

/// How to remove a peer that no longer exists.
fn removal(kind: &str, address: &str, node: Option<&str>, own: Own<'_>) -> String {
    match (kind, node) {
        (MESH, Some(node)) => {
            tr!(
                "if this node is gone for good, run `calicoctl delete node {node}`",
                node
            )
        }
        (MESH, None) => {
            tr!(
                "if this node is gone for good, find its name with `calicoctl get nodes -o wide`, and \
             run `calicoctl delete node NAME`"
            )
        }
        (GLOBAL, _) => tr!(
            "if this peer is gone for good, run `calicoctl delete bgpPeer {address} --scope=global`",
            address
        ),
        _ => tr!(
            "if this peer is gone for good, run `calicoctl delete bgpPeer {address} --scope=node \
             --node={}`",
            own.name,
            address
        ),
    }
}

#[cfg(test)]
mod tests;
