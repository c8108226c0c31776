//! Finds the workloads of the bundle and of the settings.

use std::collections::BTreeSet;
use std::fs::File;

use anyhow::{Context, Result};

use crate::bundle::image::reference::familiar;
use crate::bundle::image::saved::Saved;
use crate::bundle::manifest::Manifest;
use crate::bundle::workload::MAX_MANIFEST;
use crate::language::tr;
use crate::nodespec::settings::WorkloadSettings;
use crate::nodespec::value::Sourced;
use crate::nodespec::{NodeSpec, Refused, Role};
use crate::records::images::NodeImage;
use crate::sys::read::bounded;
use crate::sys::root::Root;
use crate::sys::scratch;
use crate::workloads::{self, Given, Images, Workload};

/// The sources of workloads.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The node's files.
    pub root: &'a Root,
    /// The manifest of the bundle.
    pub manifest: &'a Manifest,
    /// The specification of the node.
    pub spec: &'a NodeSpec,
}

/// The workloads of a node, and their images.
#[derive(Default)]
pub struct Found {
    /// The workloads that a master applies.
    pub workloads: Vec<Workload>,
    /// The images that a node with pods loads in addition to the payload's images.
    pub images: Vec<NodeImage>,
}

/// Finds the workloads of this node, and reports every problem before anything is written.
pub fn find(place: Place<'_>) -> Result<Found, Refused> {
    let mut problems = Vec::new();
    let mut tarballs = Tarballs::default();
    for workload in &place.spec.addons.workloads {
        for path in &workload.images {
            if let Err(error) = tarballs.add(place, path) {
                problems.push(tr!(
                    "{}: images: {path}: {error}",
                    workload.origin,
                    error = format_args!("{error:#}"),
                    path
                ));
            }
        }
    }
    let mut found = Found::default();
    if place.spec.role.is_worker() {
        found.images.clone_from(&tarballs.images);
    }
    if place.spec.role.is_master() {
        let prepared = given(place)
            .map_err(Refused::because)
            .and_then(|given| workloads::prepare(&given, place.spec, &known(place, &tarballs)));
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
    images: Vec<NodeImage>,
    /// Whether some tarballs are only on other nodes.
    some_elsewhere: bool,
}

impl Tarballs {
    fn add(&mut self, place: Place<'_>, path: &str) -> Result<()> {
        let at = place.root.resolve(path)?;
        if !at.exists() && !place.spec.role.is_worker() {
            log::warn!(
                "{}",
                tr!(
                    "{path} is not on this master, so it is not checked here for the images of the \
                 workloads; copy it to every node that runs pods",
                    path
                )
            );
            self.some_elsewhere = true;
            return Ok(());
        }
        let tarball = File::open(&at).context(tr!(
            "this node runs pods and needs this file; copy it to this path"
        ))?;
        let scratch = scratch::directory()?;
        for (reference, id) in Saved::open(tarball, scratch.path())?.references()? {
            self.images.push(NodeImage {
                reference,
                id: format!("sha256:{id}"),
                tarball: path.to_owned(),
            });
        }
        Ok(())
    }
}

fn known(place: Place<'_>, tarballs: &Tarballs) -> Images {
    let own = place.manifest.images();
    let own = own.filter(|image| image.nodes.have(Role::Worker));
    let mut there: BTreeSet<String> = own.filter_map(|image| image.reference.clone()).collect();
    for image in &tarballs.images {
        there.insert(image.reference.clone());
        // Docker knows the image by this name, too.
        there.insert(familiar(&image.reference).to_owned());
    }
    Images {
        there,
        perhaps_more: tarballs.some_elsewhere,
    }
}

/// The bundle's workloads, then those of the settings. A workload of the settings replaces the
/// bundle's workload of the same name.
fn given(place: Place<'_>) -> Result<Vec<Given>> {
    let own = &place.spec.addons.workloads;
    let bundle = place.manifest;
    let mut given: Vec<Given> = Vec::new();
    for workload in &bundle.workloads {
        if own.iter().any(|other| other.name == workload.name) {
            continue;
        }
        given.push(Given {
            name: workload.name.clone(),
            place: tr!("bundle {}: {}", bundle.bundle.name, workload.file),
            manifest: workload.manifest.clone(),
            after: workload.after.clone(),
        });
    }
    for workload in own {
        given.push(of_settings(place, workload)?);
    }
    Ok(given)
}

fn of_settings(at: Place<'_>, workload: &Sourced<WorkloadSettings>) -> Result<Given> {
    let place = match &workload.file {
        Some(file) => format!("{}: {file}", workload.origin),
        None => format!("{}: manifest", workload.origin),
    };
    let manifest = match (&workload.manifest, &workload.file) {
        (Some(manifest), _) => manifest.clone(),
        (None, Some(file)) => {
            let text = bounded(&at.root.resolve(file)?, MAX_MANIFEST);
            let text = text.with_context(|| place.clone())?;
            let text = text.with_context(|| {
                tr!(
                    "{place}: there is no such file; copy it there, or correct `file`",
                    place
                )
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
