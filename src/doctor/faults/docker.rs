//! Docker, its settings, and the images of the node.

use super::super::facts::Facts;
use super::super::{Fault, Seen, seen};
use super::cause;
use crate::language::tr;
use crate::preflight::docker::daemon::{Docker, Running};

#[rustfmt::skip]
pub const FAULTS: &[Fault] = &[
    cause("docker-settings", "/etc/docker/daemon.json, and the command line of docker's unit",
        "Docker does not start with its settings.",
        "appliance preflight", settings).explains(&["docker-down"]),
    cause("docker-replaced", "what is in the place of docker",
        "Docker is masked, or it is gone, or a snap or another program is in its place.",
        "apt-get install docker.io", instead).explains(&["docker-down"]),
    cause("docker-hangs", "whether docker answers",
        "Docker runs and does not answer. Its storage or a container blocks it, or the machine is very busy: look again after a minute.",
        "systemctl restart docker", hangs).explains(&["docker-down", "images-lost", "calico-down", "kubelet-down", "node-not-ready"]),
    cause("cgroup-driver", "the cgroup drivers of docker and of the kubelet",
        "Docker and the kubelet put containers into cgroups in two ways, so the kubelet does not start. Docker's settings changed after the installation.",
        "appliance install", cgroup_driver).explains(&["kubelet-down"]),
    cause("images-lost", "the images that the node needs, and those of docker",
        "Docker lost images: the kubelet removed them on a full disk, or docker's directory or storage driver changed. There is no registry to pull them from.",
        "appliance images ensure", images).explains(&["calico-down", "node-not-ready", "other-service-down"]),
    cause("storage-driver", "the storage driver of docker",
        "This storage driver of docker is slow or loses room: devicemapper on a loop device, or vfs.",
        "docker info --format '{{.Driver}}'", storage_driver).notice(),
];

fn docker(facts: &Facts) -> Option<&Docker> {
    facts.node.as_ref()?;
    Some(&facts.machine.as_ref()?.docker)
}

fn settings(facts: &Facts) -> Option<Seen> {
    let problems = &docker(facts)?.settings.problems;
    seen(
        problems
            .iter()
            .map(|(what, next)| format!("{what} ({next})")),
    )
}

fn instead(facts: &Facts) -> Option<Seen> {
    let instead = &docker(facts)?.instead;
    let masked = instead
        .iter()
        .find(|(_, next)| next.contains("systemctl unmask"));
    let found = seen(instead.iter().map(|(what, _)| what.clone()))?;
    Some(match masked {
        Some(_) => found
            .mended_by("systemctl unmask docker.service docker.socket && systemctl start docker"),
        None => found,
    })
}

fn hangs(facts: &Facts) -> Option<Seen> {
    // Preflight asks docker too, but without the manifest of the bundle not that of the bundle.
    let of_machine = docker(facts).is_some_and(|docker| docker.running == Running::Hangs);
    // A docker that is starting is slow.
    let unit = facts.units.get("docker");
    let runs = unit.is_none_or(|unit| unit.active == "active");
    let hangs = of_machine || (facts.docker_hangs && runs);
    hangs.then(|| Seen::of(tr!("docker did not answer in time")))
}

fn cgroup_driver(facts: &Facts) -> Option<Seen> {
    let says = facts.docker.as_ref()?;
    let kubelet = says.kubelet_driver.as_ref()?;
    let differs = !says.cgroup_driver.is_empty() && *kubelet != says.cgroup_driver;
    let of_docker = &says.cgroup_driver;
    differs.then(|| {
        Seen::of(tr!(
            "docker uses {of_docker}, the kubelet {kubelet}",
            of_docker,
            kubelet
        ))
    })
}

fn images(facts: &Facts) -> Option<Seen> {
    let images = facts.images_missing.iter();
    seen(images.map(|image| tr!("{image} is not in docker", image)))
}

fn storage_driver(facts: &Facts) -> Option<Seen> {
    let driver = &facts.docker.as_ref()?.storage_driver;
    let slow = ["devicemapper", "vfs", "aufs"].contains(&driver.as_str());
    slow.then(|| Seen::of(tr!("docker uses {driver}; overlay2 is better", driver)))
}
