//! The stand-ins for Calico 2.6: the node container's program, calicoctl and
//! kube-controllers.

pub mod bird;
pub mod controllers;
pub mod ctl;
pub mod datastore;
mod felix;
pub mod ipam;
pub mod node;
mod nodes;
mod status;

use std::path::PathBuf;

/// The directory of BIRD's control socket, which calicoctl uses. `SIM_CALICO_RUN` changes it, so
/// that a test can run several nodes on one machine.
fn socket() -> PathBuf {
    let directory = std::env::var_os("SIM_CALICO_RUN").unwrap_or("/var/run/calico".into());
    PathBuf::from(directory).join("bird.ctl")
}

/// The path of BIRD's configuration: as in the real container, or in the directory that
/// `SIM_CALICO_RUN` names.
fn configuration() -> PathBuf {
    let directory = std::env::var_os("SIM_CALICO_RUN").unwrap_or("/etc/calico/confd/config".into());
    PathBuf::from(directory).join("bird.cfg")
}

/// The file that says which routes BIRD takes, if the container gets one.
fn routes() -> PathBuf {
    configuration().with_file_name("bird-routes.conf")
}
