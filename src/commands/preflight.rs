//! Collects the facts about the machine that [`crate::preflight`] checks.

use core::net::Ipv4Addr;
use std::net::TcpListener;

use anyhow::Result;

use crate::apply::software::{docker_source, has_systemd, missing_tools};
use crate::apply::{kernel, systemd};
use crate::bundle::manifest::Manifest;
use crate::components::BALANCER_NAME;
use crate::desired::{BUNDLES, Desired};
use crate::plan::UnitState;
use crate::preflight::{self, Facts, Room};
use crate::spec::{NodeSpec, Refused};
use crate::sys::host;
use crate::sys::process::Runner;
use crate::sys::root::Root;

/// Where docker stores its images.
const DOCKER_DATA: &str = "/var/lib/docker";

/// Refuses to read or change the running system as any user but root: only root may read its
/// keys and its config drive.
pub fn check_user(root: &Root) -> Result<()> {
    if !root.is_live() || host::is_root() {
        return Ok(());
    }
    let problem = "this command needs root: only root may read the node's keys and change the system; run the same command with `sudo`";
    Err(Refused {
        problems: vec![problem.to_owned()],
    }
    .into())
}

/// Refuses a machine that cannot become this node, and lists every reason.
pub fn check(
    root: &Root,
    runner: &dyn Runner,
    manifest: &Manifest,
    desired: &Desired,
    unpacked: bool,
    spec: &NodeSpec,
) -> Result<()> {
    let live = root.is_live();
    let missing = |module: &&String| {
        live && !kernel::has_module(module) && !kernel::can_load_module(runner, module)
    };
    let facts = Facts {
        has_systemd: has_systemd(root)?,
        docker: docker_source(root, manifest)?,
        missing_modules: desired.modules.iter().filter(missing).cloned().collect(),
        taken_port: if live {
            taken_port(runner, spec)?
        } else {
            None
        },
        missing_tools: if spec.role.is_worker() {
            missing_tools(root)?
        } else {
            vec![]
        },
        room: room(root, manifest, unpacked)?,
        exec: !live || host::file_system(&root.resolve(BUNDLES)?)?.exec,
    };
    let problems = preflight::problems(&facts);
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Refused { problems }.into())
    }
}

/// The balancer's port, if another program uses it.
fn taken_port(runner: &dyn Runner, spec: &NodeSpec) -> Result<Option<u16>> {
    if !spec.has_several_masters() {
        return Ok(None);
    }
    let units = systemd::show(runner, &[BALANCER_NAME])?;
    let runs = units.get(BALANCER_NAME).map(systemd::Unit::state) == Some(UnitState::Running);
    let port = *spec.cluster.balancer_port;
    let is_free = || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    Ok((!runs && !is_free()).then_some(port))
}

fn room(root: &Root, manifest: &Manifest, unpacked: bool) -> Result<Vec<Room>> {
    let (bundle, images) = preflight::needed(manifest, unpacked);
    let bundles = host::file_system(&root.resolve(BUNDLES)?)?;
    let docker = host::file_system(&root.resolve(DOCKER_DATA)?)?;
    let room = |place: &str, needed, free| Room {
        place: place.to_owned(),
        needed,
        free,
    };
    Ok(if bundles.device == docker.device {
        vec![room(
            "the file system of /opt/appliance and /var/lib/docker",
            bundle + images,
            bundles.free,
        )]
    } else {
        vec![
            room(BUNDLES, bundle, bundles.free),
            room(DOCKER_DATA, images, docker.free),
        ]
    })
}
