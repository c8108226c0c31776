//! The files and directories of a node.

use anyhow::Result;

use super::{Records, data, filled, has_our_unit, has_records, put_aside};
use crate::components::BOOT_UNIT;
use crate::digest::Sha256;
use crate::observe::software::unpacked;
use crate::paths::{self, BUNDLES, CURRENT, PATH_DIR, UNITS_DIR};
use crate::plan::without_part;
use crate::records::brought::Brought;
use crate::records::written::KEPT;
use crate::removal::ours::{
    DATA, DIRECTORIES, FILES, KEYS, OF_PROGRAMS, RECORDS, SHARED_DIRECTORIES, TREES, units,
};
use crate::removal::{DOCKER_UNIT, Found};
use crate::render::render;
use crate::sys::mount;
use crate::sys::root::Root;

/// Reads them.
pub fn read(root: &Root, records: &Records, found: &mut Found) -> Result<()> {
    found.data = data(root)?;
    found.member = root.exists(paths::ETCD_MEMBER_DATA)?;
    found.keys = filled(root, KEYS)?;
    found.records = has_records(root)?;
    for path in TREES {
        if root.exists(path)? {
            ours_below(root, records, path, found)?;
        }
    }
    bundles(root, records, found)?;
    kubelet(root, records, found)?;
    units_and_links(root, records, found)?;
    let was_brought = |path: &&&str| records.has_brought(|brought| brought.files.contains(**path));
    for path in FILES.iter().filter(was_brought).chain(OF_PROGRAMS) {
        if root.exists(path)? {
            found.files.push((*path).to_owned());
        }
    }
    docker_settings(root, records, found)?;
    noted(root, records, found)?;
    copies(root, records, found)?;
    modes(root, records, found)?;
    hosts(root, records, found)?;
    let brought = records.has_brought(|brought| brought.files.contains(paths::PROGRAM));
    // Without a record, the program may have come with the image, or with the operator.
    if records.is_whole() && brought && root.exists(paths::PROGRAM)? {
        found.program = Some(paths::PROGRAM.to_owned());
    }
    directories(root, records, found)
}

/// What a run leaves that was interrupted after it removed the last record.
pub fn leftovers(root: &Root, found: &mut Found) -> Result<()> {
    if root.is_dir(paths::RECORDS_DIR)? && root.list(paths::RECORDS_DIR)?.is_empty() {
        found.directories.push(paths::RECORDS_DIR.to_owned());
        found.any_empty = true;
    }
    Ok(())
}

/// What is at `path`, without the files in it that were here before the node.
fn ours_below(root: &Root, records: &Records, path: &str, found: &mut Found) -> Result<()> {
    let here = records.brought.iter().flat_map(|brought| &brought.here);
    let mut here = here.filter(|here| *here == path || is_below(here, &[path]));
    match here.next() {
        Some(here) if here == path => {}
        Some(_) => {
            for name in root.list(path)? {
                ours_below(root, records, &format!("{path}/{name}"), found)?;
            }
        }
        None if root.entry(path)?.is_some_and(|entry| entry.is_dir()) => {
            found.trees.push(path.to_owned());
        }
        None => found.files.push(path.to_owned()),
    }
    Ok(())
}

/// The bundles that were unpacked here, and the link to the one in use. Those of a golden image stay.
fn bundles(root: &Root, records: &Records, found: &mut Found) -> Result<()> {
    for name in unpacked(root)? {
        if records.has_brought(|brought| brought.bundles.contains(&name)) {
            found.trees.push(format!("{BUNDLES}/{name}"));
        }
    }
    let is_brought = |brought: &Brought| brought.files.contains(CURRENT);
    if root.exists(CURRENT)? && records.has_brought(is_brought) {
        found.files.push(CURRENT.to_owned());
    }
    Ok(())
}

/// The content of the kubelet's directory, besides its keys.
fn kubelet(root: &Root, records: &Records, found: &mut Found) -> Result<()> {
    for name in root.list(paths::KUBELET_DIR)? {
        let path = format!("{}/{name}", paths::KUBELET_DIR);
        if path != paths::KUBELET_PKI_DIR {
            ours_below(root, records, &path, found)?;
        }
    }
    let caches = paths::KUBECTL_CACHES.iter();
    // `kubectl` of the operator writes there, too: it is only a cache.
    for path in caches {
        if root.exists(path)? && is_link_to(root, paths::ROOT_KUBECONFIG, paths::ADMIN_KUBECONFIG)?
        {
            found.trees.push((*path).to_owned());
        }
    }
    Ok(())
}

fn units_and_links(root: &Root, records: &Records, found: &mut Found) -> Result<()> {
    let mut names = units();
    names.push(DOCKER_UNIT.to_owned());
    for directory in root.list(UNITS_DIR)? {
        if !directory.ends_with(".wants") {
            continue;
        }
        for name in root.list(&format!("{UNITS_DIR}/{directory}"))? {
            let path = format!("{UNITS_DIR}/{directory}/{name}");
            // The link of the boot goes in any case: the next boot would make the machine a node again.
            let was_brought =
                name == BOOT_UNIT || records.has_brought(|brought| brought.files.contains(&path));
            let is_ours = was_brought
                && names.contains(&name)
                && is_link_to(root, &path, &paths::unit(&name))?
                && (has_our_unit(root, &name)? || !root.exists(&paths::unit(&name))?);
            if is_ours {
                found.files.push(path);
            }
        }
    }
    for name in names.iter().filter(|name| *name != BOOT_UNIT) {
        if has_our_unit(root, name)? {
            found.files.push(paths::unit(name));
        }
    }
    for name in root.list(PATH_DIR)? {
        let path = format!("{PATH_DIR}/{name}");
        let was_brought = records.has_brought(|brought| brought.files.contains(&path));
        if was_brought && is_link_below(root, &path, &format!("{BUNDLES}/"))? {
            found.files.push(path);
        }
    }
    if is_link_to(root, paths::ROOT_KUBECONFIG, paths::ADMIN_KUBECONFIG)? {
        found.files.push(paths::ROOT_KUBECONFIG.to_owned());
    }
    Ok(())
}

fn is_link_to(root: &Root, path: &str, target: &str) -> Result<bool> {
    is_link(root, path, |found| found == target)
}

fn is_link_below(root: &Root, path: &str, directory: &str) -> Result<bool> {
    is_link(root, path, |found| found.starts_with(directory))
}

fn is_link(root: &Root, path: &str, fits: impl Fn(&str) -> bool) -> Result<bool> {
    if !root.entry(path)?.is_some_and(|found| found.is_symlink()) {
        return Ok(false);
    }
    let target = root.link(path)?;
    Ok(target.is_some_and(|target| target.to_str().is_some_and(&fits)))
}

/// The directories of others that got other permission bits.
fn modes(root: &Root, records: &Records, found: &mut Found) -> Result<()> {
    let before = records.brought.iter().flat_map(|record| &record.modes);
    for (path, mode) in before {
        let is_dir = root.entry(path)?.is_some_and(|entry| entry.is_dir());
        if is_dir && root.mode(path)? != Some(*mode) {
            found.modes.push((path.clone(), *mode));
        }
    }
    Ok(())
}

fn hosts(root: &Root, records: &Records, found: &mut Found) -> Result<()> {
    let Some(rest) = root.read(paths::HOSTS)?.as_deref().and_then(without_part) else {
        return Ok(());
    };
    let is_brought = |record: &Brought| record.files.contains(paths::HOSTS);
    let is_brought = records.brought.as_ref().is_some_and(is_brought);
    match rest.is_empty() && is_brought {
        true => found.files.push(paths::HOSTS.to_owned()),
        false => found.parts.push(paths::HOSTS.to_owned()),
    }
    Ok(())
}

/// Docker's settings are the operator's as soon as the operator changes them.
fn docker_settings(root: &Root, records: &Records, found: &mut Found) -> Result<()> {
    let path = paths::DOCKER_SETTINGS;
    let Some(content) = root.read(path)? else {
        return Ok(());
    };
    let ours = render("config/daemon.json", &serde_json::json!({}))?;
    let is_ours = content == ours.as_bytes()
        || records.written.wrote(path, &Sha256::of(&content)) == Some(true);
    if is_ours && records.has_brought(|brought| brought.files.contains(path)) {
        found.files.push(path.to_owned());
    }
    Ok(())
}

/// The directories that go if they are empty, deepest first: those that were not here before the node; without a
/// record of that, those that a node has.
fn directories(root: &Root, records: &Records, found: &mut Found) -> Result<()> {
    let named = records.brought.iter();
    let named = named.flat_map(|record| &record.directories);
    let put_aside = put_aside(root)?;
    let mut all: Vec<&str> = named.chain(&put_aside).map(String::as_str).collect();
    if !records.is_whole() {
        all.extend(DIRECTORIES.iter().chain(SHARED_DIRECTORIES));
    }
    // Logs stay, and so do their directories.
    all.retain(|path| !path.starts_with("/var/log/"));
    // A longer path is deeper, or beside it.
    all.sort_by(|one, other| other.len().cmp(&one.len()).then(one.cmp(other)));
    all.dedup();
    let mounted = mount::points().unwrap_or_default();
    for path in all {
        if root.entry(path)?.is_some_and(|entry| entry.is_dir()) {
            let is_empty = root.list(path)?.is_empty();
            found.any_empty |= is_empty && !mounted.contains(&root.resolve(path)?);
            found.directories.push(path.to_owned());
        }
    }
    Ok(())
}

/// The other files that the installation brought, as far as it noted them.
fn noted(root: &Root, records: &Records, found: &mut Found) -> Result<()> {
    // Others may have put a file of their own there, and this program looks at each.
    let looked_at = [&[UNITS_DIR, PATH_DIR], DATA, KEYS].concat();
    let named = records.brought.iter().flat_map(|record| &record.files);
    for path in named {
        let is_special = is_below(path, &looked_at)
            || RECORDS.contains(&&**path)
            || [
                paths::HOSTS,
                paths::ROOT_KUBECONFIG,
                paths::DOCKER_SETTINGS,
                CURRENT,
            ]
            .contains(&&**path);
        let trees: Vec<&str> = found.trees.iter().map(String::as_str).collect();
        let is_new = !is_below(path, &trees) && !found.files.contains(path);
        let is_file = root.entry(path)?.is_some_and(|entry| !entry.is_dir());
        if !is_special && is_new && is_file && is_in_a_written_directory(path) {
            found.files.push(path.clone());
        }
    }
    Ok(())
}

/// The copies of files that someone else had changed or written: one of a file that was here before the node goes back
/// to its place.
fn copies(root: &Root, records: &Records, found: &mut Found) -> Result<()> {
    for copy in &records.written.kept {
        let Some(path) = copy.strip_suffix(KEPT) else {
            continue;
        };
        if !root.exists(copy)? || is_below(path, &[DATA, KEYS].concat()) {
            continue;
        }
        let was_here = records.is_whole()
            && path != paths::HOSTS
            && !records.has_brought(|brought| brought.files.contains(path));
        let content = root.read(path)?;
        let wrote = |content: &Vec<u8>| records.written.wrote(path, &Sha256::of(content));
        // If someone has changed it again, nobody knows which one is right.
        let may_go = content
            .as_ref()
            .is_none_or(|content| wrote(content) == Some(true));
        if !was_here || !may_go {
            found.copies.push(copy.clone());
            continue;
        }
        if content.is_some() && !found.files.iter().any(|known| known == path) {
            found.files.push(path.to_owned());
        }
        found.back.push((copy.clone(), path.to_owned()));
    }
    Ok(())
}

/// Whether this program writes files into the directory of `path`. The record may be damaged.
fn is_in_a_written_directory(path: &str) -> bool {
    let (parent, name) = path.rsplit_once('/').unwrap_or_default();
    let is_plain = !name.is_empty() && !parent.split('/').any(|part| part == "..");
    // Of `/etc` itself, only files that have a rule of their own.
    let written = paths::WRITTEN.contains(&parent) && parent != "/etc";
    is_plain && (written || is_below(path, paths::WRITTEN_BELOW))
}

fn is_below(path: &str, directories: &[&str]) -> bool {
    let rests = directories
        .iter()
        .filter_map(|directory| path.strip_prefix(directory));
    rests.into_iter().any(|rest| rest.starts_with('/'))
}
