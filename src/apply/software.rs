//! Finds the software on a machine that a node needs.

use anyhow::Result;

use crate::apply::kernel;
use crate::bundle::manifest::Manifest;
use crate::desired::DOCKER_OF_MACHINE;
use crate::preflight::{APPARMOR, DockerSource, TOOLS, Tool};
use crate::sys::root::Root;

/// A payload that has this program includes docker.
const DOCKER_DAEMON: &str = "dockerd";

/// Where the node's docker comes from.
pub fn docker_source(root: &Root, manifest: &Manifest) -> Result<DockerSource> {
    let units = [
        "/etc/systemd/system",
        "/lib/systemd/system",
        "/usr/lib/systemd/system",
    ];
    let mut has_unit = false;
    for directory in units {
        has_unit |= root.exists(&format!("{directory}/docker.service"))?;
    }
    Ok(if root.exists(DOCKER_OF_MACHINE)? && has_unit {
        DockerSource::Machine
    } else if manifest.component(DOCKER_DAEMON).is_some() {
        DockerSource::Payload
    } else {
        DockerSource::Nowhere
    })
}

/// The programs that pods need and that are missing on systemd's PATH. If the system is only being
/// prepared, its kernel is not known; the kernels of Debian and Ubuntu have AppArmor.
pub fn missing_tools(root: &Root) -> Result<Vec<&'static Tool>> {
    // The default PATH of systemd, and the directories of older systems.
    const PATH: [&str; 6] = [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ];
    let mut missing = Vec::new();
    for tool in TOOLS {
        if *tool == APPARMOR && root.is_live() && !kernel::has_apparmor() {
            continue;
        }
        let mut found = false;
        for dir in PATH {
            found = found || root.exists(&format!("{dir}/{}", tool.name))?;
        }
        if !found {
            missing.push(tool);
        }
    }
    Ok(missing)
}

/// Whether systemd is there: systemd's own test on a running system (sd_booted(3)), or its program
/// in a system that is being prepared.
pub fn has_systemd(root: &Root) -> Result<bool> {
    if root.is_live() {
        return root.exists("/run/systemd/system");
    }
    Ok(root.exists("/lib/systemd/systemd")? || root.exists("/usr/lib/systemd/systemd")?)
}
