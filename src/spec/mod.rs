//! What this node is to be. The only place where defaults apply and bad input is refused.
//!
//! Pure: [`NodeSpec::resolve`] is given everything it looks at.

use core::net::Ipv4Addr;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use ipnet::Ipv4Net;

use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;

use crate::components::{Reach, Shape};
use crate::metadata::Metadata;
use crate::spec::addons::AddonSpec;
use crate::spec::join::JoinSpec;
use crate::spec::labels::{Label, Taint};
use crate::spec::masters::Master;
use crate::spec::network::{PortRange, SubjectAltName};
use crate::spec::settings::CaSettings;
use crate::spec::value::{Layer, Sourced};

pub mod addons;
mod address;
pub mod explain;
mod identity;
pub mod join;
pub mod labels;
mod layers;
pub mod masters;
mod mtu;
pub mod network;
pub mod reference;
mod resolve;
pub mod settings;
pub mod user_data;
pub mod validate;
pub mod value;
pub mod written;

/// IP-in-IP's header, in bytes: what a tunnel takes from the network's MTU.
const IPIP_OVERHEAD: u32 = 20;

/// What a node does in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Role {
    /// Runs etcd and the control plane.
    Master,
    /// Runs pods.
    Worker,
    /// Both on one VM.
    Single,
}

impl Role {
    /// Whether it runs the control plane.
    pub fn is_master(self) -> bool {
        self != Role::Worker
    }

    /// Whether it runs pods.
    pub fn is_worker(self) -> bool {
        self != Role::Master
    }
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
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

/// A file like resolv.conf(5) that names no server, for machines that have none at all.
pub const NO_NAME_SERVERS: &str = "/etc/kubernetes/resolv.conf";

/// One of this machine's network interfaces that is not the loopback.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostInterface {
    /// The kernel's name, such as `ens3`.
    pub name: String,
    /// Its MAC address, in lower case.
    pub mac: Option<String>,
    /// Its MTU, in bytes.
    pub mtu: Option<u32>,
    /// Its IPv4 addresses, each with the subnet it is in.
    pub addresses: Vec<Ipv4Net>,
    /// Whether it has IPv6 addresses others can reach.
    pub has_ipv6: bool,
    /// Whether the IPv4 default route goes out here.
    pub has_default_route: bool,
}

/// What the machine shows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// The kernel's host name.
    pub hostname: String,
    /// Its interfaces. `None` when the node is another machine, whose root directory is being
    /// prepared here.
    pub interfaces: Option<Vec<HostInterface>>,
    /// The time by its clock. `None` where it does not matter.
    pub clock: Option<OffsetDateTime>,
    /// The file that names its name servers; `None` where it has none.
    pub resolv_conf: Option<String>,
}

/// Everything a node specification is made from.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The settings, in any order: [`Place`](value::Place) knows which win.
    pub layers: Vec<Layer>,
    /// What the metadata sources say, the one that counts first.
    pub metadata: Vec<Metadata>,
    /// Where else was looked, and what was found there.
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
    /// The port on 127.0.0.1 at which each node reaches the API servers, where there are several.
    pub balancer_port: Sourced<u16>,
    /// The master's address, where it is known; the founding one's where there are several.
    pub master: Option<Sourced<Ipv4Addr>>,
    /// All masters, the one that founds the cluster first. None where there is only the one.
    pub masters: Sourced<Vec<Master>>,
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
    /// The file whose name servers its pods' names are looked up at, where the cluster's own does not
    /// know them: the kubelet starts no pod without such a file.
    pub resolv_conf: Sourced<String>,
    /// The floating IP it is also reached by from outside its network.
    pub floating_ip: Option<Sourced<Ipv4Addr>>,
    /// The labels it registers with, where it runs pods.
    pub labels: Sourced<Vec<Label>>,
    /// The taints it registers with, where it runs pods.
    pub taints: Sourced<Vec<Taint>>,
    /// The files of the authority the master is to use, where it is not to make one.
    pub ca: Option<Sourced<CaSettings>>,
    /// How workers join.
    pub join: JoinSpec,
    /// What runs in the cluster besides its own parts.
    pub addons: AddonSpec,
    /// What the cluster agrees on.
    pub cluster: ClusterSpec,
    /// What an operator should know of, though it stops nothing: one sentence each.
    pub warnings: Vec<String>,
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
            balancer: *self.cluster.balancer_port,
        }
    }

    /// The MTU of pods' interfaces and of Calico's tunnel, in bytes.
    pub fn pod_mtu(&self) -> u32 {
        match *self.cluster.ipip {
            Ipip::Off => *self.mtu,
            Ipip::Always | Ipip::CrossSubnet => *self.mtu - IPIP_OVERHEAD,
        }
    }

    /// What decides which services it has.
    pub fn shape(&self) -> Shape {
        Shape {
            role: *self.role,
            profile: *self.profile,
            balanced: self.has_several_masters(),
        }
    }

    /// Whether the cluster goes on when a master is lost.
    pub fn has_several_masters(&self) -> bool {
        self.cluster.masters.len() > 1
    }

    /// Where etcd, API servers and join services are: the addresses of all masters, at least one,
    /// in the same order on every node.
    pub fn master_addresses(&self) -> Vec<Ipv4Addr> {
        if !self.has_several_masters() {
            return vec![match &self.cluster.master {
                Some(master) if !self.role.is_master() => master.value,
                _ => self.address.value,
            }];
        }
        let masters = self.cluster.masters.iter();
        masters.map(|master| master.address).collect()
    }

    /// The masters besides itself.
    pub fn other_masters(&self) -> Vec<Ipv4Addr> {
        let mut addresses = self.master_addresses();
        addresses.retain(|address| *address != *self.address);
        addresses
    }

    /// Whether it is the master that makes the cluster's authority, if no other has one.
    pub fn is_founder(&self) -> bool {
        let first = self.cluster.masters.first();
        self.role.is_master() && first.is_none_or(|first| first.name == *self.name)
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
        if let [problem] = &self.problems[..] {
            return f.write_str(problem);
        }
        write!(f, "nothing was changed, because:")?;
        self.problems
            .iter()
            .try_for_each(|problem| write!(f, "\n  - {problem}"))
    }
}

impl std::error::Error for Refused {}
