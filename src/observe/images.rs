//! The images that docker has.

use std::collections::BTreeMap;

use anyhow::Result;

use super::records;
use crate::clients::docker::Docker;
use crate::records::images::NodeImage;
use crate::sys::process::Runner;
use crate::sys::root::Root;

/// Those of these images that docker does not have, whole.
pub fn missing(
    root: &Root,
    runner: &dyn Runner,
    docker: &Docker,
    wanted: Vec<NodeImage>,
) -> Result<Vec<NodeImage>> {
    let references = wanted.iter().map(|image| image.reference.clone());
    let present = ids(root, runner, docker, references)?;
    let is_missing = |image: &NodeImage| present.get(&image.reference) != Some(&image.id);
    Ok(wanted.into_iter().filter(is_missing).collect())
}

/// The identifiers of the images known by these references. One that docker does not have is not among them, nor one
/// whose loading was cut. Docker does not flush the files of an image: after a power cut they may be empty, though docker
/// believes that it has them.
pub fn ids(
    root: &Root,
    runner: &dyn Runner,
    docker: &Docker,
    references: impl IntoIterator<Item = String>,
) -> Result<BTreeMap<String, String>> {
    let references: Vec<String> = references.into_iter().collect();
    let mut ids = docker.image_ids(runner, &references)?;
    let loading = records::loading(root)?;
    ids.retain(|_, id| !loading.contains(id));
    Ok(ids)
}
