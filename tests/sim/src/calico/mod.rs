//! The stand-ins for Calico 2.6: the node container's program and calicoctl.

pub mod node;
pub mod status;

use std::path::PathBuf;

/// The socket through which calicoctl asks whether calico/node runs. The real
/// one asks BIRD at the same place. `SIM_CALICO_RUN` moves the directory, so
/// that a test needs no root.
fn socket() -> PathBuf {
    let directory = std::env::var_os("SIM_CALICO_RUN").unwrap_or("/var/run/calico".into());
    PathBuf::from(directory).join("bird.ctl")
}
