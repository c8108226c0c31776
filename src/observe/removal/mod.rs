//! Reads what a machine has of a node, so that `appliance reset` can remove it. Writes nothing.

use std::time::SystemTime;

use anyhow::Result;

use super::records;
use crate::clients::docker::Docker as DockerClient;
use crate::paths;
use crate::records::brought::Brought;
use crate::records::run::{LastCopy, RESET};
use crate::records::state::Installed;
use crate::records::written::Written;
use crate::removal::ours::{DATA, EVIDENCE, KEYS, OF_KEPT, RECORDS, is_our_unit, units};
use crate::removal::{Found, is_put_aside};
use crate::sys::process::Runner;
use crate::sys::root::Root;

mod cluster;
mod docker;
mod files;
mod live;

pub use cluster::{etcd, other_masters};
pub use docker::pod_processes;

/// Reads the machine with these tools.
pub struct Observer<'a> {
    /// The system.
    pub root: &'a Root,
    /// How to run programs.
    pub runner: &'a dyn Runner,
    /// How to run a program that should answer at once.
    pub quick: &'a dyn Runner,
    /// The docker with containers and images.
    pub docker: &'a DockerClient,
    /// Whether docker is known not to answer: it is not asked again.
    pub is_silent: bool,
}

/// The records of earlier runs. A damaged one counts as missing: what it says has to go, too.
pub struct Records {
    /// The node, as far as records or units name it.
    pub node: Option<Installed>,
    /// What was brought.
    pub brought: Option<Brought>,
    /// What was written.
    pub written: Written,
}

impl Records {
    /// Reads them.
    pub fn of(root: &Root) -> Result<Records> {
        let told = |error: &anyhow::Error| log::warn!("{error:#}");
        let state = records::state(root).inspect_err(told).ok().flatten();
        Ok(Records {
            node: cluster::node(root, state.as_ref())?,
            brought: records::brought(root).inspect_err(told).ok().flatten(),
            written: records::written(root)
                .inspect_err(told)
                .ok()
                .flatten()
                .unwrap_or_default(),
        })
    }

    /// Whether the installation brought this, as far as is known.
    fn has_brought(&self, is_named: impl Fn(&Brought) -> bool) -> bool {
        match &self.brought {
            Some(brought) if brought.whole => is_named(brought),
            _ => true,
        }
    }

    /// Whether all that was brought is recorded.
    fn is_whole(&self) -> bool {
        self.brought.as_ref().is_some_and(|brought| brought.whole)
    }
}

/// The client of the docker of this machine, or of the bundle in use.
pub fn docker(root: &Root) -> Result<DockerClient> {
    let of_machine = root.exists(paths::DOCKER_OF_MACHINE)?;
    let of_payload = root.exists(paths::DOCKER_OF_PAYLOAD)?;
    Ok(DockerClient::new(match of_payload && !of_machine {
        true => paths::DOCKER_OF_PAYLOAD,
        false => paths::DOCKER_OF_MACHINE,
    }))
}

/// Reads the whole machine.
pub fn found(observer: &Observer<'_>) -> Result<Found> {
    let root = observer.root;
    let records = Records::of(root)?;
    let mut found = Found {
        is_node: is_node(root)?,
        is_live: root.is_live(),
        ..Found::default()
    };
    if !found.is_node {
        files::leftovers(root, &mut found)?;
        return Ok(found);
    }
    let run = records::run(root).ok().flatten();
    let run = run.filter(|run| run.command == RESET);
    let copy = run.and_then(|run| run.copy);
    found.copy = copy.filter(|copy| is_newest(root, copy).unwrap_or(false));
    files::read(root, &records, &mut found)?;
    if root.is_live() {
        cluster::read(root, &records, &mut found)?;
        docker::read(observer, &records, &mut found)?;
        live::read(observer, &records, &mut found)?;
    }
    Ok(found)
}

/// Whether the copy is there, and nothing that it has was written since: services may have run after the interruption.
fn is_newest(root: &Root, copy: &LastCopy) -> Result<bool> {
    let Some(made) = root.entry(&copy.path)? else {
        return Ok(false);
    };
    let made = made.modified()?;
    for path in &copy.of {
        if is_written_since(root, path, made)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a file below `path` was written after `time`. A removal changes directories only.
fn is_written_since(root: &Root, path: &str, time: SystemTime) -> Result<bool> {
    for name in root.list(path)? {
        let below = format!("{path}/{name}");
        let is_newer = match root.entry(&below)? {
            Some(entry) if entry.is_dir() => is_written_since(root, &below, time)?,
            // The clock of files is coarse.
            Some(entry) => entry.modified()? >= time,
            None => false,
        };
        if is_newer {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether there is a node, or a part of one: a record, or a unit of a node.
fn is_node(root: &Root) -> Result<bool> {
    for path in EVIDENCE {
        if root.exists(path)? {
            return Ok(true);
        }
    }
    let mut is_node = false;
    for unit in units() {
        // An image has the unit of the boot before there is a node.
        is_node |= unit != crate::components::BOOT_UNIT && has_our_unit(root, &unit)?;
    }
    Ok(is_node)
}

/// Whether the unit file of this name is this program's.
fn has_our_unit(root: &Root, name: &str) -> Result<bool> {
    let path = paths::unit(name);
    // An operator may have masked it: a link to a device.
    let found = root.entry(&path)?;
    if !found.is_some_and(|found| found.is_file()) {
        return Ok(false);
    }
    let text = root.read(&path)?.unwrap_or_default();
    Ok(is_our_unit(name, &String::from_utf8_lossy(&text)))
}

/// The directories with data of the cluster: etcd's, those that a conversion put aside, and the join service's.
fn data(root: &Root) -> Result<Vec<String>> {
    let mut all = filled(root, DATA)?;
    all.extend(put_aside(root)?);
    Ok(all)
}

/// The directories with etcd's data that a conversion put aside.
fn put_aside(root: &Root) -> Result<Vec<String>> {
    let (parent, _) = paths::ETCD_DIR.rsplit_once('/').unwrap_or_default();
    let names = root.list(parent)?.into_iter();
    let all = names.map(|name| format!("{parent}/{name}"));
    Ok(all.filter(|path| is_put_aside(path)).collect())
}

/// The directories of these that have any content.
fn filled(root: &Root, paths: &[&str]) -> Result<Vec<String>> {
    let mut filled = Vec::new();
    for path in paths {
        if !root.list(path)?.is_empty() {
            filled.push((*path).to_owned());
        }
    }
    Ok(filled)
}

/// Whether data or keys of a node are still there.
pub fn is_anything_kept(root: &Root) -> Result<bool> {
    Ok(!data(root)?.is_empty() || !filled(root, KEYS)?.is_empty())
}

/// Whether a record is there that goes now.
fn has_records(root: &Root) -> Result<bool> {
    let kept = is_anything_kept(root)?;
    for path in RECORDS {
        if !(kept && OF_KEPT.contains(path)) && root.exists(path)? {
            return Ok(true);
        }
    }
    Ok(false)
}
