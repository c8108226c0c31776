//! Services that do not run: what is told if no deeper cause is known.

use crate::language::tr;

use super::super::facts::{Facts, Unit};
use super::super::{Fault, Seen, seen};
use super::{cause, shortened};

/// The services that have a fault of their own.
const NAMED: &[&str] = &[
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "docker",
    "kube-calico",
    "kubelet",
    "kube-proxy",
];

#[rustfmt::skip]
pub const FAULTS: &[Fault] = &[
    cause("etcd-down", "etcd's unit, health endpoint and journal",
        "etcd does not run or is not healthy, so the API server and everything after it fails. Its journal says why.",
        "systemctl restart etcd", |facts| down(facts, "etcd")).explains(&["api-server-down", "calico-down", "other-service-down"]),
    cause("docker-down", "docker's unit and journal",
        "Docker does not run, so neither Calico nor the kubelet works.",
        "systemctl restart docker && appliance install", |facts| down(facts, "docker")).explains(&["calico-down", "kubelet-down", "images-lost"]),
    cause("api-server-down", "the API server's unit, health endpoint and journal",
        "The API server of this master does not run or is not healthy.",
        "systemctl restart kube-apiserver", |facts| down(facts, "kube-apiserver")).explains(&[
            "controller-manager-down", "scheduler-down", "kube-proxy-down", "kubelet-down", "other-service-down", "node-not-ready",
        ]),
    cause("controller-manager-down", "the controller manager's unit and health endpoint",
        "The controller manager does not run: nothing replaces pods and nodes that are lost.",
        "systemctl restart kube-controller-manager", |facts| down(facts, "kube-controller-manager")),
    cause("scheduler-down", "the scheduler's unit and health endpoint",
        "The scheduler does not run: new pods get no node.",
        "systemctl restart kube-scheduler", |facts| down(facts, "kube-scheduler")),
    cause("calico-down", "the unit and health endpoint of Calico",
        "Calico does not run or is not healthy: pods get no routes and no addresses.",
        "systemctl restart kube-calico", |facts| down(facts, "kube-calico")).explains(&["bgp-down", "tunnel-dropped", "node-not-ready"]),
    cause("kubelet-down", "the kubelet's unit and health endpoint",
        "The kubelet does not run or is not healthy: the cluster takes the node for lost.",
        "systemctl restart kubelet", |facts| down(facts, "kubelet")).explains(&["node-not-ready"]),
    cause("kube-proxy-down", "kube-proxy's unit and health endpoint",
        "kube-proxy does not run or is not healthy: services are not reached from this node.",
        "systemctl restart kube-proxy", |facts| down(facts, "kube-proxy")),
    cause("other-service-down", "the other units of this program",
        "A service of this program does not run.",
        "systemctl restart UNIT", others),
];

fn told(name: &str, unit: &Unit) -> String {
    let state = match &unit.unhealthy {
        Some(why) => tr!("{name} runs, but is not healthy: {}", shortened(why), name),
        None => tr!("{name} is {} ({})", unit.active, unit.sub, name),
    };
    match unit.lines.iter().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => tr!("{state}; its last line: {}", shortened(line), state),
        None => state,
    }
}

fn down(facts: &Facts, name: &str) -> Option<Seen> {
    let unit = facts.units.get(name).filter(|unit| unit.is_down())?;
    Some(Seen::of(told(name, unit)))
}

fn others(facts: &Facts) -> Option<Seen> {
    let others = facts.units.iter();
    let down: Vec<(&String, &Unit)> = others
        .filter(|(name, unit)| unit.is_down() && !NAMED.contains(&name.as_str()))
        .collect();
    let names: Vec<&str> = down.iter().map(|(name, _)| name.as_str()).collect();
    let found = seen(down.iter().map(|(name, unit)| told(name, unit)))?;
    Some(found.mended_by(format!("systemctl restart {}", names.join(" "))))
}
