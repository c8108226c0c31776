//! The table: one file for each group of sections. Numbers, levels and subjects are those of the benchmark; the
//! words are this project's own.

use super::facts::Program;
use super::item::{Item, Section};
use super::rule::{Flag, Place, Rule};
use crate::paths;

mod api_server;
mod control_plane;
mod federation;
mod files;
mod kubelet;
mod policies;

/// All sections, in the order of the benchmark.
pub const SECTIONS: &[Section] = &[
    api_server::SECTION,
    control_plane::SCHEDULER,
    control_plane::CONTROLLER_MANAGER,
    files::MASTER,
    control_plane::ETCD,
    policies::GENERAL,
    policies::POD_SECURITY,
    kubelet::SECTION,
    files::WORKER,
    federation::API_SERVER,
    federation::CONTROLLER_MANAGER,
];

/// The list of admission plugins.
const PLUGINS: Flag = with_default(Program::ApiServer, "--admission-control", "AlwaysAdmit");
/// The gates of the certificates for which the kubelet would ask the cluster.
const SERVING_GATE: &str = "RotateKubeletServerCertificate=true";
const SERVING_GATE_WHY: &str = "Kubernetes v1.9 approves no such certificate by itself: a person would have to, each \
    time. The appliance issues and renews the kubelet's certificate: `appliance help certificates`";

/// A flag that has no value unless it is set.
const fn flag(program: Program, name: &'static str) -> Flag {
    Flag {
        program,
        name,
        default: None,
    }
}

/// A flag that has this value in Kubernetes v1.9 or etcd 3.1 unless it is set.
const fn with_default(program: Program, name: &'static str, default: &'static str) -> Flag {
    Flag {
        program,
        name,
        default: Some(default),
    }
}
