//! The images that docker has.

use anyhow::Result;

use super::records;
use crate::clients::docker::Docker;
use crate::records::images::NodeImage;
use crate::sys::process::Runner;
use crate::sys::root::Root;

/// Whether docker has this image, whole.
pub fn has(root: &Root, runner: &dyn Runner, docker: &Docker, image: &NodeImage) -> Result<bool> {
    Ok(id(root, runner, docker, &image.reference)?.as_ref() == Some(&image.id))
}

/// The identifier of the image known as `reference`; `None` if docker has none, or if a run that loaded it was cut. Docker
/// does not flush the files of an image: after a power cut they may be empty, though docker believes that it has them.
pub fn id(
    root: &Root,
    runner: &dyn Runner,
    docker: &Docker,
    reference: &str,
) -> Result<Option<String>> {
    let id = docker.image_id(runner, reference)?;
    let loading = records::loading(root)?;
    Ok(id.filter(|id| !loading.contains(id)))
}
