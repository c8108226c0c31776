//! Units that someone changed, and ports that others took.

use super::super::facts::{Facts, UnitFile};
use super::super::{Fault, Seen, seen};
use super::{FIRST_SERVICES, cause, journal, quoted};
use crate::language::tr;
use crate::paths;
use crate::preflight::{Level, judge};

/// What follows from a unit that does not run.
const DOWN: &[&str] = &[
    "etcd-down",
    "api-server-down",
    "controller-manager-down",
    "scheduler-down",
    "docker-down",
    "calico-down",
    "kubelet-down",
    "kube-proxy-down",
    "other-service-down",
];

#[rustfmt::skip]
pub const FAULTS: &[Fault] = &[
    cause("unit-masked", "the unit of each service",
        "Somebody masked a unit, so systemd does not start it.",
        "systemctl unmask UNIT", masked).explains(DOWN),
    cause("unit-missing", "the unit of each service",
        "The file of a unit is gone.",
        "appliance install", missing).explains(DOWN),
    cause("unit-disabled", "the unit of each service",
        "A unit is disabled, so it does not start at boot.",
        "systemctl enable --now UNIT", disabled).explains(DOWN),
    cause("port-taken", "the programs that listen at the ports of the node, and `address already in use` in the journals",
        "Another program listens at a port of the node, so the service cannot.",
        "kill PROCESS", port_taken).explains(DOWN),
    cause("proxy-set", "the drop-ins of the node's units",
        "A unit of the node sends traffic within the cluster to a proxy. The proxy does not know the addresses of the cluster.",
        "rm DROP-IN && systemctl daemon-reload", proxy).explains(FIRST_SERVICES),
    cause("unit-changed", "the unit of each service, and what this program wrote",
        "Somebody changed the unit of a service, or added a drop-in. It may be meant so.",
        "appliance verify", changed).notice(),
];

/// The units with such a file.
fn with<'a>(facts: &'a Facts, file: &'a UnitFile) -> impl Iterator<Item = &'a str> {
    let all = facts.unit_files.iter();
    all.filter(move |(_, found)| found == file)
        .map(|(unit, _)| unit.as_str())
}

fn masked(facts: &Facts) -> Option<Seen> {
    let units: Vec<&str> = with(facts, &UnitFile::Masked).collect();
    let found = seen(units.iter().map(|unit| tr!("{unit} is masked", unit)))?;
    Some(found.mended_by(format!(
        "systemctl unmask {0} && systemctl start {0}",
        units.join(" ")
    )))
}

fn missing(facts: &Facts) -> Option<Seen> {
    let missing = with(facts, &UnitFile::Missing);
    seen(missing.map(|unit| tr!("{} is not there", paths::unit(unit))))
}

fn disabled(facts: &Facts) -> Option<Seen> {
    let disabled = facts
        .units
        .iter()
        .filter(|(_, unit)| unit.enabled == "disabled");
    let units: Vec<&str> = disabled.map(|(name, _)| name.as_str()).collect();
    let found = seen(units.iter().map(|unit| tr!("{unit} is disabled", unit)))?;
    Some(found.mended_by(format!("systemctl enable --now {}", units.join(" "))))
}

fn port_taken(facts: &Facts) -> Option<Seen> {
    facts.node.as_ref()?;
    let machine = facts.machine.as_ref()?;
    let lines = || seen(journal(facts, &["address already in use"]));
    let judged = judge(machine, &[]);
    let taken = judged
        .into_iter()
        .find(|one| one.name == "ports" && one.level == Level::Fail);
    let Some(taken) = taken else {
        return lines().map(|found| found.mended_by("ss -ltnp"));
    };
    // `nginx, process 812`: the number is last, because a program may give itself any name.
    let process = taken.seen.rsplit("process ").next().unwrap_or_default();
    let process: String = process.chars().take_while(char::is_ascii_digit).collect();
    Some(Seen::of(taken.seen).mended_by(match process.is_empty() {
        true => "ss -ltnp".to_owned(),
        false => format!("kill {process}"),
    }))
}

fn proxy(facts: &Facts) -> Option<Seen> {
    let system = &facts.machine.as_ref()?.system;
    let found = system.unit_proxies.iter();
    let found = seen(
        found.map(|(unit, path)| tr!("{path} gives {unit} a proxy and no exception", path, unit)),
    )?;
    let (_, path) = system.unit_proxies.first()?;
    let path = quoted(path);
    Some(found.mended_by(format!("rm {path} && systemctl daemon-reload")))
}

fn changed(facts: &Facts) -> Option<Seen> {
    let told = |(unit, file): &(String, UnitFile)| match file {
        UnitFile::Changed => Some(tr!("{unit} is not as this program wrote it", unit)),
        UnitFile::DropIn(path) => Some(tr!("{path} changes {unit}", path, unit)),
        UnitFile::Stale => Some(tr!(
            "systemd has not read {unit} since it was changed",
            unit
        )),
        UnitFile::Masked | UnitFile::Missing => None,
    };
    let found = seen(facts.unit_files.iter().filter_map(told))?;
    let stale = facts
        .unit_files
        .iter()
        .any(|(_, file)| *file == UnitFile::Stale);
    Some(match stale {
        true => found.mended_by("systemctl daemon-reload".to_owned()),
        false => found,
    })
}
