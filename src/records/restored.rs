//! The record of a restoration on this machine. Pure.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::digest::Sha256;
use crate::paths::RESTORED;

/// A restoration from a backup.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// SHA-256 of the manifest of the backup.
    pub backup: Sha256,
    /// When the backup was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// When the restoration was begun.
    #[serde(with = "time::serde::rfc3339")]
    pub begun: OffsetDateTime,
    /// How far it is.
    pub phase: Phase,
}

/// How far a restoration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// What was there is being moved aside.
    Begun,
    /// Keys and data are being placed. What is there is of this restoration, and a part of it is missing.
    Placing,
    /// Keys and data are in their places.
    Placed,
}

impl Restored {
    /// Why no installation may begin; `None` if it may.
    pub fn hinders(&self) -> Option<String> {
        (self.phase != Phase::Placed).then(|| {
            format!(
                "a restoration from a backup was interrupted on this machine, so a part of the cluster's keys is missing; \
                 run it again: `appliance restore FILE --yes`. To give it up, remove {RESTORED}, and what it wrote: \
                 `appliance reset --data --keys`"
            )
        })
    }
}
