//! What software a machine has that a node needs.

use anyhow::Result;

use crate::apply::kernel;
use crate::bundle::manifest::Manifest;
use crate::desired::DOCKER_OF_MACHINE;
use crate::preflight::{APPARMOR, DockerSource, TOOLS, Tool};
use crate::sys::root::Root;

/// The program of a payload that makes it bring docker.
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

/// The programs that pods need and that are nowhere where systemd looks. What the kernel of a system
/// being prepared will have is not known; the distributions' have AppArmor.
pub fn missing_tools(root: &Root) -> Result<Vec<&'static Tool>> {
    // Where systemd looks (its default PATH), and where older systems have them.
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

/// Systemd's own test for the running system (sd_booted(3)), or its program in one being prepared.
pub fn has_systemd(root: &Root) -> Result<bool> {
    if root.is_live() {
        return root.exists("/run/systemd/system");
    }
    Ok(root.exists("/lib/systemd/systemd")? || root.exists("/usr/lib/systemd/systemd")?)
}
