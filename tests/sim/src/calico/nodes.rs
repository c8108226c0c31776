//! etcd's data about BGP: the nodes, and the settings of all nodes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::bird::Peer;
use super::datastore::Datastore;

/// The nodes; each has a directory with its `ip_addr_v4` and more.
pub const HOSTS: &str = "/calico/bgp/v1/host";
const GLOBAL: &str = "/calico/bgp/v1/global";
const MESH: &str = "/calico/bgp/v1/global/node_mesh";
/// The default autonomous system of Calico.
const DEFAULT_SYSTEM: u32 = 64512;

/// A node.
#[derive(Debug, Default)]
pub struct Node {
    /// Its address, if it is known yet.
    pub address: Option<Ipv4Addr>,
    /// Its address with the length of its network's prefix.
    pub network: String,
    /// Its autonomous system, if it differs from the default.
    pub system: Option<u32>,
}

/// The settings of all nodes.
#[derive(Debug)]
pub struct Global {
    /// Whether every node peers with every other.
    pub mesh: bool,
    /// The autonomous system.
    pub system: u32,
    /// The routers that are peers of every node.
    pub peers: Vec<Peer>,
}

/// Every node by its name.
///
/// # Errors No etcd, or an invalid value.
pub fn nodes(store: &Datastore) -> Result<BTreeMap<String, Node>> {
    let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
    for leaf in store.tree(HOSTS)? {
        let Some((name, field)) = leaf
            .key
            .strip_prefix(HOSTS)
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(|rest| rest.split_once('/'))
        else {
            continue;
        };
        let node = nodes.entry(name.to_owned()).or_default();
        match field {
            "ip_addr_v4" if !leaf.value.is_empty() => {
                node.address = Some(leaf.value.parse().with_context(|| leaf.key.clone())?);
            }
            "network_v4" => node.network = leaf.value,
            "as_num" => node.system = Some(number(&json!(leaf.value)).context(leaf.key)?),
            _ => {}
        }
    }
    Ok(nodes)
}

/// The settings of all nodes.
///
/// # Errors No etcd, or an invalid value.
pub fn global(store: &Datastore) -> Result<Global> {
    let mut global = Global {
        mesh: true,
        system: DEFAULT_SYSTEM,
        peers: Vec::new(),
    };
    for leaf in store.tree(GLOBAL)? {
        let broken = || leaf.key.clone();
        let field = leaf.key.strip_prefix(GLOBAL).unwrap_or_default();
        if field == "/as_num" {
            global.system = number(&json!(leaf.value)).with_context(broken)?;
        } else if field == "/node_mesh" {
            let value: Value = serde_json::from_str(&leaf.value).with_context(broken)?;
            global.mesh = value["enabled"].as_bool().with_context(broken)?;
        } else if field.starts_with("/peer_v4/") {
            let value: Value = serde_json::from_str(&leaf.value).with_context(broken)?;
            let address = value["ip"].as_str().with_context(broken)?;
            global.peers.push(Peer {
                address: address.parse().with_context(broken)?,
                system: number(&value["as_num"]).with_context(broken)?,
            });
        }
    }
    global.peers.sort_by_key(|peer| peer.address);
    Ok(global)
}

/// Switches the mesh of all nodes on or off.
///
/// # Errors
/// No etcd.
pub fn set_mesh(store: &Datastore, enabled: bool) -> Result<()> {
    store.put(MESH, &json!({"enabled": enabled}).to_string())
}

/// The number of an autonomous system, which Calico writes as text.
fn number(value: &Value) -> Result<u32> {
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    text.parse()
        .with_context(|| format!("{text:?} is not an AS number"))
}
