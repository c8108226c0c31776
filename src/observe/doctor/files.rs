//! Certificates, the files of units, and the room on disks.

use std::collections::BTreeMap;

use anyhow::Result;

use super::{Place, Put, said};
use crate::components::{self, AUTHORITY};
use crate::digest::Sha256;
use crate::doctor::facts::{Certificate, FileSystem, Held, UnitFile};
use crate::language::tr;
use crate::nodespec::{Profile, Role};
use crate::observe::preflight::docker;
use crate::observe::records;
use crate::observe::software::docker_source;
use crate::paths;
use crate::pki::inspect;
use crate::sys::host;
use crate::sys::process::Runner;
use crate::sys::root::Root;

/// The certificates that this node should have.
pub fn certificates<R: Runner>(place: &Place<R>) -> Result<Put> {
    let node = place.node.as_ref();
    let shape = node.map(|node| node.shape);
    let with_ca = shape.filter(|shape| shape.profile == Profile::WithCa);
    let names = with_ca.map(|shape| (shape.role, components::certificate_names(shape.role)));
    let (role, names) = names.unwrap_or((Role::Worker, Vec::new()));
    let root = &place.root;
    let found: Vec<Certificate> = names
        .into_iter()
        .map(|name| Certificate {
            name: name.to_owned(),
            path: paths::certificate(name),
            found: certificate(root, name, role)
                .unwrap_or_else(|error| Held::Unreadable(said(&format!("{error:#}")))),
        })
        .collect();
    Ok(Box::new(|facts| facts.certificates = found))
}

fn certificate(root: &Root, name: &str, role: Role) -> Result<Held> {
    let Some(pem) = root.read(&paths::certificate(name))? else {
        return Ok(Held::Missing);
    };
    let info = inspect::inspect(&pem)?;
    let above = root.read(&paths::certificate(components::authority_of(name)))?;
    // Whether the authority can be read is told of itself.
    let signed = above.map(|above| inspect::is_signed_by(&pem, &above).unwrap_or(true));
    // Only masters have the key of the authority.
    let has_key = name != AUTHORITY || role.is_master();
    Ok(Held::Valid {
        not_before: info.not_before,
        not_after: info.not_after,
        signed: signed.unwrap_or(true),
        key: if has_key { key(root, name)? } else { None },
    })
}

fn key(root: &Root, name: &str) -> Result<Option<String>> {
    let path = paths::key(name);
    Ok(match root.mode(&path)? {
        Some(mode) if mode & 0o077 == 0 => None,
        Some(mode) => Some(tr!(
            "{path} has mode {mode}, so others may read it",
            mode = format_args!("{mode:04o}"),
            path
        )),
        None => Some(tr!("{path} is not there", path)),
    })
}

/// What is wrong with the files of units, compared with the record of what was written.
pub fn units<R: Runner>(place: &Place<R>) -> Result<Put> {
    let Some(shape) = place.node.as_ref().map(|node| node.shape) else {
        return Ok(Box::new(|_| {}));
    };
    let root = &place.root;
    let written = records::written(root).ok().flatten().unwrap_or_default();
    let knows = |path: &str| written.wrote(path, &Sha256::of(b"")).is_some();
    let mut found = Vec::new();
    let services = components::services(shape);
    for unit in services.iter().flat_map(|service| service.units()) {
        let path = paths::unit(&unit);
        let target = root.link(&path).ok().flatten();
        if target.is_some_and(|target| target.as_os_str() == "/dev/null") {
            found.push((unit.clone(), UnitFile::Masked));
        } else if knows(&path) {
            match root.read(&path) {
                Ok(None) => found.push((unit.clone(), UnitFile::Missing)),
                Ok(Some(text)) if written.wrote(&path, &Sha256::of(&text)) != Some(false) => {}
                // Also what is no file, or cannot be read: it hides no other unit.
                _ => found.push((unit.clone(), UnitFile::Changed)),
            }
        }
        let dir = format!("{path}.d");
        let drop_ins = root.list(&dir).unwrap_or_default().into_iter();
        let drop_ins = drop_ins.filter(|name| name.ends_with(".conf"));
        let drop_ins = drop_ins.map(|name| format!("{dir}/{name}"));
        // Docker's unit is the distribution's, and so are most of its drop-ins.
        let foreign = drop_ins.filter(|path| !knows(path) && unit != "docker.service");
        found.extend(foreign.map(|path| (unit.clone(), UnitFile::DropIn(path))));
    }
    Ok(Box::new(|facts| facts.unit_files.extend(found)))
}

/// The room on the file systems of the node.
pub fn disks<R: Runner>(place: &Place<R>) -> Result<Put> {
    let root = &place.root;
    let source = docker_source(root, None)?;
    let docker = docker::settings(root, source, None).data_root();
    let places = [
        paths::BUNDLES,
        &docker,
        "/var/lib",
        "/var/log",
        "/etc",
        paths::ETCD_DIR,
        "/",
    ];
    let mut systems: BTreeMap<u64, FileSystem> = BTreeMap::new();
    for place in places {
        let system = host::file_system(&root.resolve(place)?)?;
        let one = FileSystem {
            place: place.to_owned(),
            used: system.used,
            available: system.available,
            files: system.files,
        };
        // The last of these places on a file system names it best.
        systems.insert(system.device, one);
    }
    Ok(Box::new(|facts| {
        facts.file_systems = systems.into_values().collect();
    }))
}
