//! Keeps the images of this node in docker. An air-gapped node cannot pull them again.

use anyhow::{Result, bail};

use crate::apply::brought::note_image;
use crate::apply::records::note_loading;
use crate::clients::docker::Docker;
use crate::observe::{self, records};
use crate::records::images::NodeImage;
use crate::sys::lock::{Lock, Patience};
use crate::sys::process::Runner;
use crate::sys::root::Root;

/// Loads an image, and flushes it to the disk. What docker may have of it is not trusted: docker does not load again what
/// it believes to have.
///
/// # Errors
/// If it cannot be loaded or flushed: then the next run loads it again.
pub fn bring(root: &Root, runner: &dyn Runner, docker: &Docker, image: &NodeImage) -> Result<()> {
    let tarball = root.resolve(&image.tarball)?;
    note_image(root, &image.reference)?;
    note_loading(root, |loading| loading.insert(image.id.clone()))?;
    if docker.listed_id(runner, &image.reference)?.as_ref() == Some(&image.id) {
        docker.discard_image(runner, &image.reference)?;
    }
    docker.load(runner, &tarball)?;
    if root.is_live() {
        docker.flush(runner)?;
    }
    note_loading(root, |loading| loading.remove(&image.id))
}

/// Loads the images that docker has lost. Does nothing while docker does not run. Returns what it found, in words. It
/// takes the lock only if there is something to load: nobody has to wait for a look.
///
/// # Errors
/// If an image is missing and cannot be loaded. The other images are still loaded.
pub fn ensure(
    root: &Root,
    runner: &dyn Runner,
    docker: &Docker,
    patience: Patience,
) -> Result<String> {
    if !docker.is_running(runner) {
        let text = "docker does not run, so its images cannot be checked: systemctl status docker";
        return Ok(text.to_owned());
    }
    let look = || observe::images::missing(root, runner, docker, records::images(root)?);
    if !look()?.is_empty() {
        let _lock = Lock::take(root, patience)?;
        // A run that had the lock may have loaded them.
        load(root, runner, docker, &look()?)?;
    }
    Ok(format!(
        "docker has all {} images",
        records::images(root)?.len()
    ))
}

/// Loads these images.
fn load(root: &Root, runner: &dyn Runner, docker: &Docker, missing: &[NodeImage]) -> Result<()> {
    let mut lost = 0;
    for image in missing {
        log::warn!(
            "image {} is missing in docker; loading it from {}",
            image.reference,
            image.tarball
        );
        match bring(root, runner, docker, image) {
            Ok(()) => log::info!("loaded image {}", image.reference),
            Err(error) => {
                lost += 1;
                log::error!("cannot load image {}: {error:#}", image.reference);
            }
        }
    }
    if lost > 0 {
        bail!(
            "{lost} of {} missing images cannot be loaded; run `appliance install`, which unpacks the \
             bundle again",
            missing.len()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::RefCell;

    use super::*;
    use crate::sys::process::{Command, Output};

    /// A docker that has the image `abc`, and notes what it is asked.
    #[derive(Default)]
    struct Asked(RefCell<Vec<String>>);

    impl Runner for Asked {
        fn run(&self, command: &Command) -> Result<Output> {
            self.0.borrow_mut().push(command.to_string());
            Ok(Output {
                code: Some(0),
                stdout: "abc\n".to_owned(),
                stderr: String::new(),
            })
        }
    }

    #[test]
    fn an_image_whose_loading_was_cut_is_loaded_anew() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let (docker, asked) = (Docker::new("docker"), Asked::default());
        let id = || {
            let ids = observe::images::ids(&root, &asked, &docker, ["pause".to_owned()]);
            ids.unwrap().remove("pause")
        };
        assert_eq!(id().unwrap(), "abc");
        note_loading(&root, |loading| loading.insert("abc".to_owned())).unwrap();
        assert_eq!(id(), None);

        asked.0.borrow_mut().clear();
        let image = NodeImage {
            reference: "pause".to_owned(),
            id: "abc".to_owned(),
            tarball: "/pause.tar".to_owned(),
        };
        bring(&root, &asked, &docker, &image).unwrap();
        let tarball = dir.path().join("pause.tar");
        assert_eq!(
            *asked.0.borrow(),
            [
                "docker images --quiet --no-trunc pause".to_owned(),
                "docker rmi --force pause".to_owned(),
                format!("docker load --input {}", tarball.display()),
            ]
        );
        assert_eq!(id().unwrap(), "abc");
    }
}
