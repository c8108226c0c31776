//! What is read on a node.

use std::collections::BTreeMap;

use super::flags::CommandLine;
use crate::nodespec::{Profile, Role};

/// A program whose flags the benchmark concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// etcd
    Etcd,
    /// kube-apiserver
    ApiServer,
    /// kube-controller-manager
    ControllerManager,
    /// kube-scheduler
    Scheduler,
    /// kubelet
    Kubelet,
}

impl Program {
    /// All of them.
    pub const ALL: [Program; 5] = [
        Program::Etcd,
        Program::ApiServer,
        Program::ControllerManager,
        Program::Scheduler,
        Program::Kubelet,
    ];

    /// Its name, which is also that of its unit.
    pub fn name(self) -> &'static str {
        match self {
            Program::Etcd => "etcd",
            Program::ApiServer => "kube-apiserver",
            Program::ControllerManager => "kube-controller-manager",
            Program::Scheduler => "kube-scheduler",
            Program::Kubelet => "kubelet",
        }
    }

    /// Whether a node of this role runs it.
    pub fn is_on(self, role: Role) -> bool {
        match self {
            Program::Kubelet => role.is_worker(),
            _ => role.is_master(),
        }
    }
}

/// A file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFact {
    /// Its permission bits.
    pub mode: u32,
    /// Its owner and group, as `root:root`. An ID without a name is a number.
    pub owner: String,
    /// SHA-256 of its content in hexadecimal, if it is a small public file.
    pub digest: Option<String>,
}

/// Everything that was read on a node.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The role of the node.
    pub role: Role,
    /// The profile of the cluster.
    pub profile: Profile,
    /// The command line of each program that the node has.
    pub programs: BTreeMap<Program, CommandLine>,
    /// The files that the table names, by path. A file that does not exist is missing here.
    pub files: BTreeMap<String, FileFact>,
    /// The first provider of the file with the encryption of secrets: new secrets are encrypted with it.
    pub encryption: Option<String>,
}

impl Facts {
    /// The value of a flag; `None` if the flag or its program is missing.
    pub fn flag(&self, program: Program, name: &str) -> Option<&str> {
        self.programs.get(&program)?.get(name)
    }
}
