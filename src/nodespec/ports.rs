//! The table of open ports: the traffic that nodes accept from the network, from whom, and why. The
//! firewalls and the security groups in `deploy/` follow it. Pure.

use std::fmt;

use super::network::PortRange;
use super::{Ipip, Profile, Role};
use crate::language::{message, tr, translated};

/// The port of kube-apiserver.
pub const API_SERVER: u16 = 6443;
/// The port of kube-apiserver without TLS, in profile simple.
pub const API_SERVER_SIMPLE: u16 = 8080;
/// The port at which etcd serves its clients.
pub const ETCD_CLIENTS: u16 = 2379;
/// The port at which etcd's members reach each other.
pub const ETCD_PEERS: u16 = 2380;
/// The port at which masters serve Calico's data to nodes.
pub const CALICO_DATASTORE: u16 = 2378;
/// The port of the kubelet.
pub const KUBELET: u16 = 10250;
/// The port on 127.0.0.1 of Felix' health endpoint.
pub const FELIX_HEALTH: u16 = 9099;
/// The port on 127.0.0.1 of the kubelet's health endpoint.
pub const KUBELET_HEALTH: u16 = 10248;
/// The port on 127.0.0.1 of the scheduler's health endpoint.
pub const SCHEDULER_HEALTH: u16 = 10251;
/// The port on 127.0.0.1 of the controller manager's health endpoint.
pub const CONTROLLER_MANAGER_HEALTH: u16 = 10252;
/// The port on 127.0.0.1 of kube-proxy's health endpoint.
pub const PROXY_HEALTH: u16 = 10256;
/// The default port of the join service (setting `join.port`).
pub const JOIN: u16 = 6444;
/// The default port on 127.0.0.1 of the balancer (setting `balancerPort`).
pub const BALANCER: u16 = 6440;
/// The default port on 127.0.0.1 of the status page (`appliance serve-status`). It is in no range that a node uses.
pub const STATUS_PAGE: u16 = 6480;
/// The default ports of services on every node (setting `nodePortRange`).
pub const NODE_PORTS: (u16, u16) = (20000, 40000);
/// Ports that services use only on the node itself: the health endpoints of Felix, kubelet,
/// kube-proxy, scheduler and controller manager, kube-proxy's metrics, and the kubelet's former read-only port.
/// Each with the nodes that use it.
pub const OWN: &[(Nodes, u16)] = &[
    (Nodes::All, FELIX_HEALTH),
    (Nodes::Workers, KUBELET_HEALTH),
    (Nodes::Workers, 10249),
    (Nodes::Masters, SCHEDULER_HEALTH),
    (Nodes::Masters, CONTROLLER_MANAGER_HEALTH),
    (Nodes::Workers, 10255),
    (Nodes::Workers, PROXY_HEALTH),
];

/// The nodes that accept the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nodes {
    /// All nodes.
    All,
    /// The nodes of the control plane.
    Masters,
    /// The nodes that run pods.
    Workers,
}

impl Nodes {
    /// Whether a node of this role is one of them.
    pub fn include(self, role: Role) -> bool {
        match self {
            Nodes::All => true,
            Nodes::Masters => role.is_master(),
            Nodes::Workers => role.is_worker(),
        }
    }
}

impl fmt::Display for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&translated(match self {
            Nodes::All => message!("nodes"),
            Nodes::Masters => message!("masters"),
            Nodes::Workers => message!("workers"),
        }))
    }
}

/// The senders of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// Nodes of the cluster.
    Nodes(Nodes),
    /// Pods, at addresses of `podCIDR`.
    Pods,
    /// Clients outside the cluster, which the operator names.
    Clients,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Nodes(nodes) => nodes.fmt(f),
            Peer::Pods => f.write_str(&tr!("pods")),
            Peer::Clients => f.write_str(&tr!("clients")),
        }
    }
}

/// The traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Traffic {
    /// TCP to these ports, first to last.
    Tcp(u16, u16),
    /// UDP to these ports, first to last.
    Udp(u16, u16),
    /// IP-in-IP: protocol 4. Firewalls use different names for it.
    Tunnel,
    /// Anything.
    Anything,
}

impl Traffic {
    /// The protocol number (RFC 5237); `None` for all protocols.
    pub fn protocol(self) -> Option<u8> {
        match self {
            Traffic::Tcp(..) => Some(6),
            Traffic::Udp(..) => Some(17),
            Traffic::Tunnel => Some(4),
            Traffic::Anything => None,
        }
    }

    /// The ports, if the protocol has ports.
    pub fn ports(self) -> Option<(u16, u16)> {
        match self {
            Traffic::Tcp(first, last) | Traffic::Udp(first, last) => Some((first, last)),
            Traffic::Tunnel | Traffic::Anything => None,
        }
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Traffic::Tcp(..) => "TCP",
            Traffic::Udp(..) => "UDP",
            Traffic::Tunnel => "protocol 4",
            Traffic::Anything => "anything",
        };
        match self.ports() {
            Some((first, last)) if first == last => write!(f, "{name} {first}"),
            Some((first, last)) => write!(f, "{name} {first}-{last}"),
            None => f.write_str(name),
        }
    }
}

/// The clusters that need this traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// All clusters.
    Always,
    /// Clusters that route pods' packets between nodes without tunnels (`ipip: off` or
    /// `cross-subnet`).
    Routed,
    /// Clusters with tunnels (`ipip: cross-subnet` or `always`).
    Tunnelled,
    /// Clusters of profile simple.
    Simple,
    /// Clusters with certificates.
    Tls,
}

impl When {
    /// Whether a cluster with these settings is one of them.
    pub fn holds(self, profile: Profile, ipip: Ipip) -> bool {
        match self {
            When::Always => true,
            When::Routed => ipip != Ipip::Always,
            When::Tunnelled => ipip != Ipip::Off,
            When::Simple => profile == Profile::Simple,
            When::Tls => profile == Profile::WithCa,
        }
    }
}

/// One rule: traffic that nodes accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Its name, which the templates use for their rule.
    pub name: &'static str,
    /// The nodes that accept it.
    pub on: Nodes,
    /// Its senders.
    pub from: Peer,
    /// The protocol and ports.
    pub traffic: Traffic,
    /// The clusters that need it.
    pub when: When,
    /// Its purpose.
    pub purpose: &'static str,
}

const fn opening(
    name: &'static str,
    on: Nodes,
    from: Peer,
    traffic: Traffic,
    when: When,
    purpose: &'static str,
) -> Opening {
    Opening {
        name,
        on,
        from,
        traffic,
        when,
        purpose,
    }
}

const fn tcp(port: u16) -> Traffic {
    Traffic::Tcp(port, port)
}

const FROM_NODES: Peer = Peer::Nodes(Nodes::All);
const FROM_MASTERS: Peer = Peer::Nodes(Nodes::Masters);
const TCP_NODE_PORTS: Traffic = Traffic::Tcp(NODE_PORTS.0, NODE_PORTS.1);
const UDP_NODE_PORTS: Traffic = Traffic::Udp(NODE_PORTS.0, NODE_PORTS.1);

/// All traffic that nodes accept. Packets from pods to nodes have the address of their node: Calico
/// masquerades everything that leaves the pool.
#[rustfmt::skip]
pub const OPENINGS: &[Opening] = &[
    opening("bgp", Nodes::All, FROM_NODES, tcp(179), When::Always, "Calico: routes to pods, between nodes (BGP)"),
    opening("tunnel", Nodes::All, FROM_NODES, Traffic::Tunnel, When::Tunnelled, "Calico's IP-in-IP tunnels between nodes"),
    opening("api_server", Nodes::Masters, FROM_NODES, tcp(API_SERVER), When::Always, "API server, for kubelets, kube-proxies, pods and other masters"),
    opening("api_clients", Nodes::Masters, Peer::Clients, tcp(API_SERVER), When::Always, "API server, for kubectl outside the cluster"),
    opening("api_simple", Nodes::Masters, FROM_NODES, tcp(API_SERVER_SIMPLE), When::Simple, "API server without TLS"),
    opening("calico_datastore", Nodes::Masters, FROM_NODES, tcp(CALICO_DATASTORE), When::Tls, "Calico's data in etcd, for Calico on each node"),
    opening("etcd_calico_simple", Nodes::Masters, FROM_NODES, tcp(ETCD_CLIENTS), When::Simple, "etcd without TLS, for Calico on each node"),
    opening("etcd_clients", Nodes::Masters, FROM_MASTERS, tcp(ETCD_CLIENTS), When::Tls, "etcd, for the other masters"),
    opening("etcd_peers", Nodes::Masters, FROM_MASTERS, tcp(ETCD_PEERS), When::Always, "etcd's members among themselves"),
    opening("join", Nodes::Masters, FROM_NODES, tcp(JOIN), When::Always, "join service, for nodes that have a token"),
    opening("renew", Nodes::Masters, FROM_NODES, tcp(JOIN + 1), When::Always, "renewal of certificates, for nodes that have joined"),
    opening("kubelet", Nodes::Workers, FROM_MASTERS, tcp(KUBELET), When::Always, "kubelet, for logs and exec through the API server"),
    opening("node_ports_tcp", Nodes::Workers, Peer::Clients, TCP_NODE_PORTS, When::Always, "services of type NodePort"),
    opening("node_ports_udp", Nodes::Workers, Peer::Clients, UDP_NODE_PORTS, When::Always, "services of type NodePort"),
    opening("node_ports_nodes_tcp", Nodes::Workers, FROM_NODES, TCP_NODE_PORTS, When::Always, "services of type NodePort, for pods and checks"),
    opening("node_ports_nodes_udp", Nodes::Workers, FROM_NODES, UDP_NODE_PORTS, When::Always, "services of type NodePort, for pods and checks"),
    opening("pods", Nodes::Workers, Peer::Pods, Traffic::Anything, When::Routed, "traffic between pods; NetworkPolicies restrict it"),
    opening("pods_nodes", Nodes::Workers, FROM_NODES, Traffic::Anything, When::Routed, "traffic from nodes to pods: NodePorts, the API server's proxy"),
];

/// The ports that templates use, by the name they have there (`ports.NAME`).
pub fn for_templates() -> impl Iterator<Item = (&'static str, u16)> {
    [
        ("api_server", API_SERVER),
        ("api_server_simple", API_SERVER_SIMPLE),
        ("calico_datastore", CALICO_DATASTORE),
        ("etcd_clients", ETCD_CLIENTS),
        ("etcd_peers", ETCD_PEERS),
    ]
    .into_iter()
}

/// The ports that a service of a node may use, first to last, besides those that the operator chooses.
fn taken() -> impl Iterator<Item = (u16, u16)> {
    let chosen = [NODE_PORTS, (JOIN, JOIN), (JOIN + 1, JOIN + 1)];
    let openings = OPENINGS.iter();
    openings
        .filter_map(|opening| opening.traffic.ports())
        .filter(move |ports| !chosen.contains(ports))
        .chain(OWN.iter().map(|(_, port)| (*port, *port)))
}

/// Whether a service of a node may use this port, so that the operator cannot choose it.
pub fn is_taken(port: u16) -> bool {
    taken().any(|(first, last)| (first..=last).contains(&port))
}

/// Reads the setting `nodePortRange`. The range has none of the ports of a node's services: the API server would
/// give them to pods.
pub fn node_ports(text: &str) -> Result<PortRange, String> {
    let range = PortRange::parse(text)?;
    let by_default = [JOIN, JOIN + 1, BALANCER].map(|port| (port, port));
    let shared = |(first, last): (u16, u16)| {
        let first = first.max(range.first);
        (first <= last.min(range.last)).then_some(first)
    };
    match taken().chain(by_default).filter_map(shared).min() {
        Some(port) => Err(tr!(
            "the node itself uses port {port} of this range; choose a range without such ports, such as {}-{}",
            NODE_PORTS.0,
            NODE_PORTS.1,
            port
        )),
        None => Ok(range),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_opening_has_a_name_of_its_own_and_a_purpose() {
        let names: BTreeSet<&str> = OPENINGS.iter().map(|opening| opening.name).collect();
        assert_eq!(names.len(), OPENINGS.len());
        assert!(OPENINGS.iter().all(|opening| !opening.purpose.is_empty()));
    }

    #[test]
    fn nobody_outside_reaches_more_than_the_api_server_and_services() {
        for opening in OPENINGS
            .iter()
            .filter(|opening| opening.from == Peer::Clients)
        {
            let traffic = opening.traffic;
            assert!(
                traffic == tcp(API_SERVER) || traffic.ports() == Some(NODE_PORTS),
                "{}: {traffic}",
                opening.name
            );
        }
    }

    #[test]
    fn the_ports_of_pods_are_none_of_the_nodes_own() {
        for (bad, port) in [
            ("1-65535", 179),
            ("6443-6445", 6443),
            ("6444-6445", 6444),
            ("6400-6440", 6440),
            ("10000-20000", 10248),
        ] {
            let error = node_ports(bad).unwrap_err();
            assert!(error.contains(&format!("port {port} ")), "{bad}: {error}");
        }
        for good in ["20000-40000", "30000-32767", "11111-22222"] {
            assert_eq!(node_ports(good).unwrap().to_string(), good);
        }
    }

    #[test]
    fn a_port_that_can_be_chosen_is_not_taken_and_every_other_is() {
        for free in [JOIN, JOIN + 1, 6440, 20000, 30000] {
            assert!(!is_taken(free), "{free}");
        }
        for taken in [
            179, 2378, 2379, 2380, 6443, 8080, 10248, 10250, 10251, 10252, 10255, 10256,
        ] {
            assert!(is_taken(taken), "{taken}");
        }
    }
}
