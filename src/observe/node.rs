//! Reads the present state of the machine, to compare it with the desired one. Writes nothing.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::images;
use super::records;
use crate::clients::docker::Docker;
use crate::clients::{kernel, kubectl, systemd};
use crate::desired::{Content, Desired, File, Link, Purpose};
use crate::digest;
use crate::join::tokens::Tokens;
use crate::language::tr;
use crate::paths;
use crate::plan::{Current, CurrentFile, Live, OBJECTS, UnitState, part_of};
use crate::records::written::{KEPT, Written};
use crate::sys::process::Runner;
use crate::sys::root::Root;

/// Reads the machine with these tools.
pub struct Observer<'a> {
    /// The system.
    pub root: &'a Root,
    /// How to run programs.
    pub runner: &'a dyn Runner,
    /// The docker with the images.
    pub docker: &'a Docker,
    /// Whether the payload is unpacked.
    pub bundle_is_whole: bool,
    /// Whether the running program is installed, with the payload.
    pub program_is_there: bool,
}

/// Reads which parts of `desired` the machine has already.
pub fn observe(desired: &Desired, observer: &Observer<'_>) -> Result<Current> {
    let root = observer.root;
    let tokens = Tokens::new(&root.resolve(paths::JOIN_DIR)?);
    let mut current = Current {
        bundle_is_whole: observer.bundle_is_whole,
        program_is_there: observer.program_is_there,
        started_with: records::started_with(root)?,
        tokens: tokens.all()?.into_keys().collect(),
        any_live_token: tokens.any_live(OffsetDateTime::now_utc())?,
        kubelet_kubeconfig: match desired.kubelet_server {
            Some(_) => root.read(paths::KUBELET_KUBECONFIG)?,
            None => None,
        },
        etcd_has_data: root.exists(paths::ETCD_MEMBER_DATA)?,
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
    let origin = Origin::of(root)?;
    for file in &desired.files {
        let found = current_file(root, file, &origin)?;
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
        current.live = Some(live(desired, observer, &current.started_with)?);
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

/// What is known of who wrote the files of this machine.
struct Origin {
    /// The record of what this program wrote.
    written: Option<Written>,
    /// Whether a version of this program wrote files that made no such record.
    is_unknown: bool,
}

impl Origin {
    fn of(root: &Root) -> Result<Origin> {
        let written = records::written(root)?;
        Ok(Origin {
            is_unknown: written.is_none() && records::is_node(root)?,
            written,
        })
    }

    /// Whether someone else wrote `content` to this file. Keys and certificates may come from the operator: `enroll`
    /// decides about them.
    fn is_of_others(&self, file: &File, content: &[u8]) -> bool {
        let is_part = matches!(file.content, Content::Block(_));
        let ours = match is_part {
            true => part_of(content),
            false => Some(content.to_owned()),
        };
        let Some(ours) = ours else {
            return false;
        };
        let written = self.written.as_ref();
        match written.and_then(|record| record.wrote(&file.path, &digest::Sha256::of(&ours))) {
            Some(wrote) => !wrote,
            None => !self.is_unknown && !is_part && file.purpose != Purpose::Identity,
        }
    }
}

fn current_file(root: &Root, file: &File, origin: &Origin) -> Result<Option<CurrentFile>> {
    let path = &file.path;
    let Some(bytes) = root.read(path)? else {
        return Ok(None);
    };
    let inspected = root.inspect(path)?.with_context(|| {
        tr!(
            "{path} disappeared during this run; run the command again",
            path
        )
    })?;
    let is_edited = origin.is_of_others(file, &bytes);
    let copy = match is_edited {
        true => root.read(&format!("{path}{KEPT}"))?,
        false => None,
    };
    let is_secret = matches!(file.content, Content::Secret(_));
    Ok(Some(CurrentFile {
        mode: inspected.mode,
        sha256: Sha256::digest(&bytes).into(),
        is_owned: inspected.is_own,
        is_edited,
        copy: copy.map(|copy| Sha256::digest(copy).into()),
        content: (!is_secret).then_some(bytes),
    }))
}

fn live(
    desired: &Desired,
    observer: &Observer<'_>,
    started_with: &BTreeMap<String, String>,
) -> Result<Live> {
    let (runner, docker) = (observer.runner, observer.docker);
    let names: Vec<&str> = desired
        .services
        .iter()
        .map(|service| service.name)
        .collect();
    let units = systemd::show(runner, &names)?;
    let docker_unit = units.get("docker");
    if docker_unit.is_some_and(systemd::Unit::is_coming_up) {
        // Wait for the start that is under way: docker cannot list its images before.
        systemd::start(runner, "docker", false)?;
    }
    let docker_runs = docker_unit.is_some_and(|unit| unit.state() == UnitState::Running)
        && docker.is_running(runner);
    let given = desired
        .objects
        .as_ref()
        .filter(|_| started_with.contains_key(OBJECTS));
    let modules = kernel::Modules::of_running(observer.root);
    let mut live = Live {
        users: users(observer.root)?,
        lacks_objects: match given {
            Some(objects) => kubectl::lacks(runner, &objects.path)?,
            None => false,
        },
        modules: desired
            .modules
            .iter()
            .filter(|module| modules.is_settled(module))
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
        let references = desired.images.iter().map(|image| image.reference.clone());
        live.images = Some(images::ids(observer.root, runner, docker, references)?);
    }
    Ok(live)
}

/// The users of this machine.
pub fn users(root: &Root) -> Result<BTreeSet<String>> {
    let table = root.read("/etc/passwd")?.unwrap_or_default();
    let table = String::from_utf8_lossy(&table).into_owned();
    let names = table.lines().filter_map(|line| line.split(':').next());
    Ok(names.map(str::to_owned).collect())
}
