//! Workloads: manifests that a bundle brings for the cluster, applied once it works.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::definition::is_file_name;
use crate::nodespec::network::dns_name;
use crate::sys::read::bounded;

/// More than any manifest for people has, in bytes.
pub const MAX_MANIFEST: u64 = 1024 * 1024;

/// A `[[workload]]` table of `bundle.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Source {
    /// What people call it.
    pub name: String,
    /// The file of its manifest, beside `bundle.toml`.
    pub file: String,
    /// The workloads that have to be available before this one is applied.
    #[serde(default)]
    pub after: Vec<String>,
}

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

/// The workloads of the bundle in the directory `dir`.
pub fn read(sources: &[Source], dir: Option<&Path>) -> Result<Vec<Workload>> {
    let mut names = BTreeSet::new();
    let mut workloads = Vec::new();
    for source in sources {
        let name = &source.name;
        dns_name(name)
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("workload {name:?}"))?;
        ensure!(names.insert(name), "workload {name} is there twice");
        let place = || format!("workload {name}");
        let manifest = manifest(&source.file, dir).with_context(place)?;
        workloads.push(Workload {
            name: name.clone(),
            file: source.file.clone(),
            manifest,
            after: source.after.clone(),
        });
    }
    Ok(workloads)
}

fn manifest(file: &str, dir: Option<&Path>) -> Result<String> {
    ensure!(
        is_file_name(file),
        "{file:?} is not the name of a file beside bundle.toml"
    );
    let dir = dir.context("only a bundle in a directory has workloads")?;
    let path = dir.join(file);
    let text = bounded(&path, MAX_MANIFEST)?
        .with_context(|| format!("{}: there is no such file", path.display()))?;
    String::from_utf8(text).with_context(|| path.display().to_string())
}
