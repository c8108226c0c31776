//! The room on a node's file systems, and in etcd's database: a warning before it ends.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use schemars::JsonSchema;
use serde::Serialize;

use super::{etcd, mebibytes};
use crate::language::{message, tr, translated};
use crate::nodespec::Role;
use crate::paths;
use crate::sys::host::{self, FileSystem};
use crate::sys::root::Root;

/// From this part on, in percent, a file system is told to be nearly full. From 90 on, the kubelet ends pods
/// (`--eviction-hard`, `nodefs.available<10%`).
const NEARLY: u64 = 85;
/// etcd's database in its directory.
const DATABASE: &str = "/var/lib/etcd/member/snap/db";
/// How many files are looked at to find out what takes the room. Beyond, the sizes are told as at least.
const MOST_FILES: usize = 300_000;
/// How many of those that take the most room are told.
const TOLD: usize = 3;

/// A file system, or etcd's database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageReport {
    /// Its directories, or what it is.
    pub name: String,
    /// How many bytes are used.
    pub used: u64,
    /// How many bytes there are, or may be.
    pub size: u64,
    /// Why there is hardly any room left, and what takes it.
    pub problem: Option<String>,
}

/// The file systems of the node, and etcd's database on a master. `docker` is the directory in which docker keeps
/// images and containers.
pub fn read(root: &Root, role: Role, docker: &str) -> Result<Vec<StorageReport>> {
    let mut systems: BTreeMap<u64, (Vec<&str>, FileSystem)> = BTreeMap::new();
    let mut places = vec!["/", "/var/lib", docker, "/var/log"];
    if role.is_master() {
        places.push(paths::ETCD_DIR);
    }
    for place in places {
        let system = host::file_system(&root.resolve(place)?)?;
        let known = systems.entry(system.device);
        known.or_insert_with(|| (Vec::new(), system)).0.push(place);
    }
    let mut reports = Vec::new();
    for (places, system) in systems.values() {
        let nearly = system.used * 100 >= (system.used + system.available) * NEARLY;
        reports.push(StorageReport {
            name: places[0].to_owned(),
            used: system.used,
            size: system.used + system.available,
            problem: nearly.then(|| problem(root, docker, system)).transpose()?,
        });
    }
    reports.sort_by(|one, other| one.name.cmp(&other.name));
    if role.is_master() {
        reports.extend(database(root)?);
    }
    Ok(reports)
}

fn database(root: &Root) -> Result<Option<StorageReport>> {
    let Ok(file) = fs::metadata(root.resolve(DATABASE)?) else {
        return Ok(None);
    };
    let (used, size) = (file.len(), etcd::quota(root)?);
    let nearly = used * 100 >= size * etcd::NEARLY;
    Ok(Some(StorageReport {
        name: "etcd's database".to_owned(),
        used,
        size,
        problem: nearly.then(|| {
            tr!("at its quota, the whole cluster refuses to write: `appliance etcd maintain`")
        }),
    }))
}

/// What takes the room on a file system.
fn problem(root: &Root, docker: &str, system: &FileSystem) -> Result<String> {
    let logs = format!("{docker}/containers");
    let known = [
        (message!("logs of containers"), logs.as_str()),
        (message!("images and containers"), docker),
        (message!("the journal"), "/var/log/journal"),
        (message!("other logs"), "/var/log"),
        (message!("etcd"), paths::ETCD_DIR),
        (message!("unpacked bundles"), paths::BUNDLES),
        (message!("volumes of pods"), paths::KUBELET_DIR),
        (message!("backups"), paths::COPIES_DIR),
    ];
    let mut sizes: Vec<(&str, u64)> = Vec::new();
    let mut counted = Vec::new();
    let mut left = MOST_FILES;
    for (name, path) in known {
        let path = root.resolve(path)?;
        let bytes = taken(&path, system.device, &counted, &mut left);
        counted.push(path);
        sizes.push((name, bytes));
    }
    sizes.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let sized = |bytes: u64| match left {
        0 => tr!("at least {size}", size = mebibytes(bytes)),
        _ => mebibytes(bytes),
    };
    let told: Vec<String> = sizes
        .iter()
        .filter(|(_, bytes)| *bytes > 0)
        .take(TOLD)
        .map(|(name, bytes)| format!("{} {}", translated(name), sized(*bytes)))
        .collect();
    let told = match told.is_empty() {
        true => tr!("nothing that belongs to the node"),
        false => told.join(", "),
    };
    Ok(tr!(
        "nearly full, and the kubelet ends pods at 90 %; what takes the room: {told}; see `appliance help operations`",
        told = told
    ))
}

/// The bytes that files below a directory take on this device, without those in `counted`. What cannot be read counts as
/// nothing: files come and go meanwhile.
fn taken(directory: &Path, device: u64, counted: &[PathBuf], left: &mut usize) -> u64 {
    let mut bytes = 0;
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        if counted.contains(&directory) {
            continue;
        }
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Some(rest) = left.checked_sub(1) else {
                return bytes;
            };
            *left = rest;
            let Ok(metadata) = fs::symlink_metadata(entry.path()) else {
                continue;
            };
            if metadata.dev() != device {
                continue;
            }
            bytes += metadata.blocks() * 512;
            if metadata.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sys::change::Change;

    #[test]
    fn what_takes_the_room_is_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let fill = |path: &str, size: usize| {
            root.write(path, &vec![1; size], 0o644).unwrap();
        };
        fill("/srv/docker/containers/a/a-json.log", 5 << 20);
        fill("/srv/docker/overlay2/b/diff/file", 3 << 20);
        fill("/var/log/syslog", 1 << 20);
        let system = host::file_system(dir.path()).unwrap();
        let told = problem(&root, "/srv/docker", &system).unwrap();
        let expected = "logs of containers 5 MiB, images and containers 3 MiB, other logs 1 MiB";
        assert!(told.contains(expected), "{told}");
    }

    #[test]
    fn a_database_near_its_quota_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let unit = "[Service]\nExecStart=/etcd \\\n  --quota-backend-bytes=1000\n";
        root.write(&paths::unit("etcd.service"), unit.as_bytes(), 0o644)
            .unwrap();
        for (size, told) in [(799, false), (800, true)] {
            root.write(DATABASE, &vec![1; size], 0o600).unwrap();
            let reports = read(&root, Role::Single, paths::DOCKER_DIR).unwrap();
            let database = reports.last().unwrap();
            assert_eq!((database.used, database.size), (size as u64, 1000));
            assert_eq!(database.problem.is_some(), told);
        }
    }
}
