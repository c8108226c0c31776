//! Workloads: manifests that a bundle brings for the cluster, applied once it works.

use serde::{Deserialize, Serialize};

/// More than any manifest for people has, in bytes.
pub const MAX_MANIFEST: u64 = 1024 * 1024;

/// A workload with its manifest as its author wrote it: templates are filled in on the node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Workload {
    /// What people call it.
    pub name: String,
    /// The file the manifest was in, for errors.
    pub file: String,
    /// The manifest: YAML, with `{{ NAME }}` where a value of the cluster goes.
    pub manifest: String,
    /// The workloads that have to be available before this one is applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
}
