//! What a backup of a cluster has, and what a master notes of its last one. Pure.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::state::State;
use crate::digest::Sha256;
use crate::formats;
use crate::nodespec::NodeSpec;
use crate::nodespec::objects::StoreSpec;
use crate::paths;

/// The format that this version writes and reads.
pub const FORMAT: u32 = formats::BACKUP.number;
/// The name of etcd's snapshot in a backup.
pub const SNAPSHOT: &str = "etcd/snapshot.db";
/// The name of the keys of etcd's API v2 in a backup.
pub const KEYS: &str = "etcd/keys.json";
/// The name of the manifest in a backup. It is the last one.
pub const MANIFEST: &str = "manifest.json";
/// What is before the path of a file of the master in its name in a backup.
const FILES: &str = "files";
/// Where the operator keeps settings and manifests.
pub const SETTINGS_DIR: &str = "/etc/appliance/";

/// The files of a master without which there is no cluster.
pub fn needed() -> Vec<String> {
    let mut all = vec![paths::CA_CERTIFICATE.to_owned(), paths::key("ca")];
    all.extend([paths::certificate("etcd-ca"), paths::key("etcd-ca")]);
    all.extend(
        [
            paths::SERVICE_ACCOUNT_PRIVATE,
            paths::SERVICE_ACCOUNT_PUBLIC,
            paths::TOKEN_FILE,
            paths::ENCRYPTION,
        ]
        .map(str::to_owned),
    );
    all
}

/// The files of a master that it may lack: those of a rotation of keys that is under way.
pub fn optional() -> impl Iterator<Item = &'static str> {
    let rotation = paths::OF_ROTATION.into_iter();
    rotation.chain([paths::NEXT_SERVICE_ACCOUNT, paths::CONFIG])
}

/// Whether the file of that name in [`paths::JOIN_DIR`] is a record of tokens or nodes, or the mark that etcd has them.
pub fn is_join_record(name: &str) -> bool {
    let parts = name.split_once('.');
    parts.is_some_and(|(kind, end)| {
        !kind.is_empty()
            && kind
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
            && matches!(end, "json" | "shared")
    })
}

/// Whether the file at `path` may be in a backup, and nowhere else may a restoration write one.
pub fn may_have(path: &str) -> bool {
    if needed().iter().any(|one| one == path) || optional().any(|one| one == path) {
        return true;
    }
    if let Some(name) = path.strip_prefix(paths::JOIN_DIR) {
        return name.strip_prefix('/').is_some_and(is_join_record);
    }
    // Manifests of workloads that the settings name.
    path.strip_prefix(SETTINGS_DIR).is_some_and(is_plain)
}

/// Whether every part of the relative path is an ordinary name.
fn is_plain(path: &str) -> bool {
    path.split('/').all(|part| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain)
    })
}

/// The name in a backup of the file at `path`.
pub fn name_of(path: &str) -> String {
    format!("{FILES}{path}")
}

/// The path of the file of that name in a backup; `None` if it is no such name.
pub fn path_of(name: &str) -> Option<&str> {
    name.strip_prefix(FILES).filter(|path| may_have(path))
}

/// The description of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Its format.
    pub format: u32,
    /// When it was begun: it has every change that was acknowledged before.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "String")]
    pub created: OffsetDateTime,
    /// The master that made it.
    pub master: State,
    /// The version of its etcd.
    pub etcd: String,
    /// The number of the last change in etcd, when the backup was begun.
    pub revision: u64,
    /// SHA-256 of the certificates of the cluster's authority: they identify the cluster.
    pub authority: Vec<String>,
    /// Everything in it, by name.
    pub members: BTreeMap<String, Member>,
}

/// One part of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Member {
    /// Its size, in bytes.
    pub size: u64,
    /// SHA-256 of its content.
    pub sha256: Sha256,
    /// Its permission bits, such as 384 for 0600.
    pub mode: u32,
}

/// How a master backs the cluster up, as its settings say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// For whom backups are encrypted.
    pub recipients: Vec<String>,
    /// The file with their passphrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase_file: Option<String>,
    /// Where they go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// How the object store is reached. It has no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<StoreSpec>,
    /// How often one is made, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// How many are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
}

impl Schedule {
    /// That of a node with this specification.
    pub fn of(spec: &NodeSpec) -> Schedule {
        let Some(backup) = spec.backup.as_deref() else {
            return Schedule::default();
        };
        Schedule {
            recipients: backup.recipients.clone(),
            passphrase_file: backup.passphrase_file.clone(),
            to: backup.to.clone(),
            s3: backup.s3.clone(),
            every: backup.every.map(|every| every.as_secs()),
            keep: backup.keep,
        }
    }

    /// Whether a backup is due at `now`, after that last one. The timer does not come to the minute.
    pub fn is_due(&self, last: Option<&LastBackup>, now: OffsetDateTime) -> bool {
        const EARLY: i64 = 600;
        let Some(every) = self.every.and_then(|every| i64::try_from(every).ok()) else {
            return false;
        };
        // A clock that was wrong must not stop backups until the time that it said.
        last.is_none_or(|last| {
            let age = (now - last.created).whole_seconds();
            age < 0 || age >= every - EARLY
        })
    }
}

/// What a master notes of its last backup that was made.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastBackup {
    /// When it was begun.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "String")]
    pub created: OffsetDateTime,
    /// Where it was written to.
    pub place: String,
    /// Its size, in bytes.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: Sha256,
    /// The number of the last change in etcd that it has.
    pub revision: u64,
}

/// The last backup by the timer, if it failed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct FailedBackup {
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "String")]
    pub at: OffsetDateTime,
    /// Why.
    pub why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_due_when_the_last_one_is_as_old_as_the_settings_say() {
        let at = |minutes: i64| OffsetDateTime::UNIX_EPOCH + time::Duration::minutes(minutes);
        let last = LastBackup {
            created: at(0),
            place: String::new(),
            bytes: 0,
            sha256: Sha256::of(b""),
            revision: 0,
        };
        let hourly = Schedule {
            every: Some(3600),
            ..Schedule::default()
        };
        for (minutes, expected) in [(0, false), (49, false), (50, true), (99, true), (-1, true)] {
            assert_eq!(
                hourly.is_due(Some(&last), at(minutes)),
                expected,
                "{minutes}"
            );
        }
        assert!(hourly.is_due(None, at(0)));
        assert!(!Schedule::default().is_due(None, at(0)));
    }

    #[test]
    fn only_files_of_a_master_may_be_in_a_backup() {
        for path in [
            paths::CA_CERTIFICATE,
            paths::NEXT_SERVICE_ACCOUNT,
            "/var/lib/appliance/join/tokens.json",
            "/var/lib/appliance/join/nodes.shared",
            "/etc/appliance/config.yaml",
            "/etc/appliance/workloads/web.yaml",
        ] {
            assert_eq!(path_of(&name_of(path)), Some(path));
        }
        for path in [
            "/etc/passwd",
            "/etc/kubernetes/ca/../../passwd",
            "/etc/kubernetes/ca/kubernetes/kubernetes-key.pem",
            "/var/lib/appliance/join/../x.json",
            "/var/lib/appliance/join/tokens.lock",
            "/var/lib/appliance/joint/tokens.json",
            "/etc/appliance/../cron.d/x",
            "/etc/appliance//x",
            "/etc/appliance/.x",
            "/etc/appliance/",
            "etc/appliance/x",
        ] {
            assert_eq!(path_of(&name_of(path)), None, "{path}");
        }
        assert_eq!(path_of("etcd/snapshot.db"), None);
    }
}
