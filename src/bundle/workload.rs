//! Workloads: manifests in a bundle, which are applied once the cluster works.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The maximum size of a manifest, in bytes.
pub const MAX_MANIFEST: u64 = 1024 * 1024;

/// A workload with its manifest as its author wrote it: the node fills in its values.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Workload {
    /// Its name.
    pub name: String,
    /// The file with the manifest, for errors.
    pub file: String,
    /// The manifest: YAML, in which a value of the cluster replaces each `{{ NAME }}`.
    pub manifest: String,
    /// The workloads that must be available before this one is applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
}
