//! The node itself, and what runs of this program left behind.

use super::super::facts::{Boot, Facts};
use super::super::{Fault, Seen, seen};
use super::{FIRST_SERVICES, cause, shortened};
use crate::language::tr;
use crate::paths;

#[rustfmt::skip]
pub const FAULTS: &[Fault] = &[
    cause("not-a-node", "the records of this program",
        "No installation has begun on this machine, so it is an ordinary machine.",
        "appliance install", not_a_node),
    cause("copy-of-a-node", "the mark that this boot set",
        "The disk of this machine is a copy of another node's disk. Two machines cannot be one node, so its services do not start.",
        "appliance reset", copy).explains(FIRST_SERVICES),
    cause("interrupted-run", "the journal of the last run",
        "A run that changes this machine was cut off, for example by a reboot. The node is half old, half new.",
        "appliance RUN", interrupted).explains(&[
            "etcd-down", "docker-down", "api-server-down", "kube-proxy-down", "kubelet-down", "calico-down",
            "other-service-down", "installation-failed", "unit-missing", "unit-changed", "certificate-missing",
            "key-missing", "images-lost", "bundle-lost", "upgrade-unfinished",
        ]),
    cause("settings-refused", "how the installation at the last boot ended, and its journal",
        "The settings or the metadata of this server changed and do not describe this node any more, or the machine is not fit. The node stays as it was.",
        "appliance plan", refused),
    cause("installation-failed", "how the installation at the last boot ended, and its journal",
        "The installation at the last boot failed. The end of its journal says why; it can be repeated at any time.",
        "appliance install", failed).explains(&["other-service-down", "images-lost"]),
    cause("record-damaged", "each record of this program, and the settings",
        "A file was cut or edited and cannot be read any more. What it says is not known.",
        "mv PATH PATH.damaged && appliance install", damaged),
    cause("bundle-lost", "the link to the bundle in use",
        "The programs of the node are gone: somebody removed the directory of the bundle.",
        "appliance install", bundle_lost).explains(FIRST_SERVICES),
    cause("address-lost", "the recorded address, and those of all interfaces",
        "The address of the node is not on this machine any more: the port of the server was changed, or DHCP gave another address.",
        "appliance install --change address", address_lost).explains(FIRST_SERVICES),
    cause("upgrade-unfinished", "the record of the last upgrade",
        "An upgrade or a change of settings did not come to its end.",
        "appliance rollback", upgrade),
    cause("run-waits", "the run that has the lock, and for how long",
        "A run changes this machine for more than ten minutes. It may wait for a master, or for a program that hangs.",
        "appliance logs install", waits).notice(),
];

fn not_a_node(facts: &Facts) -> Option<Seen> {
    let is_node = facts.node.is_some() || facts.begun || facts.runs.active.is_some();
    let is_known = facts.runs.boot == Boot::Unknown && facts.runs.interrupted.is_none();
    let damaged = facts.damaged.iter().any(|(path, _)| path == paths::STATE);
    (!is_node && is_known && !damaged)
        .then(|| Seen::of(tr!("there is no record of an installation")))
}

fn copy(facts: &Facts) -> Option<Seen> {
    let why = &tr!(
        "this machine has neither the UUID nor the address of the machine on which the node was installed"
    );
    facts.runs.is_copy.then(|| Seen::of(why))
}

fn interrupted(facts: &Facts) -> Option<Seen> {
    let (told, command) = facts.runs.interrupted.as_ref()?;
    Some(Seen::of(told).mended_by(command))
}

/// The last lines of the journal of the installation that say what is wrong.
fn reasons(facts: &Facts) -> String {
    const MOST: usize = 4;
    let lines = facts
        .install_log
        .iter()
        .filter(|line| !line.trim().is_empty());
    let lines: Vec<String> = lines.map(|line| shortened(line)).collect();
    let error = lines.iter().rposition(|line| line.starts_with("error:"));
    let from = error.unwrap_or(lines.len().saturating_sub(1));
    let told: Vec<&str> = lines[from..]
        .iter()
        .take(MOST)
        .map(String::as_str)
        .collect();
    match told.is_empty() {
        true => tr!("its journal is empty"),
        false => told.join(" "),
    }
}

fn refused(facts: &Facts) -> Option<Seen> {
    (facts.runs.boot == Boot::Refused).then(|| Seen::of(reasons(facts)))
}

fn failed(facts: &Facts) -> Option<Seen> {
    let half = facts.begun && facts.node.is_none() && facts.runs.active.is_none();
    match facts.runs.boot {
        Boot::Failed => Some(Seen::of(reasons(facts))),
        Boot::Unknown if half => Some(Seen::of(tr!(
            "files of a node are here, but no installation has completed"
        ))),
        Boot::Unknown | Boot::Refused => None,
    }
}

fn damaged(facts: &Facts) -> Option<Seen> {
    let found = seen(
        facts
            .damaged
            .iter()
            .map(|(path, why)| format!("{path}: {why}")),
    )?;
    let (path, _) = facts.damaged.first()?;
    Some(found.mended_by(match path.as_str() {
        paths::CONFIG => format!("appliance config validate {path}"),
        _ => format!("mv {path} {path}.damaged && appliance install"),
    }))
}

fn bundle_lost(facts: &Facts) -> Option<Seen> {
    facts
        .bundle_lost
        .then(|| Seen::of(tr!("{} leads nowhere", paths::CURRENT)))
}

fn address_lost(facts: &Facts) -> Option<Seen> {
    let recorded = facts.node.as_ref()?.address?;
    let here = facts.addresses.as_ref()?;
    let list: Vec<String> = here.iter().map(ToString::to_string).collect();
    (!here.contains(&recorded)).then(|| {
        Seen::of(tr!(
            "the node was installed with the address {recorded}; this machine has {}",
            if list.is_empty() {
                "none".to_owned()
            } else {
                list.join(", ")
            },
            recorded
        ))
    })
}

fn upgrade(facts: &Facts) -> Option<Seen> {
    let told = facts.runs.upgrade.as_ref()?;
    let busy = facts.runs.active.is_some() || facts.runs.interrupted.is_some();
    (!busy).then(|| Seen::of(told))
}

fn waits(facts: &Facts) -> Option<Seen> {
    const LONG: i64 = 600;
    let (words, seconds) = facts.runs.active.as_ref()?;
    (*seconds > LONG).then(|| Seen::of(tr!("{words}, for {} minutes", seconds / 60, words)))
}
