//! Checks whether a machine can become a node, before anything is written: a table of small checks over
//! [`facts`] that were read once. Pure: [`crate::observe::preflight`] reads.

use schemars::JsonSchema;
use serde::Serialize;

use crate::language::{message, tr};
use crate::nodespec::Refused;

mod checks;
pub mod docker;
mod document;
pub mod facts;
pub mod firewall;
pub mod skew;
pub mod stays;
mod table;
#[cfg(test)]
mod tests;

pub use checks::network::DROPS;
pub use document::document;
use facts::Facts;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// The machine cannot become a node: `install` refuses.
    Fail,
    /// The machine can become a node, but something should be looked at.
    Warn,
    /// It is as needed.
    Pass,
    /// It does not concern this node, or cannot be read in a system that is not booted.
    NotApplicable,
}

impl Level {
    /// All results, in the order of summaries.
    pub const ALL: [Level; 4] = [Level::Fail, Level::Warn, Level::Pass, Level::NotApplicable];

    /// The result in words.
    pub fn words(self) -> &'static str {
        match self {
            Level::Fail => message!("FAIL"),
            Level::Warn => message!("warn"),
            Level::Pass => message!("pass"),
            Level::NotApplicable => message!("not applicable"),
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    level: Level,
    /// What was seen; for [`Level::NotApplicable`], why it does not apply.
    seen: String,
    /// What to type, or to do.
    command: String,
}

impl Finding {
    pub(crate) fn pass(seen: impl Into<String>) -> Finding {
        Finding {
            level: Level::Pass,
            seen: seen.into(),
            command: String::new(),
        }
    }

    pub(crate) fn elsewhere(why: impl Into<String>) -> Finding {
        Finding {
            level: Level::NotApplicable,
            ..Finding::pass(why)
        }
    }

    pub(crate) fn warn(seen: impl Into<String>, command: impl Into<String>) -> Finding {
        Finding {
            level: Level::Warn,
            seen: seen.into(),
            command: command.into(),
        }
    }

    pub(crate) fn fail(seen: impl Into<String>, command: impl Into<String>) -> Finding {
        Finding {
            level: Level::Fail,
            ..Finding::warn(seen, command)
        }
    }
}

/// How a check can end, for the documentation, and whether the operator may ignore a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// A failure stops the installation, and cannot be ignored: without it no node can work.
    Binding,
    /// A failure stops the installation, unless the operator ignores it.
    Ignorable,
    /// It warns at most.
    Warning,
}

/// One check of the table.
pub struct Check {
    /// Its name, which `--ignore-preflight` takes.
    pub name: &'static str,
    /// What is needed, in one line.
    pub needed: &'static str,
    /// Whether it can fail, and be ignored.
    pub weight: Weight,
    judge: fn(&Facts) -> Finding,
}

/// A check with its result, as it is printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Judged {
    /// The name of the check.
    pub name: &'static str,
    /// The result.
    pub level: Level,
    /// Whether the operator ignores the failure, which is now a warning.
    pub ignored: bool,
    /// What was seen; for [`Level::NotApplicable`], why it does not apply.
    pub seen: String,
    /// What is needed.
    pub needed: &'static str,
    /// What to type, or to do; empty if there is nothing to do.
    pub command: String,
}

/// Every check of the table.
pub fn checks() -> impl Iterator<Item = &'static Check> {
    table::GROUPS.iter().flat_map(|(_, checks)| checks.iter())
}

/// The result of every check, in the order of the table. The failures of the checks `ignored` are
/// warnings.
pub fn judge(facts: &Facts, ignored: &[Ignored]) -> Vec<Judged> {
    checks()
        .map(|check| {
            let found = (check.judge)(facts);
            let is_ignored = ignored.iter().any(|one| one.0 == check.name);
            let ignored = found.level == Level::Fail && is_ignored;
            Judged {
                name: check.name,
                level: if ignored { Level::Warn } else { found.level },
                ignored,
                seen: found.seen,
                needed: check.needed,
                command: found.command,
            }
        })
        .collect()
}

/// How many checks have this result.
pub fn count(judged: &[Judged], level: Level) -> usize {
    judged.iter().filter(|one| one.level == level).count()
}

/// Refuses a machine on which a check failed, with every reason.
pub fn refuse(judged: &[Judged]) -> Result<(), Refused> {
    let failed = judged.iter().filter(|one| one.level == Level::Fail);
    let problems: Vec<String> = failed.map(Judged::sentence).collect();
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Refused { problems }),
    }
}

impl Judged {
    /// What was seen, what is needed and what to do, in one sentence with the name of the check.
    pub fn sentence(&self) -> String {
        let command = match self.command.is_empty() {
            true => String::new(),
            false => format!("; {}", self.command),
        };
        format!("{}: {}{command}", self.name, self.seen)
    }
}

/// The name of a check whose failure the operator ignores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ignored(&'static str);

impl core::str::FromStr for Ignored {
    type Err = String;

    fn from_str(text: &str) -> Result<Ignored, String> {
        let Some(check) = checks().find(|check| check.name == text) else {
            let distance = |check: &&Check| strsim::damerau_levenshtein(check.name, text);
            let nearest = checks().min_by_key(distance).map_or("", |check| check.name);
            return Err(tr!(
                "there is no check of this name; did you mean `{nearest}`? `appliance preflight` lists all",
                nearest
            ));
        };
        match check.weight {
            Weight::Ignorable => Ok(Ignored(check.name)),
            Weight::Warning => Err(tr!("this check only warns: there is nothing to ignore")),
            Weight::Binding => Err(tr!(
                "this check cannot be ignored: no node works without it. Needed: {}",
                check.needed
            )),
        }
    }
}

/// The space in bytes that must stay free on a file system, for etcd, logs and the system itself.
pub const RESERVE: u64 = 256 * 1024 * 1024;

/// Where docker comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DockerSource {
    /// From the machine.
    Machine,
    /// From the payload: the machine has none.
    Payload,
    /// Neither has docker.
    Nowhere,
}

/// A program that the kubelet, kube-proxy or Calico run, and the package it comes in.
#[derive(Debug, PartialEq, Eq)]
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// The package of Debian and Ubuntu.
    pub package: &'static str,
}

const fn tool(name: &'static str, package: &'static str) -> Tool {
    Tool { name, package }
}

/// Docker needs this program if the kernel has AppArmor: without it, docker starts no container.
pub const APPARMOR: Tool = tool("apparmor_parser", "apparmor");

/// The programs that a node with pods needs (kubelet and kube-proxy v1.9, Calico v2.6).
pub const TOOLS: &[Tool] = &[
    APPARMOR,
    tool("conntrack", "conntrack"),
    tool("ethtool", "ethtool"),
    tool("ip", "iproute2"),
    tool("ipset", "ipset"),
    tool("iptables", "iptables"),
    tool("mount", "mount"),
    tool("nsenter", "util-linux"),
    tool("socat", "socat"),
];

/// Bytes in MiB, rounded up.
pub fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1024 * 1024)
}
