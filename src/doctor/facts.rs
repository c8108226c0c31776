//! What was read about a machine. Everything that faults judge is in [`Facts`]. A part that could not be read is
//! empty, and named in [`Facts::unread`].

use core::net::Ipv4Addr;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;

use crate::nodespec::Shape;
use crate::preflight::facts::Facts as Machine;

/// Everything that was read.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The clock of this program.
    pub now: OffsetDateTime,
    /// Whether it is the running system, and not a directory such as a mounted image.
    pub live: bool,
    /// The node, as its records say; `None` if no installation has completed, or if they are damaged.
    pub node: Option<Node>,
    /// Whether an installation has begun to make this machine a node.
    pub begun: bool,
    /// Records and settings that cannot be read: the path, and why.
    pub damaged: Vec<(String, String)>,
    /// What runs of this program left behind.
    pub runs: Runs,
    /// What `appliance preflight` reads; `None` if that failed.
    pub machine: Option<Machine>,
    /// What the kernel has said in the last day.
    pub kernel: KernelLog,
    /// The IPv4 addresses of this machine; `None` if they are not known.
    pub addresses: Option<Vec<Ipv4Addr>>,
    /// The switches of the kernel that pods need and that someone set to 0.
    pub switched_off: Vec<String>,
    /// Whether the link to the bundle in use leads nowhere.
    pub bundle_lost: bool,
    /// The file systems of the node.
    pub file_systems: Vec<FileSystem>,
    /// Whether something keeps the clock right, as systemd says; `None` if it is not known.
    pub synchronized: Option<bool>,
    /// For each master that answered, its address and how many seconds its clock is before the clock here.
    pub offsets: Vec<(Ipv4Addr, i64)>,
    /// The certificates of the node.
    pub certificates: Vec<Certificate>,
    /// The units of the node's services.
    pub units: BTreeMap<String, Unit>,
    /// The units that files show as masked, or that someone changed.
    pub unit_files: Vec<(String, UnitFile)>,
    /// What docker says of itself; `None` if it was not asked, or does not answer.
    pub docker: Option<DockerSays>,
    /// Whether docker, of the machine or of the bundle, did not answer in time.
    pub docker_hangs: bool,
    /// The images that the node needs and docker does not have.
    pub images_missing: Vec<String>,
    /// What etcd says; `None` on a worker, or if it was not asked.
    pub etcd: Option<Etcd>,
    /// The object of this node in the cluster; `None` if the node has none, or no API server answered.
    pub object: Option<NodeObject>,
    /// The sessions of BIRD.
    pub peers: Vec<Session>,
    /// What came of connections to other nodes.
    pub reached: Vec<Reached>,
    /// Whether the first and the largest packets reach other nodes.
    pub paths: Vec<PathOf>,
    /// The routes through Calico's tunnels, and whether something answers behind each.
    pub tunnels: Vec<Tunnel>,
    /// The MTU of pods that this node sets.
    pub pod_mtu: Option<u32>,
    /// The MTU of the interface with the node's address.
    pub own_mtu: Option<u32>,
    /// The last lines of the journal of the installation at boot.
    pub install_log: Vec<String>,
    /// What could not be read, and why.
    pub unread: Vec<Unread>,
}

/// A part of the machine that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Unread {
    /// The part.
    pub what: String,
    /// Why.
    pub why: String,
}

/// The node, as its records say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its role and the profile of its cluster.
    pub shape: Shape,
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Option<Ipv4Addr>,
    /// The addresses of the masters of its cluster, without its own.
    pub masters: Vec<Ipv4Addr>,
    /// Whether Calico uses tunnels.
    pub tunnelled: bool,
}

/// What runs left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// A run that was interrupted: what to tell, and its command.
    pub interrupted: Option<(String, String)>,
    /// The run that changes the machine now, in words, and for how many seconds it runs.
    pub active: Option<(String, i64)>,
    /// How the installation at the last boot failed.
    pub boot: Boot,
    /// An upgrade that is not finished, in words.
    pub upgrade: Option<String>,
    /// Whether the machine is a copy of the one on which the node was installed.
    pub is_copy: bool,
}

/// How the installation at the last boot ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Boot {
    /// It did not fail, as far as is known.
    #[default]
    Unknown,
    /// It was refused.
    Refused,
    /// It failed.
    Failed,
}

/// Lines that the kernel wrote, by what they are about; each without secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelLog {
    /// It killed a process because the machine had no memory left.
    pub killed: Vec<String>,
    /// It killed a process of a container that reached its own limit.
    pub killed_in_container: Vec<String>,
    /// AppArmor or SELinux refused something.
    pub denied: Vec<String>,
    /// A disk or a file system has errors.
    pub disk: Vec<String>,
    /// The table of connections was full.
    pub conntrack: Vec<String>,
    /// Processes waited for minutes for a disk.
    pub hung: Vec<String>,
}

/// A file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSystem {
    /// A directory of the node on it.
    pub place: String,
    /// Bytes in use.
    pub used: u64,
    /// Bytes that can still be used.
    pub available: u64,
    /// How many files can still be created; `None` if there is no limit.
    pub files: Option<u64>,
}

/// A certificate of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its name, such as `etcd`.
    pub name: String,
    /// Its path.
    pub path: String,
    /// What was found there.
    pub found: Held,
}

/// What was found of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nothing.
    Missing,
    /// No certificate. The text says why.
    Unreadable(String),
    /// A certificate.
    Valid {
        /// The start of its validity.
        not_before: OffsetDateTime,
        /// The end of its validity.
        not_after: OffsetDateTime,
        /// Whether the authority on this node signed it.
        signed: bool,
        /// What is wrong with its key, if the node must have it.
        key: Option<String>,
    },
}

/// A unit in systemd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// `loaded`, `not-found`, `masked`, …
    pub load: String,
    /// `active`, `activating`, `failed`, `inactive`, …
    pub active: String,
    /// `running`, `auto-restart`, `dead`, …
    pub sub: String,
    /// `enabled`, `disabled`, …; empty if it is not known.
    pub enabled: String,
    /// Whether it may end by itself.
    pub may_end: bool,
    /// What its health endpoint says, if it runs and is not healthy.
    pub unhealthy: Option<String>,
    /// If it is not healthy: the last lines of its journal, without secrets.
    pub lines: Vec<String>,
}

impl Unit {
    /// Whether it does not do its work.
    pub fn is_down(&self) -> bool {
        let rests = self.may_end && self.active == "inactive";
        (self.active != "active" && !rests) || self.unhealthy.is_some()
    }
}

/// What is wrong with the file of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitFile {
    /// It is a link to `/dev/null`.
    Masked,
    /// It is not there.
    Missing,
    /// It is not as this program wrote it.
    Changed,
    /// Another file changes it.
    DropIn(String),
    /// systemd has not read it since it was changed.
    Stale,
}

/// What docker says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DockerSays {
    /// Its cgroup driver.
    pub cgroup_driver: String,
    /// That of the kubelet's unit, if it has one.
    pub kubelet_driver: Option<String>,
    /// Its storage driver.
    pub storage_driver: String,
}

/// What etcd on this master says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Etcd {
    /// Whether it answers at all.
    pub answers: bool,
    /// Whether it knows a leader; `None` if it does not say.
    pub has_leader: Option<bool>,
    /// Its alarms, such as `NOSPACE`.
    pub alarms: Vec<String>,
}

/// The object of this node in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeObject {
    /// There is none.
    Missing,
    /// It is there.
    Found {
        /// Conditions that are not as they should be: the type, and the kubelet's message.
        conditions: Vec<(String, String)>,
        /// Whether new pods are kept away.
        cordoned: bool,
    },
}

/// A BGP session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The address of the other side.
    pub address: String,
    /// Whether routes are exchanged.
    pub established: bool,
    /// Whether one side does not accept the settings of the other.
    pub refused: bool,
    /// BIRD's words.
    pub info: String,
}

/// What came of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was accepted.
    Open,
    /// The other side refused it: nothing listens there.
    Refused,
    /// No answer: a firewall dropped it, or nobody is there.
    Silent,
    /// A router or the kernel says that there is no way.
    NoWay,
}

/// A connection to another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The address of the node.
    pub address: Ipv4Addr,
    /// Whether it is a master.
    pub master: bool,
    /// The port.
    pub port: u16,
    /// What listens there.
    pub purpose: &'static str,
    /// What came of it.
    pub answer: Answer,
}

/// The way to another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathOf {
    /// The address of the node.
    pub address: Ipv4Addr,
    /// The MTU of the interface here, in bytes.
    pub mtu: u32,
    /// The largest packet that was answered, in bytes; `None` if not even the smallest was.
    pub passes: Option<u32>,
}

/// A route to pods of another node through Calico's tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The address of the node.
    pub gateway: Ipv4Addr,
    /// The range of its pods.
    pub range: String,
    /// Whether an address of the range answered.
    pub answers: bool,
}
