//! Runs the bundle's calicoctl (v1.6), which finds its settings in `/etc/calico/calicoctl.cfg`.

use core::net::Ipv4Addr;

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::nodespec::Ipip;
use crate::paths::BIN_DIR;
use crate::sys::process::{Command, Runner};

/// A node in Calico's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name. `None` if the list has a name that no node can have: such a name must not get into
    /// a command that the user copies.
    pub name: Option<String>,
    /// Its address for BGP; `None` if it has none.
    pub address: Option<Ipv4Addr>,
    /// This address with the subnet that it is in; `None` if Calico was told no subnet.
    pub subnet: Option<Ipv4Net>,
}

/// A pool of addresses for pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its range.
    pub cidr: String,
    /// When packets to its addresses go through tunnels.
    pub ipip: Ipip,
}

/// A BGP peer that the user configured, such as a route reflector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredPeer {
    /// Its address.
    pub address: Ipv4Addr,
    /// The only node that peers with it; `None` if every node does.
    pub node: Option<String>,
}

/// A resource of calicoctl v1.
#[derive(Deserialize)]
struct Resource<M, S> {
    metadata: M,
    spec: S,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Default, Deserialize)]
struct NodeSpec {
    bgp: Option<Bgp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bgp {
    ipv4_address: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfPeer {
    scope: String,
    node: Option<String>,
    #[serde(rename = "peerIP")]
    address: String,
}

#[derive(Deserialize)]
struct OfPool {
    cidr: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PoolSpec {
    ipip: Tunnels,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tunnels {
    enabled: bool,
    mode: Option<Ipip>,
}

/// A part that the program does not need.
#[derive(Deserialize)]
struct Ignored {}

fn run(runner: &dyn Runner, arguments: &[&str]) -> Result<String> {
    let command = Command::new(&format!("{BIN_DIR}/calicoctl"), arguments);
    Ok(runner.check(&command)?.stdout)
}

/// All resources of a kind.
fn get<T: DeserializeOwned>(runner: &dyn Runner, kind: &str) -> Result<Vec<T>> {
    let text = run(runner, &["get", kind, "-o", "json"])?;
    serde_json::from_str(&text)
        .with_context(|| format!("`calicoctl get {kind} -o json` printed an unexpected answer"))
}

/// Calico's own list of nodes.
pub fn nodes(runner: &dyn Runner) -> Result<Vec<Node>> {
    let listed: Vec<Resource<Named, NodeSpec>> = get(runner, "nodes")?;
    let node = |resource: Resource<Named, NodeSpec>| {
        let network = resource.spec.bgp.and_then(|bgp| bgp.ipv4_address);
        // The length of the network's prefix follows the address.
        let address = network.as_ref().map(|network| {
            let address = network.split('/').next().unwrap_or_default().parse();
            address
                .with_context(|| format!("invalid address {network:?} in Calico's list of nodes"))
        });
        let subnet = network.as_deref().and_then(|network| network.parse().ok());
        Ok(Node {
            subnet: subnet.filter(|subnet: &Ipv4Net| subnet.prefix_len() < 32),
            name: Some(resource.metadata.name).filter(|name| is_name(name)),
            address: address.transpose()?,
        })
    };
    listed.into_iter().map(node).collect()
}

/// Whether a node can have this name.
fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|char| char.is_ascii_alphanumeric() || matches!(char, '.' | '-' | '_'))
}

/// Whether every node peers with every other node.
pub fn has_mesh(runner: &dyn Runner) -> Result<bool> {
    match run(runner, &["config", "get", "nodeToNodeMesh"])?.trim() {
        "on" => Ok(true),
        "off" => Ok(false),
        other => {
            bail!("`calicoctl config get nodeToNodeMesh` printed {other:?}, not `on` or `off`")
        }
    }
}

/// The IPv4 peers that the user configured.
pub fn configured_peers(runner: &dyn Runner) -> Result<Vec<ConfiguredPeer>> {
    let listed: Vec<Resource<OfPeer, Ignored>> = get(runner, "bgpPeer")?;
    let peer = |resource: Resource<OfPeer, Ignored>| {
        let OfPeer {
            scope,
            node,
            address,
        } = resource.metadata;
        if address.contains(':') {
            // IPv6: pods have IPv4 addresses.
            return None;
        }
        let invalid = || format!("invalid address {address:?} in Calico's list of BGP peers");
        Some(
            address
                .parse()
                .with_context(invalid)
                .map(|address| ConfiguredPeer {
                    address,
                    node: node.filter(|_| scope == "node"),
                }),
        )
    };
    listed.into_iter().filter_map(peer).collect()
}

/// Calico's IPv4 pools. Calico also creates an IPv6 pool by itself.
pub fn pools(runner: &dyn Runner) -> Result<Vec<Pool>> {
    let listed: Vec<Resource<OfPool, PoolSpec>> = get(runner, "ipPool")?;
    let pools = listed.into_iter().map(|pool| {
        let tunnels = pool.spec.ipip;
        Pool {
            cidr: pool.metadata.cidr,
            ipip: match (tunnels.enabled, tunnels.mode) {
                (false, _) => Ipip::Off,
                (true, mode) => mode.unwrap_or(Ipip::Always),
            },
        }
    });
    Ok(pools.filter(|pool| !pool.cidr.contains(':')).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sys::process::Output;

    /// A calicoctl with one answer.
    struct Recorded(&'static str);

    impl Runner for Recorded {
        fn run(&self, _: &Command) -> Result<Output> {
            Ok(Output {
                code: Some(0),
                stdout: self.0.to_owned(),
                stderr: String::new(),
            })
        }
    }

    #[test]
    fn nodes_are_listed_with_their_addresses() {
        // As v1.6.1 prints it: the second node has no address yet.
        let answer = r#"[
          {
            "kind": "node",
            "apiVersion": "v1",
            "metadata": {
              "name": "server02"
            },
            "spec": {
              "bgp": {
                "ipv4Address": "192.168.1.102/24"
              }
            }
          },
          {"kind": "node", "apiVersion": "v1", "metadata": {"name": "server03"}, "spec": {}}
        ]"#;
        let nodes = nodes(&Recorded(answer)).unwrap();
        let [first, second] = nodes.as_slice() else {
            panic!("{nodes:?}");
        };
        assert_eq!(first.name.as_deref(), Some("server02"));
        assert_eq!(first.address, Some(Ipv4Addr::new(192, 168, 1, 102)));
        let subnet = first.subnet.map(|subnet| subnet.trunc().to_string());
        assert_eq!(subnet.as_deref(), Some("192.168.1.0/24"));
        assert_eq!(
            (second.name.as_deref(), second.address),
            (Some("server03"), None)
        );
    }

    #[test]
    fn pools_are_listed_with_their_tunnels() {
        let pool =
            |spec: &str| format!(r#"{{"metadata": {{"cidr": "10.0.0.0/16"}}, "spec": {spec}}}"#);
        for (spec, ipip) in [
            (r#"{"nat-outgoing": true}"#, Ipip::Off),
            (
                r#"{"ipip": {"enabled": false, "mode": "always"}}"#,
                Ipip::Off,
            ),
            (r#"{"ipip": {"enabled": true}}"#, Ipip::Always),
            (
                r#"{"ipip": {"enabled": true, "mode": "cross-subnet"}}"#,
                Ipip::CrossSubnet,
            ),
        ] {
            let answer = format!("[{}]", pool(spec));
            let pools = pools(&Recorded(Box::leak(answer.into_boxed_str()))).unwrap();
            assert_eq!(pools[0].ipip, ipip, "{spec}");
        }
    }

    #[test]
    fn a_name_that_is_not_one_does_not_get_into_commands() {
        for name in ["x; reboot", "-f", "$(id)", "a b", "", "ä"] {
            let answer = format!(
                r#"[{{"metadata": {{"name": {name:?}}},
                     "spec": {{"bgp": {{"ipv4Address": "192.0.2.1/24"}}}}}}]"#
            );
            let found = nodes(&Recorded(Box::leak(answer.into_boxed_str()))).unwrap();
            assert_eq!(found[0].name, None, "{name}");
            assert!(found[0].address.is_some());
        }
    }

    #[test]
    fn peers_of_all_nodes_and_of_one_are_listed() {
        let answer = r#"[
          {"kind": "bgpPeer", "apiVersion": "v1", "metadata": {"scope": "global",
           "peerIP": "192.168.1.201"}, "spec": {"asNumber": 64512}},
          {"kind": "bgpPeer", "apiVersion": "v1", "metadata": {"scope": "node", "node": "server03",
           "peerIP": "192.168.1.9"}, "spec": {"asNumber": 64513}},
          {"kind": "bgpPeer", "apiVersion": "v1", "metadata": {"scope": "global",
           "peerIP": "fd80::1"}, "spec": {"asNumber": 64512}}
        ]"#;
        let peers = configured_peers(&Recorded(answer)).unwrap();
        let told: Vec<String> = peers
            .iter()
            .map(|peer| format!("{} {:?}", peer.address, peer.node))
            .collect();
        assert_eq!(
            told,
            ["192.168.1.201 None", "192.168.1.9 Some(\"server03\")"]
        );
    }

    #[test]
    fn an_unexpected_answer_is_an_error_that_names_the_command() {
        let error = nodes(&Recorded("{}")).unwrap_err().to_string();
        assert!(error.contains("calicoctl get nodes"), "{error}");
        let broken = r#"[{"metadata": {"name": "a"}, "spec": {"bgp": {"ipv4Address": "x"}}}]"#;
        let error = nodes(&Recorded(broken)).unwrap_err().to_string();
        assert!(error.contains("invalid address \"x\""), "{error}");
        assert!(has_mesh(&Recorded("on\n")).unwrap() && !has_mesh(&Recorded("off\n")).unwrap());
        assert!(has_mesh(&Recorded("maybe\n")).is_err());
    }
}
