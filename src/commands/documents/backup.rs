//! The JSON documents of backups.

use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;

use super::Installed;
use crate::digest::Sha256;
use crate::nodespec::token::TokenId;
use crate::records::backup::Manifest;

/// A backup that was made.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackedUp {
    /// Where it is.
    pub file: String,
    /// Its size, in bytes.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: Sha256,
    /// What is in it.
    pub manifest: Manifest,
    /// The older backups that were removed.
    pub removed: Vec<String>,
}

/// A backup that was checked: it is whole.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerifiedBackup {
    /// The file.
    pub file: String,
    /// What is in it.
    pub manifest: Manifest,
    /// How many keys of etcd's API v2 are in it.
    pub keys: usize,
    /// What was checked besides the sum of each part.
    pub checks: Vec<&'static str>,
}

/// The backups that a master has made.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Backups {
    /// Where they are.
    pub place: String,
    /// All of them, the oldest first.
    pub backups: Vec<KeptBackup>,
}

/// A backup in its place.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeptBackup {
    /// Where it is.
    pub file: String,
    /// When it was begun.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "String")]
    pub created: OffsetDateTime,
    /// Its size, in bytes.
    pub bytes: u64,
}

/// A key that opens backups.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BackupKey {
    /// The file with the key.
    pub file: String,
    /// For whom backups are encrypted that the key opens. It is no secret.
    pub recipient: String,
}

/// A restoration.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Restoration {
    /// The backup.
    pub file: String,
    /// What is in it.
    pub manifest: Manifest,
    /// What is lost, in words.
    pub lost: String,
    /// What was, or would be, done.
    pub steps: Vec<String>,
    /// The join tokens that were revoked.
    pub revoked: Vec<TokenId>,
    /// The new names of what was moved aside.
    pub aside: Vec<String>,
    /// The installation; none with `--dry-run`.
    pub installation: Option<Installed>,
}
