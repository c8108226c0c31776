//! File systems: how they are mounted, and their room.

use std::path::Path;

use anyhow::Result;
use procfs::process::{MountInfo, MountInfos};

use super::Bundle;
use crate::language::tr;
use crate::paths;
use crate::preflight::facts::{Place, Room};
use crate::sys::host;
use crate::sys::root::Root;

/// The directories of the node beside those in which programs run.
const WRITTEN: &[&str] = &["/etc", "/run", "/var/lib", "/var/log", paths::PATH_DIR];

/// The directories of the node, each with the mount below it.
pub fn places(root: &Root, mounts: &MountInfos, data_root: &str) -> Result<Vec<Place>> {
    let with_programs = [paths::BUNDLES, data_root, paths::KUBELET_DIR];
    let all = with_programs.iter().chain(WRITTEN);
    let mut places = Vec::new();
    for path in all {
        let Some(mount) = mount_of(root, mounts, path)? else {
            continue;
        };
        let has = |option: &str| mount.mount_options.contains_key(option);
        places.push(Place {
            path: (*path).to_owned(),
            mount: mount.mount_point.display().to_string(),
            noexec: with_programs.contains(path) && has("noexec"),
            read_only: has("ro") || mount.super_options.contains_key("ro"),
        });
    }
    Ok(places)
}

/// The mount on which the path is, after all links.
fn mount_of<'a>(root: &Root, mounts: &'a MountInfos, path: &str) -> Result<Option<&'a MountInfo>> {
    let (own, at) = (root.resolve("/")?, root.resolve(path)?);
    let at = Path::new("/").join(at.strip_prefix(own).unwrap_or(&at));
    let above = mounts
        .0
        .iter()
        .filter(|mount| at.starts_with(&mount.mount_point));
    // Of two mounts at one place, the newest is seen.
    Ok(above.max_by_key(|mount| mount.mount_point.components().count()))
}

/// The room on the file systems of the bundle and of docker's images.
pub fn room(root: &Root, bundle: Bundle<'_>, data_root: &str) -> Result<Vec<Room>> {
    let (unpacked, images) = match bundle.unpacked {
        true => (0, 0),
        false => (
            bundle.manifest.unpacked_size(),
            bundle.manifest.images().map(|image| image.size).sum(),
        ),
    };
    let bundles = host::file_system(&root.resolve(paths::BUNDLES)?)?;
    let docker = host::file_system(&root.resolve(data_root)?)?;
    let room = |place: &str, needed, on: &host::FileSystem| Room {
        place: place.to_owned(),
        needed,
        free: on.free,
        files: on.files,
    };
    Ok(if bundles.device == docker.device {
        let place = tr!(
            "the file system of {} and {data_root}",
            paths::BUNDLES,
            data_root
        );
        vec![room(&place, unpacked + images, &bundles)]
    } else {
        vec![
            room(paths::BUNDLES, unpacked, &bundles),
            room(data_root, images, &docker),
        ]
    })
}
