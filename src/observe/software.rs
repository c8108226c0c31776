//! Finds the software on a machine that a node needs.

use anyhow::{Context, Result};

use super::records;
use crate::bundle::manifest::{self, Manifest};
use crate::clients::docker::Docker;
use crate::clients::kernel;
use crate::digest::Sha256;
use crate::formats::PAYLOAD;
use crate::language::tr;
use crate::paths::{self, BUNDLES};
use crate::preflight::{APPARMOR, DockerSource, TOOLS, Tool};
use crate::records::state::State;
use crate::sys::root::Root;

/// A payload that has this program includes docker.
pub const DOCKER_DAEMON: &str = "dockerd";

/// Where the node's docker comes from. Without a manifest, no payload has one.
pub fn docker_source(root: &Root, manifest: Option<&Manifest>) -> Result<DockerSource> {
    let units = [
        paths::UNITS_DIR,
        "/lib/systemd/system",
        "/usr/lib/systemd/system",
    ];
    let mut has_unit = false;
    for directory in units {
        has_unit |= root.exists(&format!("{directory}/docker.service"))?;
    }
    Ok(if root.exists(paths::DOCKER_OF_MACHINE)? && has_unit {
        DockerSource::Machine
    } else if manifest.is_some_and(|manifest| manifest.component(DOCKER_DAEMON).is_some()) {
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
        paths::PATH_DIR,
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

/// Whether the machine uses systemd: systemd's own test on a running system (sd_booted(3)), or its
/// program in a system that is being prepared.
pub fn has_systemd(root: &Root) -> Result<bool> {
    if root.is_live() {
        return root.exists("/run/systemd/system");
    }
    Ok(root.exists("/lib/systemd/systemd")? || root.exists("/usr/lib/systemd/systemd")?)
}

/// The manifest of the bundle that an installed node uses.
///
/// # Errors
/// If it is missing or damaged.
pub fn installed_manifest(root: &Root, state: &State) -> Result<Manifest> {
    let path = format!("{BUNDLES}/{}/{}", state.digest, manifest::FILE_NAME);
    let text = root.read(&path)?.with_context(|| {
        tr!(
            "{path} is missing; run `appliance install` to unpack it again",
            path
        )
    })?;
    PAYLOAD.read(&text, || path.clone())
}

/// The digests of the bundles that are unpacked: the names of their directories.
pub fn unpacked(root: &Root) -> Result<Vec<String>> {
    let mut names = root.list(BUNDLES)?;
    names.retain(|name| name.parse::<Sha256>().is_ok());
    Ok(names)
}

/// The docker of an installed node; `None` if this machine is not a node yet.
pub fn docker_of_node(root: &Root) -> Result<Option<Docker>> {
    let Some(state) = records::state(root)? else {
        return Ok(None);
    };
    let manifest = installed_manifest(root, &state)?;
    Ok(Some(Docker::of(docker_source(root, Some(&manifest))?)))
}
