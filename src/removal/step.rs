//! One step that takes something off a machine. Pure.

use std::fmt;

use super::quorum::Membership;
use crate::records::run::LastCopy;

/// One step. It is idempotent: if it is interrupted, it can run again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Leave etcd's cluster, which has other members.
    LeaveEtcd(Membership),
    /// Keep new pods away from the node of that name, and end its pods.
    Drain(String),
    /// Remove the node of that name from the cluster.
    DeleteNode(String),
    /// Stop a unit. A name without a suffix is a service.
    Stop(String),
    /// Start docker, because only docker can remove what is in it.
    StartDocker,
    /// Remove the containers of all pods.
    RemovePods,
    /// Kill the processes of all pods, because docker cannot.
    KillPods,
    /// Remove a container.
    RemoveContainer(String),
    /// Remove an image's name from docker, and its layers if nothing else uses them.
    RemoveImage(String),
    /// Remove the control groups of pods, which have no processes any more.
    RemoveGroups(Vec<String>),
    /// Unmount a file system.
    Unmount(String),
    /// Remove the rules and chains of Kubernetes and Calico with this program, `iptables-restore` of one kind.
    RemoveRules(Tables),
    /// Set the policy of the chain FORWARD.
    SetForward(String),
    /// Remove sets of addresses.
    RemoveSets(Vec<String>),
    /// Remove network interfaces.
    RemoveInterfaces(Vec<String>),
    /// Take Calico's addresses off the interface `tunl0`, and unload its module if the installation loaded it.
    RemoveTunnel(Tunnel),
    /// Remove routes.
    RemoveRoutes(Vec<Route>),
    /// Write a last copy of data and keys.
    Copy(LastCopy),
    /// Rename a directory, so that nothing uses it any more.
    PutAside {
        /// Its path.
        path: String,
        /// Its new path.
        to: String,
    },
    /// Remove a file or a link.
    RemoveFile(String),
    /// Remove a directory with its content.
    RemoveTree(String),
    /// Unmount everything below a directory, and remove its content.
    RemoveContent(String),
    /// Remove the content of a directory with data or keys.
    RemoveData(String),
    /// Remove this program's part of a file that belongs to others.
    RemovePart(String),
    /// Give a directory the permission bits that it had before the installation.
    SetMode {
        /// Its path.
        path: String,
        /// The bits.
        mode: u32,
    },
    /// Remove the directories that are empty.
    RemoveEmpty(Vec<String>),
    /// Remove a system user.
    RemoveUser(String),
    /// Set a kernel setting to its value before the installation.
    SetSysctl {
        /// The key, with dots.
        key: String,
        /// The value.
        value: String,
    },
    /// Make systemd read the units again, and forget the failures of these.
    ForgetUnits(Vec<String>),
    /// Remove the records of started services and of the installed node: the next run installs it from the beginning.
    ForgetNode,
    /// Remove all records of this program.
    ForgetAll,
    /// Remove the records of this program, but not that of what it brought: the program and the unit of the boot stay.
    ForgetRole,
}

/// The tables of one kind of iptables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// The program that prints them.
    pub save: String,
    /// The program that changes them.
    pub restore: String,
    /// How many rules in chains of others are Kubernetes' or Calico's.
    pub rules: usize,
    /// How many chains are theirs.
    pub chains: usize,
}

/// Calico's traces on the interface `tunl0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Its addresses with their prefixes, as `ip` prints them.
    pub addresses: Vec<String>,
    /// Whether to unload the module.
    pub unload: bool,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The arguments of `ip route del` that name it.
    pub arguments: Vec<String>,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.arguments.join(" "))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::LeaveEtcd(member) => write!(
                f,
                "leave etcd: remove member {} ({}); {} stay",
                member.name,
                member.id,
                member.healthy.join(", ")
            ),
            Step::Drain(node) => write!(f, "drain node {node}"),
            Step::DeleteNode(node) => write!(f, "delete node {node} from the cluster"),
            Step::Stop(unit) => write!(f, "stop {unit}"),
            Step::StartDocker => write!(f, "start docker"),
            Step::RemovePods => write!(f, "remove the containers of all pods"),
            Step::KillPods => write!(f, "kill the processes of all pods: docker does not answer"),
            Step::RemoveContainer(name) => write!(f, "remove container {name}"),
            Step::RemoveImage(reference) => write!(f, "remove image {reference}"),
            Step::RemoveGroups(_) => write!(f, "remove the control groups of pods"),
            Step::Unmount(path) => write!(f, "unmount {path}"),
            Step::RemoveRules(tables) => write!(
                f,
                "remove {} rules and {} chains of Kubernetes and Calico ({})",
                tables.rules, tables.chains, tables.restore
            ),
            Step::SetForward(policy) => write!(f, "set the policy of chain FORWARD to {policy}"),
            Step::RemoveSets(sets) => write!(f, "remove ipsets {}", sets.join(", ")),
            Step::RemoveInterfaces(names) => write!(f, "remove interfaces {}", names.join(", ")),
            Step::RemoveTunnel(tunnel) => {
                match tunnel.unload {
                    true => write!(f, "remove interface tunl0")?,
                    false => write!(f, "set interface tunl0 down")?,
                }
                match tunnel.addresses.is_empty() {
                    true => Ok(()),
                    false => write!(f, " ({})", tunnel.addresses.join(", ")),
                }
            }
            Step::RemoveRoutes(routes) => {
                let all: Vec<String> = routes.iter().map(ToString::to_string).collect();
                write!(f, "remove routes {}", all.join(", "))
            }
            Step::Copy(copy) => write!(f, "copy {} to {}", copy.of.join(", "), copy.path),
            Step::PutAside { path, to } => write!(f, "rename {path} to {to}"),
            Step::RemoveFile(path) | Step::RemoveTree(path) => write!(f, "remove {path}"),
            Step::RemoveContent(path) | Step::RemoveData(path) => {
                write!(f, "remove everything in {path}")
            }
            Step::RemovePart(path) => write!(f, "remove this program's part of {path}"),
            Step::SetMode { path, mode } => {
                write!(f, "set the permissions of {path} to {mode:04o}, as before")
            }
            Step::RemoveEmpty(_) => write!(f, "remove the directories of the node that are empty"),
            Step::RemoveUser(name) => write!(f, "remove user {name}"),
            Step::SetSysctl { key, value } if value.is_empty() => {
                write!(f, "set {key} to an empty value, as before")
            }
            Step::SetSysctl { key, value } => write!(f, "set {key} = {value}, as before"),
            Step::ForgetUnits(_) => write!(f, "reload systemd's units"),
            Step::ForgetNode => write!(f, "remove the records of the installation"),
            Step::ForgetAll => write!(f, "remove the records of this program"),
            Step::ForgetRole => write!(f, "remove the records of the node's role"),
        }
    }
}
