//! The specification of this node. All defaults are applied here, and all bad input is refused
//! here.
//!
//! Pure: [`NodeSpec::resolve`] gets all its input as arguments.

use core::net::Ipv4Addr;
use std::collections::BTreeMap;
use std::fmt;

use ipnet::Ipv4Net;

use time::OffsetDateTime;

use crate::language::tr;
use crate::metadata::model::Metadata;
use crate::nodespec::addons::AddonSpec;
use crate::nodespec::admission::AdmissionSpec;
use crate::nodespec::backup::BackupSpec;
use crate::nodespec::join::JoinSpec;
use crate::nodespec::labels::{Label, Taint};
use crate::nodespec::master::Master;
use crate::nodespec::network::{PortRange, SubjectAltName};
use crate::nodespec::settings::CaSettings;
use crate::nodespec::value::{Layer, Sourced};

pub mod addons;
mod address;
pub mod admission;
pub mod backup;
mod candidates;
pub mod explain;
pub mod hidden;
mod identity;
mod ipip;
pub mod join;
pub mod kinds;
pub mod labels;
mod layers;
mod log_level;
pub mod master;
mod masters;
mod mtu;
pub mod network;
pub mod objects;
pub mod ports;
pub mod reference;
mod resolve;
mod resolver;
pub mod settings;
mod spelling;
pub mod token;
pub mod user_data;
pub mod validate;
pub mod value;
pub mod written;
mod yaml;

pub use kinds::{Ipip, Profile, Reach, Role, Shape};
pub use resolve::wrong_clock;

/// The size of IP-in-IP's header in bytes: a tunnel reduces the network's MTU by it.
const IPIP_OVERHEAD: u32 = 20;

/// What an interface leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leads {
    /// To other machines: it belongs to a NIC, or stands on one, as a bond, a VLAN or a bridge does.
    #[default]
    Outside,
    /// To containers or VMs of this machine, as docker's bridge and Calico's interfaces do.
    Inside,
    /// The kernel does not show it, as for a tunnel, or for all interfaces of a container.
    Unknown,
    /// Nowhere: it is the loopback. Other machines reach its addresses if the network routes them here.
    Nowhere,
}

/// A network interface of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostInterface {
    /// The kernel's name, such as `ens3`.
    pub name: String,
    /// What it leads to.
    pub leads: Leads,
    /// Its MAC address, in lower case. A VLAN has that of the interface below it, and so has a bond.
    pub mac: Option<String>,
    /// The number of its VLAN, if it is the interface of one.
    pub vlan: Option<u16>,
    /// Its MTU, in bytes.
    pub mtu: Option<u32>,
    /// Its IPv4 addresses, each with the subnet it is in.
    pub addresses: Vec<Ipv4Net>,
    /// Whether it has IPv6 addresses that others can reach.
    pub has_ipv6: bool,
    /// Whether the IPv4 default route uses it.
    pub has_default_route: bool,
    /// The gateway of that route, if it names one.
    pub gateway: Option<Ipv4Addr>,
    /// The other IPv4 destinations to which a route over it leads.
    pub routes: Vec<Ipv4Net>,
}

/// Facts about the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// The kernel's host name.
    pub hostname: String,
    /// Its interfaces. `None` if this run prepares the root directory of another machine.
    pub interfaces: Option<Vec<HostInterface>>,
    /// The UUID in its firmware. `None` if it shows none, or if it is not the machine of the node.
    pub uuid: Option<String>,
    /// Whether its firmware shows that it is a VM of OpenStack.
    pub is_openstack: bool,
    /// When the node's cluster uses tunnels; `None` if it is not a node yet.
    pub ipip: Option<Ipip>,
    /// The role with which it was installed; `None` if it is not a node yet.
    pub role: Option<Role>,
    /// The time on its clock. `None` if it does not matter.
    pub clock: Option<OffsetDateTime>,
    /// The file with its name servers; `None` if it has none.
    pub resolv_conf: Option<String>,
}

/// All input of a node specification.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The settings, in any order: [`Place`](value::Place) defines their precedence.
    pub layers: Vec<Layer>,
    /// The metadata of each source, in order of precedence.
    pub metadata: Vec<Metadata>,
    /// Other places that were searched, and the result of each.
    pub looked_at: Vec<String>,
    /// The machine.
    pub host: HostFacts,
}

/// The values that all nodes of a cluster have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSpec {
    /// The cluster's name in kubeconfigs and in the controller manager.
    pub name: Sourced<String>,
    /// The addresses of pods: Calico's pool.
    pub pod_cidr: Sourced<Ipv4Net>,
    /// The virtual addresses of services.
    pub service_cidr: Sourced<Ipv4Net>,
    /// The DNS domain of services.
    pub domain: Sourced<String>,
    /// The ports that services may open on every node.
    pub node_ports: Sourced<PortRange>,
    /// Further names and addresses of the API server.
    pub api_server_sans: Sourced<Vec<SubjectAltName>>,
    /// When Calico uses tunnels.
    pub ipip: Sourced<Ipip>,
    /// The ranges besides the pods' to which nodes take routes from BGP peers.
    pub bgp_routes: Sourced<Vec<Ipv4Net>>,
    /// The port on 127.0.0.1 at which each node reaches the API servers, if there are several.
    pub balancer_port: Sourced<u16>,
    /// The master's address, if it is known; with several masters, that of the founder.
    pub master: Option<Sourced<Ipv4Addr>>,
    /// All masters, the founder of the cluster first. Empty if there is only one.
    pub masters: Sourced<Vec<Master>>,
    /// The entries of `/etc/hosts` on every node.
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

/// The specification of this node, checked and complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    /// Its role.
    pub role: Sourced<Role>,
    /// How it authenticates others.
    pub profile: Sourced<Profile>,
    /// Its name in the cluster.
    pub name: Sourced<String>,
    /// The address at which others reach it.
    pub address: Sourced<Ipv4Addr>,
    /// The UUID of its machine, if that is known.
    pub machine: Option<String>,
    /// Its address with the subnet that it is in, if the machine shows it.
    pub subnet: Option<Ipv4Net>,
    /// The MTU of its network, in bytes.
    pub mtu: Sourced<u32>,
    /// The file with the name servers for names outside the cluster. The kubelet starts no pod without
    /// such a file.
    pub resolv_conf: Sourced<String>,
    /// The floating IP at which it is also reached from outside its network.
    pub floating_ip: Option<Sourced<Ipv4Addr>>,
    /// The labels with which it registers, if it runs pods.
    pub labels: Sourced<Vec<Label>>,
    /// The taints with which it registers, if it runs pods.
    pub taints: Sourced<Vec<Taint>>,
    /// The files of the operator's certificate authority, if the master does not create one.
    pub ca: Option<Sourced<CaSettings>>,
    /// How workers join.
    pub join: JoinSpec,
    /// The add-ons of the cluster.
    pub addons: AddonSpec,
    /// What the API server refuses about pods.
    pub admission: AdmissionSpec,
    /// How much the programs of Kubernetes write to the journal, if not what is usual.
    pub log_level: Option<Sourced<u8>>,
    /// How this master backs the cluster up, if it does.
    pub backup: Option<Sourced<BackupSpec>>,
    /// The values that all nodes have in common.
    pub cluster: ClusterSpec,
    /// Problems that the operator should know, but that stop nothing: one sentence each.
    pub warnings: Vec<String>,
}

impl NodeSpec {
    /// Whether its components speak TLS to each other.
    pub fn tls(&self) -> bool {
        self.profile.value == Profile::WithCa
    }

    /// How to reach its components.
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

    /// The values that decide which services it has.
    pub fn shape(&self) -> Shape {
        Shape {
            role: *self.role,
            profile: *self.profile,
            balanced: self.has_several_masters(),
        }
    }

    /// Whether the cluster has several masters, and so survives the loss of one.
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

    /// The addresses of the other masters.
    pub fn other_masters(&self) -> Vec<Ipv4Addr> {
        let mut addresses = self.master_addresses();
        addresses.retain(|address| *address != *self.address);
        addresses
    }

    /// Whether this master creates the cluster's certificate authority, if no other has one.
    pub fn is_founder(&self) -> bool {
        let first = self.cluster.masters.first();
        self.role.is_master() && first.is_none_or(|first| first.name == *self.name)
    }
}

/// Input that is refused: all problems found. Each names its place and the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// One sentence for each problem.
    pub problems: Vec<String>,
}

impl Refused {
    /// Input that is refused for one problem.
    pub fn new(problem: impl Into<String>) -> Refused {
        Refused {
            problems: vec![problem.into()],
        }
    }

    /// Input that is refused because of `error`.
    #[expect(clippy::needless_pass_by_value, reason = "the form `map_err` wants")]
    pub fn because(error: anyhow::Error) -> Refused {
        Refused::new(format!("{error:#}"))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [problem] = &self.problems[..] {
            return f.write_str(problem);
        }
        f.write_str(&tr!("nothing was changed, because:"))?;
        self.problems
            .iter()
            .try_for_each(|problem| write!(f, "\n  - {problem}"))
    }
}

impl std::error::Error for Refused {}
