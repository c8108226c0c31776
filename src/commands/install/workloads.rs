//! Finds the workloads of the bundle and of the settings.

use std::collections::BTreeSet;
use std::fs::File;

use anyhow::{Context, Result};

use super::Node;
use crate::bundle::image;
use crate::bundle::workload::MAX_MANIFEST;
use crate::desired::Image;
use crate::spec::Refused;
use crate::spec::settings::WorkloadSettings;
use crate::spec::value::Sourced;
use crate::sys::read::bounded;
use crate::workloads::{self, Given, Images, Workload};

/// The workloads of a node, and their images.
#[derive(Default)]
pub struct Found {
    /// The workloads that a master applies.
    pub workloads: Vec<Workload>,
    /// The images that a node with pods loads in addition to the payload's images.
    pub images: Vec<Image>,
}

/// Finds the workloads of this node, and reports every problem before anything is written.
pub fn find(node: &Node<'_>) -> Result<Found, Refused> {
    let mut problems = Vec::new();
    let mut tarballs = Tarballs::default();
    for workload in &node.spec.addons.workloads {
        for path in &workload.images {
            if let Err(error) = tarballs.add(node, path) {
                problems.push(format!("{}: images: {path}: {error:#}", workload.origin));
            }
        }
    }
    let mut found = Found::default();
    if node.spec.role.is_worker() {
        found.images.clone_from(&tarballs.images);
    }
    if node.spec.role.is_master() {
        let prepared = given(node)
            .map_err(Refused::because)
            .and_then(|given| workloads::prepare(&given, node.spec, &known(node, &tarballs)));
        match prepared {
            Ok(workloads) => found.workloads = workloads,
            Err(refused) => problems.extend(refused.problems),
        }
    }
    if problems.is_empty() {
        Ok(found)
    } else {
        Err(Refused { problems })
    }
}

/// The images in the tarballs that the settings name.
#[derive(Default)]
struct Tarballs {
    images: Vec<Image>,
    /// Whether some tarballs are only on other nodes.
    some_elsewhere: bool,
}

impl Tarballs {
    fn add(&mut self, node: &Node<'_>, path: &str) -> Result<()> {
        let at = node.root.resolve(path)?;
        if !at.exists() && !node.spec.role.is_worker() {
            log::warn!(
                "{path} is not on this master, so it is not checked here for the images of the \
                 workloads; copy it to every node that runs pods"
            );
            self.some_elsewhere = true;
            return Ok(());
        }
        let tarball = File::open(&at)
            .context("this node runs pods and needs this file; copy it to this path")?;
        for (reference, id) in image::references(&tarball)? {
            self.images.push(Image {
                reference,
                id: format!("sha256:{id}"),
                tarball: path.to_owned(),
            });
        }
        Ok(())
    }
}

fn known(node: &Node<'_>, tarballs: &Tarballs) -> Images {
    let own = node.payload.manifest().images();
    let own = own.filter(|image| image.nodes.have(crate::spec::Role::Worker));
    let mut there: BTreeSet<String> = own.filter_map(|image| image.reference.clone()).collect();
    there.extend(tarballs.images.iter().map(|image| image.reference.clone()));
    Images {
        there,
        perhaps_more: tarballs.some_elsewhere,
    }
}

/// The bundle's workloads, then those of the settings. A workload of the settings replaces the
/// bundle's workload of the same name.
fn given(node: &Node<'_>) -> Result<Vec<Given>> {
    let own = &node.spec.addons.workloads;
    let bundle = node.payload.manifest();
    let mut given: Vec<Given> = Vec::new();
    for workload in &bundle.workloads {
        if own.iter().any(|other| other.name == workload.name) {
            continue;
        }
        given.push(Given {
            name: workload.name.clone(),
            place: format!("bundle {}: {}", bundle.bundle.name, workload.file),
            manifest: workload.manifest.clone(),
            after: workload.after.clone(),
        });
    }
    for workload in own {
        given.push(of_settings(node, workload)?);
    }
    Ok(given)
}

fn of_settings(node: &Node<'_>, workload: &Sourced<WorkloadSettings>) -> Result<Given> {
    let place = match &workload.file {
        Some(file) => format!("{}: {file}", workload.origin),
        None => format!("{}: manifest", workload.origin),
    };
    let manifest = match (&workload.manifest, &workload.file) {
        (Some(manifest), _) => manifest.clone(),
        (None, Some(file)) => {
            let text = bounded(&node.root.resolve(file)?, MAX_MANIFEST);
            let text = text.with_context(|| place.clone())?;
            let text = text.with_context(|| {
                format!("{place}: there is no such file; copy it there, or correct `file`")
            })?;
            String::from_utf8(text).with_context(|| place.clone())?
        }
        (None, None) => String::new(),
    };
    Ok(Given {
        name: workload.name.clone(),
        place,
        manifest,
        after: workload.after.clone(),
    })
}
