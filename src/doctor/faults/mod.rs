//! The table of known faults: one file for each family.

use crate::language::tr;

use super::facts::Facts;
use super::{Fault, Level, Seen};

mod certificates;
mod cluster;
mod docker;
mod etcd;
mod joining;
mod kernel;
mod network;
mod runs;
mod services;
mod storage;
mod time;
mod units;

/// The families in the order of the document, each with its heading.
pub const FAMILIES: &[(&str, &[Fault])] = &[
    ("The node and its runs", runs::FAULTS),
    ("Joining a cluster", joining::FAULTS),
    ("Disks", storage::FAULTS),
    ("The clock", time::FAULTS),
    ("The kernel", kernel::FAULTS),
    ("Certificates", certificates::FAULTS),
    ("Units", units::FAULTS),
    ("Docker and images", docker::FAULTS),
    ("etcd", etcd::FAULTS),
    ("The network between nodes", network::FAULTS),
    ("Services", services::FAULTS),
    ("The node in the cluster", cluster::FAULTS),
];

/// A fault in the making: what follows from it, and its level, come after.
const fn cause(
    name: &'static str,
    looks_at: &'static str,
    cause: &'static str,
    command: &'static str,
    judge: fn(&Facts) -> Option<Seen>,
) -> Fault {
    Fault {
        name,
        level: Level::Cause,
        looks_at,
        cause,
        command,
        explains: &[],
        judge,
    }
}

impl Fault {
    /// The same, from which these faults follow.
    const fn explains(self, explains: &'static [&'static str]) -> Fault {
        Fault { explains, ..self }
    }

    /// The same as a notice.
    const fn notice(self) -> Fault {
        Fault {
            level: Level::Notice,
            ..self
        }
    }
}

/// The services that stop when the machine itself is in trouble. Others follow from them.
const FIRST_SERVICES: &[&str] = &[
    "etcd-down",
    "docker-down",
    "api-server-down",
    "kube-proxy-down",
    "kubelet-down",
    "calico-down",
    "other-service-down",
    "installation-failed",
];

/// The lines that the journals of services that are down, and of the installation, have about one of these words.
fn journal<'a>(facts: &'a Facts, words: &'a [&'a str]) -> impl Iterator<Item = String> + 'a {
    let units = facts.units.iter();
    let lines =
        units.flat_map(|(name, unit)| unit.lines.iter().map(move |line| (name.as_str(), line)));
    let install = facts
        .install_log
        .iter()
        .map(|line| ("appliance-install", line));
    let is_about = |line: &str| {
        let lower = line.to_lowercase();
        words.iter().any(|word| lower.contains(word))
    };
    let mut told = Vec::new();
    let mut is_first = move |name: &'a str| {
        let is_first = !told.contains(&name);
        told.push(name);
        is_first
    };
    lines
        .chain(install)
        .filter(move |(name, line)| is_about(line) && is_first(name))
        .map(|(name, line)| tr!("{name} says: {}", shortened(line), name))
}

/// A line of a journal, cut to a length that fits.
fn shortened(line: &str) -> String {
    const LONGEST: usize = 200;
    let line = line.trim();
    match line.chars().count() > LONGEST {
        true => line.chars().take(LONGEST).chain(['…']).collect(),
        false => line.to_owned(),
    }
}

/// Bytes in MiB, rounded down.
fn mebibytes(bytes: u64) -> u64 {
    bytes / (1024 * 1024)
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:=@,+".contains(&byte);
    match !word.is_empty() && word.bytes().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}
