//! Notes what an installation brings, before it brings it ([`crate::records::brought`]).

use std::collections::BTreeSet;

use anyhow::Result;

use super::records::{changing, write_json};
use crate::clients::{kernel, netfilter};
use crate::observe::records;
use crate::paths::{self, BUNDLES, ETCD_ENVIRONMENT, PROGRAM};
use crate::plan::{Plan, Step};
use crate::records::brought::Brought;
use crate::removal::ours::{DIRECTORIES, SHARED_DIRECTORIES, SYSCTLS_OF_PROGRAMS, TREES};
use crate::sys::process::Runner;
use crate::sys::root::Root;

/// How many files of a directory that were here before are noted by name.
const MOST_HERE: usize = 1000;

/// Begins the record on a machine that is no node yet. The caller has written nothing.
pub fn begin(root: &Root, runner: &dyn Runner) -> Result<()> {
    if records::is_node(root)? || records::brought(root)?.is_some() {
        return Ok(());
    }
    write_json(root, paths::BROUGHT, &first(root, runner)?)
}

/// Notes what the steps of `plan` bring that this machine does not have.
pub fn note(root: &Root, runner: &dyn Runner, plan: &Plan) -> Result<()> {
    let before = records::brought(root)?;
    let mut record = match &before {
        Some(before) => before.clone(),
        None if records::is_node(root)? => Brought::default(),
        None => first(root, runner)?,
    };
    for step in &plan.steps {
        record.add(of_step(root, step)?);
    }
    match before.as_ref() == Some(&record) {
        true => Ok(()),
        false => write_json(root, paths::BROUGHT, &record),
    }
}

/// What is known before anything is written: what the programs of a node make and change by themselves.
fn first(root: &Root, runner: &dyn Runner) -> Result<Brought> {
    let mut record = Brought {
        whole: true,
        ..Brought::default()
    };
    for directory in DIRECTORIES.iter().chain(SHARED_DIRECTORIES) {
        missing(root, &format!("{directory}/"), &mut record)?;
    }
    for directory in TREES.iter().chain(&[paths::KUBELET_DIR]) {
        let mut files = BTreeSet::new();
        present(root, directory, &mut files)?;
        match files.len() > MOST_HERE {
            true => drop(record.here.insert((*directory).to_owned())),
            false => record.here.extend(files),
        }
    }
    if root.is_live() {
        record.add(of_programs(root, runner)?);
    }
    Ok(record)
}

/// The files below a directory, some more than [`MOST_HERE`] at most. Links are not followed.
fn present(root: &Root, directory: &str, files: &mut BTreeSet<String>) -> Result<()> {
    if !root.entry(directory)?.is_some_and(|entry| entry.is_dir()) {
        return Ok(());
    }
    for name in root.list(directory)? {
        let path = format!("{directory}/{name}");
        if files.len() > MOST_HERE {
            return Ok(());
        }
        match root.entry(&path)? {
            Some(entry) if entry.is_dir() => present(root, &path, files)?,
            _ => drop(files.insert(path)),
        }
    }
    Ok(())
}

/// Notes that an image is loaded into docker, which did not have it.
pub fn note_image(root: &Root, reference: &str) -> Result<()> {
    let _alone = changing();
    let Some(mut record) = records::brought(root)? else {
        return Ok(());
    };
    match record.images.insert(reference.to_owned()) {
        true => write_json(root, paths::BROUGHT, &record),
        false => Ok(()),
    }
}

fn of_step(root: &Root, step: &Step) -> Result<Brought> {
    let mut brought = Brought::default();
    let new = |path: &str| Ok::<_, anyhow::Error>(!root.exists(path)?);
    match step {
        Step::CreateDirectory(directory) => {
            missing(root, &format!("{}/", directory.path), &mut brought)?;
            let mode = root.mode(&directory.path)?;
            let changed = mode.filter(|mode| *mode != directory.mode);
            brought
                .modes
                .extend(changed.map(|mode| (directory.path.clone(), mode)));
        }
        Step::WriteFile {
            path, new: true, ..
        } if path != paths::CONFIG => {
            missing(root, path, &mut brought)?;
            brought.files.insert(path.clone());
        }
        Step::PrepareEtcd(_) if new(ETCD_ENVIRONMENT)? => {
            missing(root, ETCD_ENVIRONMENT, &mut brought)?;
            brought.files.insert(ETCD_ENVIRONMENT.to_owned());
        }
        Step::SetLink(link) if new(&link.path)? => {
            missing(root, &link.path, &mut brought)?;
            brought.files.insert(link.path.clone());
        }
        Step::InstallProgram if new(PROGRAM)? => drop(brought.files.insert(PROGRAM.to_owned())),
        Step::Unpack { digest } if new(&format!("{BUNDLES}/{digest}"))? => {
            brought.bundles.insert(digest.clone());
        }
        Step::LoadModule(module) => drop(brought.modules.insert(module.clone())),
        Step::SetSysctl { key, .. } => {
            let value = kernel::sysctl(key);
            brought
                .sysctls
                .extend(value.map(|value| (key.clone(), value)));
        }
        _ => {}
    }
    Ok(brought)
}

/// The settings that the programs of a node change.
fn of_programs(root: &Root, runner: &dyn Runner) -> Result<Brought> {
    let keys = SYSCTLS_OF_PROGRAMS.iter();
    let values = keys.filter_map(|key| Some(((*key).to_owned(), kernel::sysctl(key)?)));
    Ok(Brought {
        sysctls: values.collect(),
        forward: netfilter::forward_policy(runner, root)?,
        ..Brought::default()
    })
}

/// Adds the directories above `path` that do not exist.
fn missing(root: &Root, path: &str, brought: &mut Brought) -> Result<()> {
    for (end, _) in path.match_indices('/').skip(1) {
        let directory = &path[..end];
        if !root.exists(directory)? {
            brought.directories.insert(directory.to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sys::change::Change;

    #[test]
    fn only_directories_that_do_not_exist_are_brought() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        root.create_dir("/etc/cni", 0o755).unwrap();
        let mut brought = Brought::default();
        missing(&root, "/etc/cni/net.d/10-calico.conf", &mut brought).unwrap();
        missing(&root, "/etc/calico/", &mut brought).unwrap();
        let directories: Vec<String> = brought.directories.into_iter().collect();
        assert_eq!(directories, ["/etc/calico", "/etc/cni/net.d"]);
    }
}
