//! What docker has of a node, and the processes of pods.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Observer, Records};
use crate::clients::systemd;
use crate::observe::records;
use crate::paths;
use crate::plan::UnitState;
use crate::removal::ours::CALICO_CONTAINER;
use crate::removal::{Docker, Found};
use crate::sys::process::argument;

/// Where control groups are.
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";
/// The control group in which the kubelet puts all pods, with each of its drivers (`--cgroup-driver`).
const OF_PODS: [&str; 2] = ["kubepods", "kubepods.slice"];

/// Reads it.
pub fn read(observer: &Observer<'_>, records: &Records, found: &mut Found) -> Result<()> {
    found.docker = docker(observer, records)?;
    found.stray_pods = !pod_processes().is_empty();
    for group in groups(Path::new(CONTROL_GROUPS)) {
        found.groups.push(argument(&group)?.to_owned());
    }
    Ok(())
}

fn docker(observer: &Observer<'_>, records: &Records) -> Result<Docker> {
    let (root, docker) = (observer.root, observer.docker);
    let is_there =
        root.exists(paths::DOCKER_OF_MACHINE)? || root.exists(paths::DOCKER_OF_PAYLOAD)?;
    if !is_there {
        return Ok(Docker::Absent);
    }
    if observer.is_silent {
        return Ok(Docker::Silent);
    }
    let images = images(observer, records);
    if !docker.is_running(observer.quick) {
        let units = systemd::show(observer.quick, &["docker"])?;
        let unit = units
            .get("docker")
            .map(|unit| (unit.state(), &*unit.load_state));
        return Ok(match unit {
            Some((UnitState::Stopped, "loaded")) => Docker::Stopped(images),
            // A program without a service, as after the removal of a package.
            Some((UnitState::Stopped, _)) | None => Docker::Absent,
            Some((UnitState::Running, _)) => Docker::Silent,
        });
    }
    let runner = observer.runner;
    let mut present = Vec::new();
    for image in images {
        if docker.listed_id(runner, &image)?.is_some() {
            present.push(image);
        }
    }
    let has_calico = docker.has_container(runner, CALICO_CONTAINER)?;
    Ok(Docker::Answers {
        pods: docker.has_pods(runner)?,
        containers: has_calico
            .then(|| CALICO_CONTAINER.to_owned())
            .into_iter()
            .collect(),
        images: present,
    })
}

/// The references of the images that the installation brought.
fn images(observer: &Observer<'_>, records: &Records) -> Vec<String> {
    if let Some(brought) = records.brought.as_ref().filter(|brought| brought.whole) {
        return brought.images.iter().cloned().collect();
    }
    let listed = records::images(observer.root).unwrap_or_default();
    listed.into_iter().map(|image| image.reference).collect()
}

/// The IDs of all processes in the control groups of pods.
pub fn pod_processes() -> Vec<i32> {
    let mut all = Vec::new();
    for group in groups(Path::new(CONTROL_GROUPS)) {
        collect(&group, &mut all);
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// The control groups of all pods below `top`. In the first version of control groups, each controller has its own
/// tree.
fn groups(top: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(top).into_iter().flatten().flatten();
    // A link is another name of a controller.
    let trees = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let trees = trees.map(|entry| entry.path()).chain([top.to_owned()]);
    let named = trees.flat_map(|tree| OF_PODS.map(|name| tree.join(name)));
    let mut found: Vec<PathBuf> = named.filter(|group| group.is_dir()).collect();
    found.sort();
    found
}

fn collect(group: &Path, all: &mut Vec<i32>) {
    let listed = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    all.extend(listed.lines().filter_map(|line| line.parse::<i32>().ok()));
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), all);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn groups_of_pods_are_found_in_both_versions_and_with_both_drivers() {
        let top = tempfile::tempdir().unwrap();
        let make = |path: &str| fs::create_dir_all(top.path().join(path)).unwrap();
        for path in [
            "cpu,cpuacct/kubepods/burstable",
            "memory/kubepods",
            "memory/docker/kubepods",
            "kubepods.slice/kubepods-burstable.slice",
        ] {
            make(path);
        }
        symlink("cpu,cpuacct", top.path().join("cpu")).unwrap();
        fs::write(top.path().join("cpu/kubepods/cgroup.procs"), "7\n").unwrap();
        fs::write(
            top.path().join("cpu/kubepods/burstable/cgroup.procs"),
            "8\n9\n",
        )
        .unwrap();
        let all = groups(top.path());
        let names: Vec<_> = all
            .iter()
            .map(|path| path.strip_prefix(top.path()).unwrap().to_str().unwrap())
            .collect();
        assert_eq!(
            names,
            ["cpu,cpuacct/kubepods", "kubepods.slice", "memory/kubepods"]
        );
        let mut processes = Vec::new();
        collect(&all[0], &mut processes);
        assert_eq!(processes, [7, 8, 9]);
    }
}
