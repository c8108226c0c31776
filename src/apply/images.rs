//! Keeps the images of this node in docker: there is nowhere to pull one from again.

use anyhow::{Result, bail};

use crate::clients::docker::Docker;
use crate::observe::records;
use crate::sys::process::Runner;
use crate::sys::root::Root;

/// Loads what docker has lost. A docker that does not run is left alone: nothing can run on it.
///
/// # Errors
/// If an image is missing and cannot be loaded; the others are loaded all the same.
pub fn ensure(root: &Root, runner: &dyn Runner, docker: &Docker) -> Result<()> {
    if !docker.is_running(runner) {
        log::info!("docker does not run");
        return Ok(());
    }
    let wanted = records::images(root)?;
    let mut lost = 0;
    for image in &wanted {
        if docker.image_id(runner, &image.reference)?.as_ref() == Some(&image.id) {
            continue;
        }
        log::warn!(
            "docker has lost {}; loading it from {}",
            image.reference,
            image.tarball
        );
        let loaded = root
            .resolve(&image.tarball)
            .and_then(|tarball| docker.load(runner, &tarball));
        match loaded {
            Ok(()) => log::info!("loaded {}", image.reference),
            Err(error) => {
                lost += 1;
                log::error!("{}: {error:#}", image.reference);
            }
        }
    }
    if lost > 0 {
        bail!(
            "{lost} of {} images cannot be loaded again; `appliance install` unpacks the bundle \
             again",
            wanted.len()
        );
    }
    log::info!("docker has all {} images", wanted.len());
    Ok(())
}
