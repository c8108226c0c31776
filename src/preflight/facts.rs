//! What was read about a machine. Everything that checks judge is in [`Facts`].

use core::net::Ipv4Addr;
use std::collections::BTreeSet;

use ipnet::Ipv4Net;
use time::OffsetDateTime;

use super::docker::daemon::Docker;
use super::firewall::Hook;
use super::{DockerSource, Tool};
use crate::nodespec::{Ipip, NodeSpec, Profile, Role, ports, settings};

/// What the machine is to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The role.
    pub role: Role,
    /// The profile of the cluster.
    pub profile: Profile,
    /// When Calico uses tunnels.
    pub ipip: Ipip,
    /// The address of the node, if it is known.
    pub address: Option<Ipv4Addr>,
    /// The ranges of the cluster, each with the name of its setting.
    pub ranges: Vec<(&'static str, Ipv4Net)>,
    /// The port of the balancer on 127.0.0.1, if the cluster has several masters.
    pub balancer: Option<u16>,
    /// The port of the join service.
    pub join: u16,
    /// The file that the kubelet gives to pods with `dnsPolicy: Default`.
    pub resolv_conf: Option<String>,
    /// Why the settings are refused, one sentence each. Then the other fields are those of a worker with
    /// the defaults, or of the role that was asked for.
    pub problems: Vec<String>,
}

impl Wanted {
    /// A node of this role with the default settings, because its own are refused.
    pub fn without_settings(role: Role, problems: Vec<String>) -> Wanted {
        let default = |key: &'static str| {
            let range = settings::default_of(key).and_then(|text| text.parse().ok());
            Some((key, range?))
        };
        Wanted {
            role,
            profile: Profile::WithCa,
            ipip: Ipip::Off,
            address: None,
            ranges: ["podCIDR", "serviceCIDR"]
                .into_iter()
                .filter_map(default)
                .collect(),
            balancer: None,
            join: ports::JOIN,
            resolv_conf: None,
            problems,
        }
    }

    /// What the specification wants.
    pub fn of(spec: &NodeSpec) -> Wanted {
        let cluster = &spec.cluster;
        Wanted {
            role: *spec.role,
            profile: *spec.profile,
            ipip: *cluster.ipip,
            address: Some(*spec.address),
            ranges: vec![
                ("podCIDR", *cluster.pod_cidr),
                ("serviceCIDR", *cluster.service_cidr),
            ],
            balancer: spec.has_several_masters().then_some(*cluster.balancer_port),
            join: *spec.join.port,
            resolv_conf: Some(spec.resolv_conf.value.clone()),
            problems: Vec::new(),
        }
    }
}

/// The space that one file system needs, and the space it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// The directories on it, for the message.
    pub place: String,
    /// Bytes that will be written.
    pub needed: u64,
    /// Bytes that are free.
    pub free: u64,
    /// How many files can still be created; `None` if the file system has no limit.
    pub files: Option<u64>,
}

/// A directory of the node, and how the file system below it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its path.
    pub path: String,
    /// Where the file system is mounted.
    pub mount: String,
    /// Whether no program on it may run.
    pub noexec: bool,
    /// Whether it cannot be written to.
    pub read_only: bool,
}

/// What cgroups the machine has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroups {
    /// Whether `/sys/fs/cgroup` is cgroup v2.
    pub unified: bool,
    /// The controllers of v1 that are mounted.
    pub mounted: BTreeSet<String>,
    /// The controllers that the kernel was told to disable.
    pub disabled: BTreeSet<String>,
}

/// A program that listens at a TCP port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The port.
    pub port: u16,
    /// Its name and process ID; empty if it is not known.
    pub program: String,
    /// Whether it belongs to this appliance.
    pub is_ours: bool,
}

/// What only a booted system has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Booted {
    /// The release of the kernel.
    pub release: String,
    /// Modules that the node loads, and that the kernel lacks.
    pub missing_modules: Vec<String>,
    /// Modules that docker, iptables and kube-proxy load by themselves, and that the kernel lacks.
    pub missing_features: Vec<String>,
    /// Whether it is known what the kernel has. If not, those that it may have are missing, too.
    pub knows_modules: bool,
    /// Its cgroups; `None` if the list of mounts cannot be read.
    pub cgroups: Option<Cgroups>,
    /// The files and devices with swap.
    pub swaps: Vec<String>,
    /// The directories of the node.
    pub places: Vec<Place>,
    /// The memory in KiB.
    pub memory: u64,
    /// The number of processors.
    pub processors: usize,
    /// Whether the kernel is in FIPS mode.
    pub fips: bool,
    /// How many connections the kernel tracks, and how many it can.
    pub conntrack: Option<(u64, u64)>,
    /// Whether SELinux is enforcing.
    pub selinux: bool,
    /// Who listens at TCP ports.
    pub listeners: Vec<Listener>,
    /// The UUID in the firmware, as it is.
    pub uuid: Option<String>,
    /// The kernel's host name.
    pub hostname: String,
}

/// The clock of the running system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Its time.
    pub now: OffsetDateTime,
    /// The newest of some files that are older than now if the clock is right, and its time.
    pub newest: Option<(String, OffsetDateTime)>,
    /// What keeps it right; `None` if nothing was found.
    pub keeper: Option<String>,
}

/// The distribution, from os-release(5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Release {
    /// `ID`, such as `debian`; empty if it is not known.
    pub id: String,
    /// `VERSION_ID`, such as `12`.
    pub version: String,
    /// `PRETTY_NAME`.
    pub name: String,
}

/// The system on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct System {
    /// Why its programs are not for x86-64; `None` if they are, or if this is not known.
    pub foreign: Option<String>,
    /// Whether systemd manages it.
    pub has_systemd: bool,
    /// The version of systemd, if it is known.
    pub systemd: Option<u32>,
    /// The distribution.
    pub release: Release,
    /// The content of `/etc/machine-id`; `None` without the file.
    pub machine_id: Option<String>,
    /// Programs that pods need and that are missing.
    pub missing_tools: Vec<&'static Tool>,
    /// What else is there of another Kubernetes.
    pub others: Vec<Other>,
    /// CNI configurations of others, by name.
    pub networks: Vec<String>,
    /// Whether the host name has an address: in `/etc/hosts`, or through `myhostname`.
    pub knows_own_name: bool,
    /// The name servers in the file that pods get.
    pub name_servers: Vec<String>,
    /// The variables that name a proxy, each with the file that sets it.
    pub proxies: Vec<(String, String)>,
    /// Drop-ins of the node's own units that name a proxy and no exception, each with its unit.
    pub unit_proxies: Vec<(String, String)>,
    /// Firewalls that are switched on, by name.
    pub firewalls: Vec<String>,
}

/// Another Kubernetes on the machine, or what is left of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// Its name.
    pub name: &'static str,
    /// The paths that show it.
    pub found: Vec<String>,
    /// How to remove it.
    pub remove: &'static str,
}

/// The rules of one backend of iptables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Whether the chain INPUT drops what no rule accepts.
    pub drops_input: bool,
    /// Rules of the operator that drop or reject, besides those of docker, Kubernetes and Calico.
    pub drops: usize,
    /// Rules of the operator, besides those of docker, Kubernetes and Calico.
    pub own: usize,
    /// Chains of a Kubernetes: `KUBE-…`, `cali-…`, `FLANNEL…`, `CILIUM…`, `WEAVE…`.
    pub chains: Vec<String>,
}

/// The rules of both backends of iptables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    /// The rules that `iptables-legacy-save` prints.
    pub legacy: Option<Rules>,
    /// The rules that `iptables-nft-save` prints.
    pub nft: Option<Rules>,
    /// The rules that `iptables-save` prints, if the system has only this one.
    pub only: Option<Rules>,
    /// The places where rules of iptables and nftables decide about packets to this machine.
    pub hooks: Vec<Hook>,
    /// Whether the rules of nftables could be read: the program `nft` is there.
    pub reads_nftables: bool,
}

impl Firewall {
    /// The rules of every backend.
    pub fn all(&self) -> impl Iterator<Item = &Rules> {
        [&self.legacy, &self.nft, &self.only].into_iter().flatten()
    }
}

/// Everything that checks judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What the machine is to become.
    pub wanted: Wanted,
    /// Whether a node is installed here already.
    pub installed: bool,
    /// The system on the disk.
    pub system: System,
    /// What the kernel shows; `None` if the system is not booted.
    pub booted: Option<Booted>,
    /// The clock; `None` if the system is not booted.
    pub clock: Option<Clock>,
    /// The rules of iptables; `None` if the system is not the running one.
    pub firewall: Option<Firewall>,
    /// Each file system that is written to; `None` without a payload.
    pub room: Option<Vec<Room>>,
    /// Where docker comes from; `None` without a payload, which may have it.
    pub docker_source: DockerSource,
    /// Docker.
    pub docker: Docker,
}
