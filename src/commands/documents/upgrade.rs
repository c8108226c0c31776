//! The documents of upgrades.

use schemars::JsonSchema;
use serde::Serialize;

use super::PlannedFile;
use crate::join::rollout::Progress;
use crate::nodespec::explain::Row;
use crate::records::state::State;
use crate::status::Report;
use crate::upgrade::{Old, Outlook};

/// An upgrade that was made, or would be.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Upgraded {
    /// Whether anything changed, or would.
    pub changed: bool,
    /// The node before.
    pub from: State,
    /// The node after.
    pub to: State,
    /// What changes, and what it means.
    #[serde(flatten)]
    pub outlook: Outlook,
    /// The steps, in words.
    pub steps: Vec<String>,
    /// How the node is afterwards; `null` with `--dry-run`, and below another root directory.
    pub status: Option<Report>,
    /// With `--cluster`: how far the other nodes are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Progress>,
}

/// A change of settings that was made, or would be.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Applied {
    /// Whether anything changed, or would.
    pub changed: bool,
    /// The name of the node.
    pub node: String,
    /// The settings of the node, each with its source.
    pub settings: Vec<Row>,
    /// What someone should look at.
    pub warnings: Vec<String>,
    /// The files that change.
    pub files: Vec<PlannedFile>,
    /// The references of the images that come.
    pub images: Vec<String>,
    /// The services that restart, in order.
    pub restarts: Vec<String>,
    /// What this means, in sentences.
    pub notes: Vec<String>,
    /// The steps, in words.
    pub steps: Vec<String>,
    /// The file with the settings before the last change; `null` if there is none.
    pub former: Option<String>,
    /// How the node is afterwards; `null` with `--dry-run`, and below another root directory.
    pub status: Option<Report>,
}

/// A rollback that was made, or would be.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RolledBack {
    /// What it undoes, in words: an upgrade, or a change of settings.
    pub undoes: String,
    /// What the node then has again, in words.
    pub former: String,
    /// The node before.
    pub from: State,
    /// The node after.
    pub to: State,
    /// The steps, in words.
    pub steps: Vec<String>,
    /// The files that someone changed afterwards. They stay.
    pub stays: Vec<String>,
    /// How the node is afterwards; `null` with `--dry-run`, and below another root directory.
    pub status: Option<Report>,
}

/// What was removed, or would be.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Pruned {
    /// Whether anything was removed, or would be.
    pub changed: bool,
    /// The bundles.
    pub bundles: Vec<Old>,
    /// The images: their names, or their identifiers if another image has the name now.
    pub images: Vec<String>,
    /// The digests of the bundles that stay.
    pub kept: Vec<String>,
}
