//! Docker: where it comes from, what its settings make of it, whether it answers.

use core::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde_json::Value;

use super::shown;
use crate::language::{message, tr, translated};
use crate::nodespec::network::overlap;
use crate::paths;
use crate::preflight::docker::daemon::{Running, major};
use crate::preflight::facts::Facts;
use crate::preflight::{DockerSource, Finding};

/// The newest docker with which the kubelet of v1.9 was seen to work.
const NEWEST: u32 = 20;
/// The sockets at which the kubelet finds docker.
const SOCKETS: &[&str] = &["/var/run/docker.sock", "/run/docker.sock"];

pub fn source(facts: &Facts) -> Finding {
    if let Some((seen, command)) = facts.docker.instead.first() {
        return Finding::fail(seen, command);
    }
    match facts.docker_source {
        DockerSource::Machine => Finding::pass(tr!("that of this machine")),
        DockerSource::Payload => Finding::pass(tr!("that of the bundle")),
        DockerSource::Nowhere => Finding::fail(
            tr!(
                "docker is neither on this machine (/usr/bin/docker and docker.service) nor in the bundle"
            ),
            tr!(
                "install docker.io or docker-ce in the image (`apt-get install docker.io` on Debian and Ubuntu), \
             or build the appliance with docker's static binaries"
            ),
        ),
    }
}

pub fn settings(facts: &Facts) -> Finding {
    let settings = &facts.docker.settings;
    match (&settings.problems[..], &settings.doubts[..]) {
        ([(seen, command), more @ ..], _) => {
            let more: Vec<&str> = more.iter().map(|(seen, _)| seen.as_str()).collect();
            let seen = [&[seen.as_str()], &more[..]].concat().join("; ");
            Finding::fail(seen, command)
        }
        ([], [doubt, ..]) => Finding::warn(doubt, tr!("correct {}", paths::DOCKER_SETTINGS)),
        ([], []) => Finding::pass(tr!("docker starts with them")),
    }
}

pub fn socket(facts: &Facts) -> Finding {
    let hosts = facts.docker.settings.hosts();
    let is_local = |host: &String| {
        let path = host.strip_prefix("unix://");
        host.starts_with("fd:")
            || path.is_some_and(|path| path.is_empty() || SOCKETS.contains(&path))
    };
    let listed = shown(&hosts.join(", "));
    if !hosts.is_empty() && !hosts.iter().any(is_local) {
        return Finding::fail(
            tr!("docker listens only at {listed}", listed),
            tr!(
                "add \"unix:///var/run/docker.sock\" to `hosts` in {}",
                paths::DOCKER_SETTINGS
            ),
        );
    }
    let settings = &facts.docker.settings;
    let is_open = hosts.iter().any(|host| host.starts_with("tcp:"));
    if is_open && !settings.is("tlsverify", true) {
        return Finding::warn(
            tr!(
                "docker listens at {listed} without `tlsverify`: who reaches it is root here",
                listed
            ),
            tr!(
                "remove the address tcp://… from {}",
                translated(settings.place("hosts"))
            ),
        );
    }
    Finding::pass(tr!("docker listens at its usual socket"))
}

pub fn cgroup_driver(facts: &Facts) -> Finding {
    let settings = &facts.docker.settings;
    let driver = match settings.cgroup_driver() {
        Ok(driver) => driver.to_string(),
        Err(other) => {
            return Finding::fail(
                tr!("docker does not know native.cgroupdriver={}", shown(&other)),
                tr!(
                    "write \"exec-opts\": [\"native.cgroupdriver=cgroupfs\"] into {}",
                    paths::DOCKER_SETTINGS
                ),
            );
        }
    };
    match &facts.docker.running {
        Running::Answers(info)
            if facts.wanted.role.is_worker()
                && !info.cgroup_driver.is_empty()
                && info.cgroup_driver != driver =>
        {
            let runs = shown(&info.cgroup_driver);
            Finding::fail(
                tr!(
                    "docker runs with {runs}, but its settings say {driver}",
                    runs,
                    driver
                ),
                tr!(
                    "`systemctl restart docker`, or write \"exec-opts\": [\"native.cgroupdriver={runs}\"] into {}",
                    paths::DOCKER_SETTINGS,
                    runs
                ),
            )
        }
        _ => Finding::pass(tr!("{driver}; the kubelet uses the same", driver)),
    }
}

pub fn networks(facts: &Facts) -> Finding {
    let settings = &facts.docker.settings;
    let (bridge, pools) = settings.subnets();
    let address = facts.wanted.address.map(Ipv4Net::from);
    let address = address.map(|net| (message!("the address of this node"), net));
    let ranges: Vec<(&str, Ipv4Net)> = facts.wanted.ranges.iter().copied().chain(address).collect();
    let clash = |net: &Ipv4Net| {
        let mut ranges = ranges.iter();
        ranges.find(|(_, range)| overlap(net, range)).copied()
    };
    let command = |other: Ipv4Addr| {
        tr!(
            "write \"bip\": \"{other}/24\", or another range that nobody uses, into {}, then `systemctl \
             restart docker`",
            paths::DOCKER_SETTINGS,
            other
        )
    };
    if let Some((net, (name, range))) = bridge.and_then(|net| Some((net, clash(&net)?))) {
        return Finding::fail(
            tr!(
                "docker's bridge has {net}, which overlaps {name} {range}",
                net,
                name = translated(name),
                range
            ),
            command(Ipv4Addr::new(192, 168, 250, 1)),
        );
    }
    let pool = pools.iter().find_map(|net| Some((net, clash(net)?)));
    match (pool, bridge) {
        (Some((net, (name, range))), _) => Finding::warn(
            tr!(
                "docker takes subnets from {net}, which overlaps {name} {range}",
                net,
                name = translated(name),
                range
            ),
            tr!(
                "change `default-address-pools` in {}",
                translated(settings.place("default-address-pools"))
            ),
        ),
        (None, Some(net)) => Finding::pass(tr!("docker's bridge has {net}", net)),
        (None, None) => Finding::pass(tr!("docker makes no bridge of its own")),
    }
}

/// Settings with which pods do not work: the key, whether it is set so, why, and what to do.
pub fn features(facts: &Facts) -> Finding {
    let settings = &facts.docker.settings;
    let place = |key: &str| translated(settings.place(key));
    if settings.get("userns-remap").is_some() {
        return Finding::fail(
            tr!(
                "docker remaps users (`userns-remap`): it starts no privileged container, such as Calico's"
            ),
            tr!("remove `userns-remap` from {}", place("userns-remap")),
        );
    }
    let features = settings.object("features");
    if features.is_some_and(|all| all["containerd-snapshotter"] == Value::Bool(true)) {
        return Finding::fail(
            tr!(
                "docker keeps images in containerd (`containerd-snapshotter`): they have other IDs there"
            ),
            tr!(
                "remove `containerd-snapshotter` from `features` in {}",
                place("features")
            ),
        );
    }
    match settings.get("log-driver").as_deref() {
        None | Some("json-file" | "journald") => {}
        Some(driver) => {
            return Finding::warn(
                tr!(
                    "docker's log driver is {}: `kubectl logs` shows nothing",
                    shown(driver)
                ),
                tr!("remove `log-driver` from {}", place("log-driver")),
            );
        }
    }
    match settings.get("storage-driver").as_deref() {
        Some("vfs") => Finding::warn(
            tr!(
                "docker's storage driver is vfs: each layer is a full copy, which is slow and needs much space"
            ),
            tr!("remove `storage-driver` from {}", place("storage-driver")),
        ),
        _ => Finding::pass(tr!("none is in the way of pods")),
    }
}

/// A container that writes without end fills the disk.
pub fn logs(facts: &Facts) -> Finding {
    let settings = &facts.docker.settings;
    if facts.docker.limits_logs {
        return Finding::pass(tr!("the installation limits them to five files of 20 MB"));
    }
    if !settings.has_endless_logs() {
        return Finding::pass(tr!("docker's settings limit them, or keep them elsewhere"));
    }
    let (what, place) = match settings.has_log_flags() {
        true => (
            "--log-opt max-size=20m --log-opt max-file=5",
            message!("the command line of docker.service"),
        ),
        false => (
            r#""log-opts": {"max-size": "20m", "max-file": "5"}"#,
            paths::DOCKER_SETTINGS,
        ),
    };
    Finding::warn(
        tr!("the logs of containers grow without a limit"),
        tr!(
            "add {what} to {place}, then `systemctl restart docker`",
            what,
            place = translated(place)
        ),
    )
}

pub fn version(facts: &Facts) -> Finding {
    let Some(version) = facts.docker.version().map(shown) else {
        return Finding::elsewhere(tr!("its version is not known"));
    };
    match major(&version) {
        Some(number) if number > NEWEST => Finding::warn(
            tr!("docker {version}", version),
            tr!(
                "install docker 20.10 or older, or build the appliance with docker's static binaries: \
             `appliance help support`"
            ),
        ),
        _ => Finding::pass(tr!("docker {version}", version)),
    }
}

pub fn answers(facts: &Facts) -> Finding {
    match &facts.docker.running {
        Running::Unknown => Finding::elsewhere(tr!(
            "docker is not running yet, or this is not the running system"
        )),
        Running::Stopped => Finding::pass(tr!("docker does not run; the installation starts it")),
        Running::Hangs => Finding::fail(
            tr!("docker's socket accepts connections, but docker does not answer"),
            tr!("`systemctl restart docker`, then `journalctl -u docker`"),
        ),
        Running::Answers(info) => {
            let root = facts.docker.settings.data_root();
            // It shows the path without symbolic links.
            Finding::pass(match info.root == root || info.root.is_empty() {
                true => tr!("docker {} answers", shown(&info.version)),
                false => tr!(
                    "docker {} answers; it keeps images in {}",
                    shown(&info.version),
                    shown(&info.root)
                ),
            })
        }
    }
}
