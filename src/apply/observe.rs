//! Looks at the machine: what it has of all that it is to have. Writes nothing.

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::apply::docker::Docker;
use crate::apply::{kernel, state, systemd};
use crate::desired::{Content, Desired, Link};
use crate::plan::{Current, CurrentFile, Live, UnitState};
use crate::sys::process::Runner;
use crate::sys::root::Root;

/// What the machine at `root` has of `desired`. `bundle_is_whole` tells whether the payload is unpacked.
pub fn observe(
    desired: &Desired,
    root: &Root,
    runner: &dyn Runner,
    docker: &Docker,
    bundle_is_whole: bool,
) -> Result<Current> {
    let mut current = Current {
        bundle_is_whole,
        started_with: state::started_with(root)?,
        ..Current::default()
    };
    for directory in &desired.directories {
        if root.is_dir(&directory.path)? {
            let mode = root.mode(&directory.path)?;
            current
                .directories
                .extend(mode.map(|mode| (directory.path.clone(), mode)));
        }
    }
    for file in &desired.files {
        let is_secret = matches!(file.content, Content::Secret(_));
        let found = current_file(root, &file.path, is_secret)?;
        current
            .files
            .extend(found.map(|found| (file.path.clone(), found)));
    }
    for link in &desired.links {
        current
            .links
            .extend(current_link(root, link)?.map(|target| (link.path.clone(), target)));
    }
    if root.is_live() {
        current.live = Some(live(desired, runner, docker)?);
    }
    Ok(current)
}

fn current_link(root: &Root, link: &Link) -> Result<Option<String>> {
    if link.yields && root.exists(&link.path)? {
        return Ok(Some(link.target.clone()));
    }
    Ok(root
        .link(&link.path)?
        .map(|target| target.to_string_lossy().into_owned()))
}

fn current_file(root: &Root, path: &str, is_secret: bool) -> Result<Option<CurrentFile>> {
    let Some(bytes) = root.read(path)? else {
        return Ok(None);
    };
    let mode = root
        .mode(path)?
        .with_context(|| format!("{path} vanished"))?;
    let sha256 = Sha256::digest(&bytes).into();
    let text = if is_secret {
        None
    } else {
        String::from_utf8(bytes).ok()
    };
    Ok(Some(CurrentFile { mode, sha256, text }))
}

fn live(desired: &Desired, runner: &dyn Runner, docker: &Docker) -> Result<Live> {
    let names: Vec<&str> = desired
        .services
        .iter()
        .map(|service| service.name)
        .collect();
    let units = systemd::show(runner, &names)?;
    let docker_unit = units.get("docker");
    if docker_unit.is_some_and(systemd::Unit::is_coming_up) {
        // Joins the start that is under way: what images it has cannot be asked before.
        systemd::start(runner, "docker", false)?;
    }
    let docker_runs = docker_unit.is_some_and(|unit| unit.state() == UnitState::Running)
        && docker.is_running(runner);
    let mut live = Live {
        modules: desired
            .modules
            .iter()
            .filter(|module| kernel::has_module(module))
            .cloned()
            .collect(),
        units: units
            .into_iter()
            .map(|(name, unit)| (name, unit.state()))
            .collect(),
        ..Live::default()
    };
    for (key, _) in &desired.sysctls {
        live.sysctls
            .extend(kernel::sysctl(key).map(|value| (key.clone(), value)));
    }
    if docker_runs {
        let images = live.images.insert(Default::default());
        for image in &desired.images {
            let id = docker.image_id(runner, &image.reference)?;
            images.extend(id.map(|id| (image.reference.clone(), id)));
        }
    }
    Ok(live)
}
