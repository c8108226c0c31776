//! The formats that programs of different versions read from each other, each with its number: records, backups,
//! payloads, and the protocol of the join service. What has a newer number is refused and never misread. Pure.
//!
//! A document whose number is 1 may lack it. From 2 on, it is a JSON object with the members `format` (the number) and
//! `needs` (the oldest version of the program that reads it). Whoever raises a number keeps the reader of the former
//! one, and its frozen document in `tests/fixtures/formats`; `docs/releases.md` says what is promised.

use anyhow::{Context, Result, anyhow};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::language::tr;
use crate::nodespec::Refused;
use crate::paths;

/// The version of this program.
pub const PROGRAM: &str = env!("CARGO_PKG_VERSION");
/// The longest version that a message repeats, in characters.
const LONGEST_VERSION: usize = 32;

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Format {
    /// Its name.
    pub name: &'static str,
    /// Its number: the newest one that this program reads, and the one that it writes.
    pub number: u32,
    /// Where its documents are: a path on a node, or words.
    pub place: &'static str,
}

const fn first(name: &'static str, place: &'static str) -> Format {
    Format {
        name,
        number: 1,
        place,
    }
}

/// The state of an installed node.
pub const STATE: Format = first("state", paths::STATE);
/// What the installation wrote.
pub const WRITTEN: Format = first("written", paths::WRITTEN_RECORD);
/// With which inputs services were started.
pub const STARTED: Format = first("services", paths::STARTED_WITH);
/// The machine of the node.
pub const MACHINE: Format = first("machine", paths::MACHINE);
/// The authorities that a master had.
pub const AUTHORITIES: Format = first("authorities", paths::AUTHORITIES);
/// What a node keeps of its cluster.
pub const CLUSTER: Format = first("cluster", paths::CLUSTER);
/// The images that are being loaded.
pub const LOADING: Format = first("loading", paths::LOADING);
/// What the installations brought.
pub const BROUGHT: Format = first("brought", paths::BROUGHT);
/// The journal of a run.
pub const RUN: Format = first("run", paths::RUN);
/// The times of the steps of the last bring-up.
pub const TIMELINE: Format = first("timeline", paths::TIMELINE);
/// The last upgrade of a node.
pub const UPGRADE: Format = first("upgrade", paths::UPGRADE);
/// What became of add-ons.
pub const NOTES: Format = first("addons", paths::ADDONS_NOTES);
/// The last backup.
pub const LAST_BACKUP: Format = first("last-backup", paths::LAST_BACKUP);
/// The last backup by the timer, if it failed.
pub const FAILED_BACKUP: Format = first("failed-backup", paths::FAILED_BACKUP);
/// The last restoration.
pub const RESTORED: Format = first("restored", paths::RESTORED);
/// The expected state of the cluster.
pub const EXPECTED: Format = first("expected", paths::EXPECTED);
/// The images of a node.
pub const IMAGES: Format = first("images", paths::IMAGES);
/// The names that the join service knows.
pub const NAMES: Format = first("names", paths::JOIN_NAMES);
/// How a master backs the cluster up.
pub const SCHEDULE: Format = first("schedule", paths::BACKUP_SCHEDULE);
/// The add-ons to apply.
pub const ADDONS: Format = first("addons-index", paths::ADDONS_INDEX);
/// Join tokens.
pub const TOKENS: Format = first("tokens", paths::JOIN_DIR);
/// Nodes that joined.
pub const NODES: Format = first("nodes", paths::JOIN_DIR);
/// Which authorities nodes have taken.
pub const TRUST: Format = first("trust", paths::JOIN_DIR);
/// The plan of an upgrade of the cluster.
pub const ROLLOUT: Format = first("rollout", paths::JOIN_DIR);
/// How far each node is in that plan.
pub const ROLLOUT_NODES: Format = first("rollout-nodes", paths::JOIN_DIR);
/// What masters agree on while keys are rotated.
pub const ROTATION: Format = first("rotation", "a record of a rotation of keys in etcd");
/// A backup. Its number is in its manifest.
pub const BACKUP: Format = first("backup", "a backup's manifest.json");
/// The protocol between nodes and masters. Its number is in the path of each request.
pub const JOIN: Format = first(
    "join-protocol",
    "the path of each request to the join service",
);
/// A payload. Its number is in its manifest.
pub const PAYLOAD: Format = Format {
    name: "payload",
    number: 4,
    place: "a payload's manifest.json",
};

/// Every format.
pub const ALL: &[Format] = &[
    STATE,
    WRITTEN,
    STARTED,
    MACHINE,
    AUTHORITIES,
    CLUSTER,
    LOADING,
    BROUGHT,
    RUN,
    TIMELINE,
    UPGRADE,
    NOTES,
    LAST_BACKUP,
    FAILED_BACKUP,
    RESTORED,
    EXPECTED,
    IMAGES,
    NAMES,
    SCHEDULE,
    ADDONS,
    TOKENS,
    NODES,
    TRUST,
    ROLLOUT,
    ROLLOUT_NODES,
    ROTATION,
    BACKUP,
    JOIN,
    PAYLOAD,
];

/// What a document says about its format. Everything else is passed over.
#[derive(Deserialize)]
struct Numbered {
    format: u32,
}

/// What it says about versions of the program.
#[derive(Deserialize)]
struct Versioned {
    needs: Option<String>,
    /// The version that made it, in formats that have it.
    appliance: Option<String>,
    master: Option<Made>,
}

#[derive(Deserialize)]
struct Made {
    appliance: Option<String>,
}

/// The version of the program that reads the document, if it names one.
fn version_in(text: &[u8]) -> Option<String> {
    let Versioned {
        needs,
        appliance,
        master,
    } = serde_json::from_slice(text).ok()?;
    let made = master.and_then(|made| made.appliance);
    let version = needs.or(appliance).or(made);
    version.filter(|version| is_version(version))
}

/// Whether a message may repeat it.
fn is_version(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-+".contains(&byte);
    (1..=LONGEST_VERSION).contains(&text.len()) && text.bytes().all(plain)
}

impl Format {
    /// The file of a node that has its documents, if there is one.
    pub fn file(&self) -> Option<String> {
        match self.place {
            paths::JOIN_DIR => Some(format!("{}/{}.json", self.place, self.name)),
            place => place.starts_with('/').then(|| place.to_owned()),
        }
    }

    /// Whether this program knows the format of the document in `text`. A text that is no such document is no newer one.
    ///
    /// # Errors
    /// [`Refused`] if its number is newer. The error names the version of the program that reads it.
    pub fn check(&self, text: &[u8]) -> Result<()> {
        let Ok(Numbered { format: number }) = serde_json::from_slice(text) else {
            return Ok(());
        };
        if number <= self.number {
            return Ok(());
        }
        let known = self.number;
        let version = match version_in(text) {
            Some(version) => tr!("appliance {version} or newer", version),
            None => tr!("a newer appliance"),
        };
        Err(Refused::new(tr!("{place} has format {number} of {name}, and appliance {PROGRAM} reads up to {known}; use {version}", place = self.place, name = format_args!("{:?}", self.name), number, PROGRAM, known, version))
        .into())
    }

    /// The document of this format in `text`.
    ///
    /// # Errors
    /// [`Refused`] if it is newer; `damaged` as the context of every other error.
    pub fn read<T: DeserializeOwned>(
        &self,
        text: &[u8],
        damaged: impl FnOnce() -> String,
    ) -> Result<T> {
        self.check(text)?;
        serde_json::from_slice(text).with_context(damaged)
    }

    /// The document of this format in `text`, which may have secrets.
    ///
    /// # Errors
    /// [`Refused`] if it is newer; otherwise `damaged` alone. The words of the parser may quote the text.
    pub fn read_secret<T: DeserializeOwned>(
        &self,
        text: &[u8],
        damaged: impl FnOnce() -> String,
    ) -> Result<T> {
        self.check(text)?;
        serde_json::from_slice(text).map_err(|_| anyhow!(damaged()))
    }
}

/// The version of the join protocol in the path of a request, such as 1 in `/v1/hello`; `None` if it has none.
pub fn version_of_path(path: &str) -> Option<u32> {
    let (version, _) = path.strip_prefix("/v")?.split_once('/')?;
    version.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refusal(text: &str) -> Option<String> {
        let error = MACHINE.check(text.as_bytes()).err()?;
        assert!(error.is::<Refused>());
        Some(error.to_string())
    }

    #[test]
    fn a_newer_document_names_the_version_that_reads_it() {
        for (text, version) in [
            (
                r#"{"format": 2, "needs": "0.3.0", "x": [1]}"#,
                "appliance 0.3.0 or newer",
            ),
            (
                r#"{"format": 9, "appliance": "1.0.0-rc.1"}"#,
                "appliance 1.0.0-rc.1 or newer",
            ),
            (
                r#"{"master": {"appliance": "2.0.0"}, "format": 2}"#,
                "appliance 2.0.0 or newer",
            ),
            // What it names is no version.
            (
                r#"{"format": 2, "needs": "\u001b[31m"}"#,
                "a newer appliance",
            ),
            (r#"{"format": 2}"#, "a newer appliance"),
            (
                r#"{"format": 2, "master": "server02"}"#,
                "a newer appliance",
            ),
        ] {
            let said = refusal(text).unwrap();
            assert!(said.ends_with(version), "{said}");
            assert!(said.contains(paths::MACHINE), "{said}");
        }
    }

    #[test]
    fn what_is_not_newer_is_for_the_reader() {
        for text in [
            r#"{"format": 1}"#,
            r#"{"uuid": null}"#,
            // Records by name, one of which has this name.
            r#"{"format": {"address": "192.0.2.1"}}"#,
            r#"[{"format": 2}]"#,
            r#"["2"]"#,
            "",
            "{",
        ] {
            assert_eq!(refusal(text), None, "{text}");
        }
    }

    #[test]
    fn a_path_has_a_version_or_none() {
        assert_eq!(version_of_path("/v1/hello"), Some(1));
        assert_eq!(version_of_path("/v12/program/0"), Some(12));
        for path in ["/", "/v1", "/vx/hello", "/v-1/hello", "/hello/v1/"] {
            assert_eq!(version_of_path(path), None, "{path}");
        }
    }

    #[test]
    fn every_format_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = ALL.iter().map(|format| format.name).collect();
        assert_eq!(names.len(), ALL.len());
    }
}
