//! What this node is to be. The only place where defaults apply and bad input is refused.
//!
//! Pure: [`NodeSpec::resolve`] is given everything it looks at.

use core::net::{IpAddr, Ipv4Addr};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use ipnet::Ipv4Net;

use crate::components::Reach;
use crate::metadata::Metadata;
use crate::spec::network::{PortRange, SubjectAltName};
use crate::spec::settings::{Origin, Settings};

mod address;
pub mod network;
mod resolve;
pub mod settings;

/// What a node does in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs etcd and the control plane.
    Master,
    /// Runs pods.
    Worker,
    /// Both on one VM.
    Single,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Master => "master",
            Role::Worker => "worker",
            Role::Single => "single",
        })
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Role, String> {
        [Role::Master, Role::Worker, Role::Single]
            .into_iter()
            .find(|role| role.to_string() == text)
            .ok_or_else(|| "expected master, worker or single".to_owned())
    }
}

/// How the cluster's parts trust each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// TLS everywhere, with certificates of the cluster's own authority; RBAC.
    WithCa,
    /// No TLS and no authorization: for a first look on a network of one's own.
    Simple,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Profile::WithCa => "with-ca",
            Profile::Simple => "simple",
        })
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Profile, String> {
        [Profile::WithCa, Profile::Simple]
            .into_iter()
            .find(|profile| profile.to_string() == text)
            .ok_or_else(|| "expected with-ca or simple".to_owned())
    }
}

/// When Calico sends packets between nodes through an IP-in-IP tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipip {
    /// Never: Neutron must let the pods' addresses pass (allowed address pairs).
    Off,
    /// Always.
    Always,
    /// Only between nodes of different subnets.
    CrossSubnet,
}

impl fmt::Display for Ipip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ipip::Off => "off",
            Ipip::Always => "always",
            Ipip::CrossSubnet => "cross-subnet",
        })
    }
}

impl FromStr for Ipip {
    type Err = String;

    fn from_str(text: &str) -> Result<Ipip, String> {
        [Ipip::Off, Ipip::Always, Ipip::CrossSubnet]
            .into_iter()
            .find(|ipip| ipip.to_string() == text)
            .ok_or_else(|| "expected off, always or cross-subnet".to_owned())
    }
}

/// A value that remembers who said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The checked value.
    pub value: T,
    /// Where it came from.
    pub origin: Origin,
}

impl<T> Deref for Sourced<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// One of this machine's network interfaces that is not the loopback, with one IPv4 address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostInterface {
    /// The kernel's name, such as `ens3`.
    pub name: String,
    /// The address and the subnet it is in.
    pub address: Ipv4Net,
}

/// What the machine shows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// The kernel's host name.
    pub hostname: String,
    /// The addresses of its interfaces. `None` when the node is another machine,
    /// whose root directory is being prepared here.
    pub interfaces: Option<Vec<HostInterface>>,
}

/// Everything a node specification is made from.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// `--role`, unless it is `auto`.
    pub role: Option<String>,
    /// `--profile`.
    pub profile: Option<String>,
    /// The configuration file: its path and its settings.
    pub config: Option<(String, Settings)>,
    /// What OpenStack says, and the settings among the server's properties.
    pub metadata: Option<(Metadata, Settings)>,
    /// Why there is no metadata: each source that was looked at and what was found.
    pub looked_at: Vec<String>,
    /// The machine.
    pub host: HostFacts,
}

/// What the whole cluster agrees on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSpec {
    /// The cluster's name in kubeconfigs and in the controller manager.
    pub name: Sourced<String>,
    /// The addresses of pods; Calico's pool.
    pub pod_cidr: Sourced<Ipv4Net>,
    /// The virtual addresses of services.
    pub service_cidr: Sourced<Ipv4Net>,
    /// The DNS domain of services.
    pub domain: Sourced<String>,
    /// The ports services may open on every node.
    pub node_ports: Sourced<PortRange>,
    /// Further names and addresses of the API server.
    pub api_server_sans: Sourced<Vec<SubjectAltName>>,
    /// When Calico tunnels.
    pub ipip: Sourced<Ipip>,
    /// Nodes every node knows by name.
    pub hosts: Sourced<BTreeMap<String, Ipv4Addr>>,
}

impl ClusterSpec {
    /// The API server's virtual address: the first of the service range.
    pub fn api_server_ip(&self) -> Ipv4Addr {
        self.nth_service_ip(1)
    }

    /// The cluster DNS's virtual address: the second of the service range.
    pub fn dns_ip(&self) -> Ipv4Addr {
        self.nth_service_ip(2)
    }

    fn nth_service_ip(&self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.service_cidr.network().to_bits() + n)
    }
}

/// What this node is to be, checked and complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    /// What it does.
    pub role: Sourced<Role>,
    /// How it trusts others.
    pub profile: Sourced<Profile>,
    /// Its name in the cluster.
    pub name: Sourced<String>,
    /// The address others reach it by.
    pub address: Sourced<Ipv4Addr>,
    /// The MTU of its network, in bytes.
    pub mtu: Sourced<u32>,
    /// What the cluster agrees on.
    pub cluster: ClusterSpec,
}

impl NodeSpec {
    /// Whether its components speak TLS to each other.
    pub fn tls(&self) -> bool {
        self.profile.value == Profile::WithCa
    }

    /// How its parts are reached.
    pub fn reach(&self) -> Reach {
        Reach {
            address: *self.address,
            tls: self.tls(),
        }
    }

    /// All values with their names, for people: name, value, origin.
    pub fn explain(&self) -> Vec<(&'static str, String, &Origin)> {
        let cluster = &self.cluster;
        let list = |items: Vec<String>| {
            if items.is_empty() {
                "none".to_owned()
            } else {
                items.join(", ")
            }
        };
        let sans = cluster.api_server_sans.iter().map(|san| match san {
            SubjectAltName::Dns(name) => name.clone(),
            SubjectAltName::Ip(address) => address.to_string(),
        });
        let hosts = cluster
            .hosts
            .iter()
            .map(|(name, address)| format!("{name}={address}"));
        vec![
            ("role", self.role.to_string(), &self.role.origin),
            ("profile", self.profile.to_string(), &self.profile.origin),
            ("nodeName", self.name.to_string(), &self.name.origin),
            ("address", self.address.to_string(), &self.address.origin),
            ("mtu", self.mtu.to_string(), &self.mtu.origin),
            (
                "clusterName",
                cluster.name.to_string(),
                &cluster.name.origin,
            ),
            (
                "podCIDR",
                cluster.pod_cidr.to_string(),
                &cluster.pod_cidr.origin,
            ),
            (
                "serviceCIDR",
                cluster.service_cidr.to_string(),
                &cluster.service_cidr.origin,
            ),
            (
                "clusterDomain",
                cluster.domain.to_string(),
                &cluster.domain.origin,
            ),
            (
                "nodePortRange",
                cluster.node_ports.to_string(),
                &cluster.node_ports.origin,
            ),
            (
                "apiServerSANs",
                list(sans.collect()),
                &cluster.api_server_sans.origin,
            ),
            ("ipip", cluster.ipip.to_string(), &cluster.ipip.origin),
            ("hosts", list(hosts.collect()), &cluster.hosts.origin),
        ]
    }

    /// The node's own address as any address.
    pub fn ip(&self) -> IpAddr {
        IpAddr::V4(self.address.value)
    }
}

/// Input that no node can be made from: every problem found, each naming its place and the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// One sentence a problem.
    pub problems: Vec<String>,
}

impl Refused {
    /// Input refused for what `error` says.
    #[expect(clippy::needless_pass_by_value, reason = "the form `map_err` wants")]
    pub fn because(error: anyhow::Error) -> Refused {
        Refused {
            problems: vec![format!("{error:#}")],
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing was written, because:")?;
        self.problems
            .iter()
            .try_for_each(|problem| write!(f, "\n  - {problem}"))
    }
}

impl std::error::Error for Refused {}
