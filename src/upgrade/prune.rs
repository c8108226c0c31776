//! Removes bundles that the node neither uses nor can go back to, and their images.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::Serialize;

use crate::apply::{Executor, leftovers};
use crate::bundle::manifest::{FILE_NAME, Manifest};
use crate::clients::docker::Docker;
use crate::language::tr;
use crate::observe::records;
use crate::observe::software::{docker_source, unpacked};
use crate::paths::BUNDLES;
use crate::plan::Plan;
use crate::records::run::PRUNE;
use crate::removal;
use crate::sys::lock::{Lock, Patience};
use crate::sys::process::Runner;
use crate::sys::root::Root;

/// A bundle that goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Old {
    /// Its digest, the name of its directory.
    pub digest: String,
    /// Its name; `null` if its manifest cannot be read.
    pub bundle: Option<String>,
    /// The bytes of its files.
    pub bytes: u64,
}

/// An image that goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct OldImage {
    /// Its name in docker; its identifier if another image has its name now.
    pub name: String,
}

/// What goes. Nothing is removed yet.
pub struct Prune {
    root: Root,
    runner: &'static (dyn Runner + Sync),
    docker: Docker,
    /// The bundles that go.
    pub bundles: Vec<Old>,
    /// The images that go.
    pub images: Vec<OldImage>,
    /// The digests of the bundles that stay.
    pub kept: Vec<String>,
}

impl Prune {
    /// Reads what can go. The bundle in use stays, and those of the last upgrade. Writes nothing.
    pub fn prepare(root: Root, runner: &'static (dyn Runner + Sync)) -> Result<Prune> {
        let state = records::state(&root)?.context(tr!("this machine is not a node"))?;
        let mut kept: BTreeSet<String> = [state.digest.clone()].into();
        if let Some(record) = records::upgrade(&root)? {
            kept.extend([record.from.digest, record.to.digest]);
        }
        let manifest = |digest: &str| manifest(&root, digest);
        let docker = Docker::of(docker_source(&root, manifest(&state.digest).as_ref())?);
        let (mut bundles, mut ids) = (Vec::new(), BTreeSet::new());
        let (stay, go): (Vec<String>, Vec<String>) = unpacked(&root)?
            .into_iter()
            .partition(|digest| kept.contains(digest));
        for digest in go {
            let old = manifest(&digest);
            ids.extend(old.iter().flat_map(images_of));
            bundles.push(Old {
                bundle: old.as_ref().map(|old| old.bundle.name.clone()),
                bytes: old.map_or(0, |old| old.unpacked_size()),
                digest,
            });
        }
        for kept in stay.iter().filter_map(|digest| manifest(digest)) {
            for (_, id) in images_of(&kept) {
                ids.retain(|(_, other)| *other != id);
            }
        }
        let is_there = root.is_live() && !ids.is_empty() && docker.is_running(runner);
        let mut images = BTreeSet::new();
        for (reference, id) in ids.into_iter().filter(|_| is_there) {
            let name = match docker.image_id(runner, &reference)? {
                Some(found) if found == id => Some(reference),
                _ => docker.image_id(runner, &id)?,
            };
            images.extend(name.map(|name| OldImage { name }));
        }
        Ok(Prune {
            root,
            runner,
            docker,
            bundles,
            images: images.into_iter().collect(),
            kept: stay,
        })
    }

    /// The steps, in order. Images come first: the manifest of a bundle names them.
    pub fn plan(&self) -> Plan {
        let images = self.images.iter().map(|image| image.name.clone());
        let images = images.map(removal::Step::RemoveImage);
        let bundles = self
            .bundles
            .iter()
            .map(|old| format!("{BUNDLES}/{}", old.digest));
        Plan::of_removal(
            images
                .chain(bundles.map(removal::Step::RemoveTree))
                .collect(),
        )
    }

    /// Removes them.
    pub fn run(&self, patience: Patience) -> Result<()> {
        let _lock = Lock::take(&self.root, patience)?;
        leftovers::remove(&self.root)?;
        // Another run may have upgraded the node since.
        let now = Prune::prepare(self.root.clone(), self.runner)?;
        Executor {
            root: &now.root,
            runner: now.runner,
            docker: &now.docker,
            unpack: &|_, _| Ok(()),
            install_program: &|_| Ok(()),
            command: Some(PRUNE),
            at_once: 1,
            watch: None,
        }
        .run(&now.plan())
    }
}

/// The manifest of an unpacked bundle; `None` if it cannot be read.
fn manifest(root: &Root, digest: &str) -> Option<Manifest> {
    let text = root
        .read(&format!("{BUNDLES}/{digest}/{FILE_NAME}"))
        .ok()??;
    Manifest::parse(&text).ok()
}

/// The references and identifiers of the images of a bundle.
fn images_of(manifest: &Manifest) -> Vec<(String, String)> {
    let images = manifest.named_images();
    images
        .filter_map(|(reference, image)| Some((reference.to_owned(), image.image_id.clone()?)))
        .collect()
}
