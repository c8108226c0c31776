//! Collects the facts about the machine that [`crate::preflight`] checks.

use core::net::Ipv4Addr;
use std::net::TcpListener;

use anyhow::Result;

use super::software::{docker_source, has_systemd, missing_tools};
use crate::bundle::manifest::Manifest;
use crate::clients::{kernel, systemd};
use crate::components::BALANCER_NAME;
use crate::desired::Desired;
use crate::nodespec::{NodeSpec, Refused};
use crate::paths;
use crate::plan::UnitState;
use crate::preflight::{self, Facts, Room};
use crate::sys::host;
use crate::sys::process::Runner;
use crate::sys::root::Root;

/// The machine and the node to check before anything is written.
#[derive(Clone, Copy)]
pub struct Machine<'a> {
    /// The system.
    pub root: &'a Root,
    /// What runs programs.
    pub runner: &'a dyn Runner,
    /// The manifest of the payload.
    pub manifest: &'a Manifest,
    /// Whether the payload is unpacked already.
    pub unpacked: bool,
    /// What the machine becomes.
    pub spec: &'a NodeSpec,
}

impl Machine<'_> {
    /// Refuses a machine that cannot become this node, and lists every reason.
    pub fn check(&self, desired: &Desired) -> Result<()> {
        let problems = preflight::problems(&self.facts(desired)?);
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Refused { problems }.into())
        }
    }

    fn facts(&self, desired: &Desired) -> Result<Facts> {
        let (root, live) = (self.root, self.root.is_live());
        let missing = |module: &&String| {
            live && !kernel::has_module(module) && !kernel::can_load_module(self.runner, module)
        };
        Ok(Facts {
            has_systemd: has_systemd(root)?,
            docker: docker_source(root, self.manifest)?,
            missing_modules: desired.modules.iter().filter(missing).cloned().collect(),
            taken_port: match live {
                true => taken_port(self.runner, self.spec)?,
                false => None,
            },
            missing_tools: match self.spec.role.is_worker() {
                true => missing_tools(root)?,
                false => vec![],
            },
            room: room(root, self.manifest, self.unpacked)?,
            exec: !live || host::file_system(&root.resolve(paths::BUNDLES)?)?.exec,
        })
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
    let bundles = host::file_system(&root.resolve(paths::BUNDLES)?)?;
    let docker = host::file_system(&root.resolve(paths::DOCKER_DIR)?)?;
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
            room(paths::BUNDLES, bundle, bundles.free),
            room(paths::DOCKER_DIR, images, docker.free),
        ]
    })
}
