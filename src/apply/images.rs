//! Keeps the images of this node in docker. An air-gapped node cannot pull them again.

use anyhow::{Result, bail};

use crate::clients::docker::Docker;
use crate::observe::records;
use crate::sys::process::Runner;
use crate::sys::root::Root;

/// Loads the images that docker has lost. Does nothing while docker does not run. Returns what it found, in words.
///
/// # Errors
/// If an image is missing and cannot be loaded. The other images are still loaded.
pub fn ensure(root: &Root, runner: &dyn Runner, docker: &Docker) -> Result<String> {
    if !docker.is_running(runner) {
        let text = "docker does not run, so its images cannot be checked: systemctl status docker";
        return Ok(text.to_owned());
    }
    let wanted = records::images(root)?;
    let mut lost = 0;
    for image in &wanted {
        if docker.image_id(runner, &image.reference)?.as_ref() == Some(&image.id) {
            continue;
        }
        log::warn!(
            "image {} is missing in docker; loading it from {}",
            image.reference,
            image.tarball
        );
        let loaded = root
            .resolve(&image.tarball)
            .and_then(|tarball| docker.load(runner, &tarball));
        match loaded {
            Ok(()) => log::info!("loaded image {}", image.reference),
            Err(error) => {
                lost += 1;
                log::error!("cannot load image {}: {error:#}", image.reference);
            }
        }
    }
    if lost > 0 {
        bail!(
            "{lost} of {} images cannot be loaded; run `appliance install`, which unpacks the \
             bundle again",
            wanted.len()
        );
    }
    Ok(format!("docker has all {} images", wanted.len()))
}
