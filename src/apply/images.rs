//! Keeps the images of this node in docker. An air-gapped node cannot pull them again.

use std::path::Path;
use std::sync::{Mutex, PoisonError, RwLock};

use anyhow::{Result, bail};

use crate::apply::brought::note_image;
use crate::apply::records::note_loading;
use crate::clients::docker::Docker;
use crate::observe::{self, records};
use crate::records::images::NodeImage;
use crate::sys::lock::{Lock, Patience};
use crate::sys::process::Runner;
use crate::sys::root::Root;

/// Loads images into docker, several at once if the caller has several threads.
pub struct Loader<'a> {
    root: &'a Root,
    runner: &'a (dyn Runner + Sync),
    docker: &'a Docker,
    /// All that are to be loaded.
    images: Vec<NodeImage>,
    /// Set once damaged images were removed: that comes before any is loaded.
    looked: Mutex<bool>,
    /// Loads share it. Who removes what docker cannot use has it alone.
    loading: RwLock<()>,
}

impl<'a> Loader<'a> {
    /// Loads `images`, one with each call of [`Loader::load`].
    pub fn new(
        root: &'a Root,
        runner: &'a (dyn Runner + Sync),
        docker: &'a Docker,
        images: Vec<NodeImage>,
    ) -> Loader<'a> {
        Loader {
            root,
            runner,
            docker,
            images,
            looked: Mutex::new(false),
            loading: RwLock::new(()),
        }
    }

    /// Loads one of the images, if docker does not have it, and flushes it to the disk.
    ///
    /// # Errors
    /// If it cannot be loaded, used or flushed: then the next run loads it again.
    pub fn load(&self, image: &NodeImage) -> Result<()> {
        self.look()?;
        match self.missing(vec![image.clone()])?.is_empty() {
            true => Ok(()),
            false => self.bring(image),
        }
    }

    /// The first call removes damaged images, before any is loaded; the others wait for that.
    fn look(&self) -> Result<()> {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if !*looked {
            self.discard_damaged(&self.missing(self.images.clone())?)?;
            *looked = true;
        }
        Ok(())
    }

    /// Removes what docker lists of these images, which it cannot use: docker does not load again what it believes to have.
    /// Images share layers, and a damaged layer stays as long as one of them has it.
    fn discard_damaged(&self, missing: &[NodeImage]) -> Result<()> {
        let (runner, docker) = (self.runner, self.docker);
        for image in missing {
            if docker.listed_id(runner, &image.reference)?.as_ref() == Some(&image.id) {
                note_loading(self.root, |loading| loading.insert(image.id.clone()))?;
                docker.discard_image(runner, &image.reference)?;
            }
        }
        Ok(())
    }

    fn missing(&self, images: Vec<NodeImage>) -> Result<Vec<NodeImage>> {
        observe::images::missing(self.root, self.runner, self.docker, images)
    }

    fn bring(&self, image: &NodeImage) -> Result<()> {
        let tarball = self.root.resolve(&image.tarball)?;
        note_image(self.root, &image.reference)?;
        note_loading(self.root, |loading| loading.insert(image.id.clone()))?;
        let shared = self.loading.read().unwrap_or_else(PoisonError::into_inner);
        let is_usable = self.loads(image, &tarball)?;
        drop(shared);
        if !is_usable {
            self.load_alone(image, &tarball)?;
        }
        if self.root.is_live() {
            self.docker.flush(self.runner)?;
        }
        note_loading(self.root, |loading| loading.remove(&image.id))
    }

    /// Loads an image. Returns whether docker can use it.
    fn loads(&self, image: &NodeImage, tarball: &Path) -> Result<bool> {
        self.docker.load(self.runner, tarball)?;
        self.is_usable(image)
    }

    fn is_usable(&self, image: &NodeImage) -> Result<bool> {
        let id = self.docker.image_id(self.runner, &image.reference)?;
        Ok(id.is_some())
    }

    /// Loads an image once more. Docker may have a damaged layer of it that no image in its list has: it only goes with the
    /// images that were loaded onto it. These are removed while no other is loaded; each of them is then loaded once more,
    /// too.
    fn load_alone(&self, image: &NodeImage, tarball: &Path) -> Result<()> {
        let _alone = self.loading.write().unwrap_or_else(PoisonError::into_inner);
        for other in &self.images {
            if !self.is_usable(other)? {
                self.docker.discard_image(self.runner, &other.reference)?;
            }
        }
        if !self.loads(image, tarball)? {
            bail!(
                "docker has loaded {0}, but cannot use it (`docker inspect {0}`): another image may have a damaged layer \
                 of it; remove that image (`docker images`, `docker rmi`), and run `appliance install`",
                image.reference
            );
        }
        Ok(())
    }
}

/// Loads the images that docker has lost. Does nothing while docker does not run. Returns what it found, in words. It
/// takes the lock only if there is something to load: nobody has to wait for a look.
///
/// # Errors
/// If an image is missing and cannot be loaded. The other images are still loaded.
pub fn ensure(
    root: &Root,
    runner: &(dyn Runner + Sync),
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
fn load(
    root: &Root,
    runner: &(dyn Runner + Sync),
    docker: &Docker,
    missing: &[NodeImage],
) -> Result<()> {
    let loader = Loader::new(root, runner, docker, missing.to_vec());
    loader.discard_damaged(missing)?;
    let mut lost = 0;
    for image in missing {
        log::warn!(
            "image {} is missing in docker; loading it from {}",
            image.reference,
            image.tarball
        );
        match loader.bring(image) {
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
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::sys::process::{Command, Output};

    /// A docker that lists the images `pause` and `dns` with the ID `abc`. It notes what it is asked.
    #[derive(Default)]
    struct Asked(Mutex<Vec<String>>);

    /// A docker with a damaged layer that no image in its list has. It goes with the image that was loaded onto it.
    #[derive(Default)]
    struct Damaged {
        asked: Asked,
        is_mended: AtomicBool,
    }

    impl Runner for Damaged {
        fn run(&self, command: &Command) -> Result<Output> {
            let told = self.asked.run(command)?;
            let text = command.to_string();
            if text.contains(" rmi ") {
                self.is_mended.store(true, Ordering::Relaxed);
            }
            let is_broken = text.contains(" inspect ") && !self.is_mended.load(Ordering::Relaxed);
            Ok(Output {
                code: Some(i32::from(is_broken)),
                ..told
            })
        }
    }

    impl Runner for Asked {
        fn run(&self, command: &Command) -> Result<Output> {
            self.0.lock().unwrap().push(command.to_string());
            Ok(Output {
                code: Some(0),
                stdout: "abc\n".to_owned(),
                stderr: String::new(),
            })
        }
    }

    impl Asked {
        /// The changes since the last call, without questions.
        fn changes(&self) -> Vec<String> {
            let all = std::mem::take(&mut *self.0.lock().unwrap()).into_iter();
            all.filter(|asked| asked.contains(" rmi ") || asked.contains(" load "))
                .collect()
        }
    }

    fn image(name: &str) -> NodeImage {
        NodeImage {
            reference: name.to_owned(),
            id: "abc".to_owned(),
            tarball: format!("/{name}.tar"),
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
        assert!(asked.changes().is_empty());

        note_loading(&root, |loading| loading.insert("abc".to_owned())).unwrap();
        assert_eq!(id(), None);
        load(&root, &asked, &docker, &[image("pause")]).unwrap();
        let load = format!(
            "docker load --input {}",
            dir.path().join("pause.tar").display()
        );
        assert_eq!(
            asked.changes(),
            ["docker rmi --force pause".to_owned(), load]
        );
        assert_eq!(id().unwrap(), "abc");
    }

    #[test]
    fn images_that_share_a_damaged_layer_are_all_removed_before_one_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let (docker, asked) = (Docker::new("docker"), Asked::default());
        let missing = [image("pause"), image("dns")];
        load(&root, &asked, &docker, &missing).unwrap();
        let changes = asked.changes();
        let kinds: Vec<&str> = changes
            .iter()
            .filter_map(|change| change.split(' ').nth(1))
            .collect();
        assert_eq!(kinds, ["rmi", "rmi", "load", "load"], "{changes:?}");
    }

    #[test]
    fn a_damaged_layer_of_no_image_goes_with_the_one_that_is_loaded_onto_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let (docker, damaged) = (Docker::new("docker"), Damaged::default());
        let loader = Loader::new(&root, &damaged, &docker, vec![image("pause")]);
        loader.bring(&image("pause")).unwrap();
        let changes = damaged.asked.changes();
        let kinds: Vec<&str> = changes
            .iter()
            .filter_map(|change| change.split(' ').nth(1))
            .collect();
        assert_eq!(kinds, ["load", "rmi", "load"], "{changes:?}");
    }
}
