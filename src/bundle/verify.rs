//! Verifies the content of a payload against its own manifest, against a bundle's definition and
//! against its lock. Nothing in it is run.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::Serialize;

use super::definition::{Definition, Source};
use super::image::Layered;
use super::image::saved::Saved;
use super::lock;
use super::manifest::{Component, Kind, Manifest};
use super::payload::Payload;
use super::unpack;
use super::workload::Workload;
use crate::digest::Sha256;
use crate::sys::host::program_name;
use crate::sys::progress::Progress;
use crate::sys::scratch;
use crate::sys::stream::Hashing;

/// The result of a verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Audit {
    /// The payload's digest.
    pub digest: Sha256,
    /// The bundle's name.
    pub bundle: String,
    /// One entry for each component of the payload or of the definition.
    pub components: Vec<Finding>,
    /// The workloads that are wrong: one entry each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<Difference>,
}

/// A workload that differs from `bundle.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Difference {
    /// The workload's name.
    pub name: String,
    /// The problem with it.
    pub problem: String,
}

/// The result for one component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// The component's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it could be verified against.
    pub held_to: Measure,
    /// The problem with it; `None` if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What a component was verified against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// Only the payload's own manifest.
    Manifest,
    /// The manifest, and the entry of its upstream artifact in `bundle.lock`.
    Lock,
}

impl Audit {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        let mut components = self.components.iter();
        components.all(|finding| finding.problem.is_none()) && self.workloads.is_empty()
    }
}

/// Unpacks the payload into a temporary directory and verifies every file. A payload that cannot be
/// unpacked is an error; a difference from `definition` or its lock is a finding.
pub fn verify(
    payload: &Payload,
    definition: Option<&Definition>,
    progress: &dyn Progress,
) -> Result<Audit> {
    let dir = scratch::directory()?;
    unpack::unpack_files(payload, dir.path(), progress)?;
    let manifest = payload.manifest();
    let mut components = Vec::new();
    for component in &manifest.components {
        components.push(finding(component, dir.path(), definition)?);
    }
    components.extend(
        definition
            .into_iter()
            .flat_map(|definition| missing(manifest, definition)),
    );
    Ok(Audit {
        digest: payload.digest().clone(),
        bundle: manifest.bundle.name.clone(),
        components,
        workloads: definition
            .map(|definition| workloads(&manifest.workloads, &definition.workloads))
            .unwrap_or_default(),
    })
}

fn finding(component: &Component, dir: &Path, definition: Option<&Definition>) -> Result<Finding> {
    let source = definition.map(|d| {
        d.components
            .iter()
            .find(|source| source.name == component.name)
    });
    let mut held_to = Measure::Manifest;
    let problem = match own_problem(component, dir).with_context(|| component.path.clone())? {
        Some(problem) => Some(problem),
        None => match (source, definition) {
            (Some(Some(source)), Some(definition)) => {
                if source.upstream().is_some() {
                    held_to = Measure::Lock;
                }
                differs(component, source).or_else(|| unlike_lock(component, source, definition))
            }
            (Some(None), _) => Some("it is not in bundle.toml".to_owned()),
            _ => None,
        },
    };
    Ok(Finding {
        name: component.name.clone(),
        version: component.version.clone(),
        held_to,
        problem,
    })
}

/// Verifies the unpacked file against the manifest. Its parts were verified before, but together they
/// need not make up the file.
fn own_problem(component: &Component, dir: &Path) -> Result<Option<String>> {
    let path = dir.join(&component.path);
    let mut reader = Hashing::new(BufReader::with_capacity(256 * 1024, File::open(&path)?));
    io::copy(&mut reader, &mut io::sink())?;
    let (_, found) = reader.finish();
    if found != component.sha256 {
        return Ok(Some(format!(
            "its sha256 is {found}, but the manifest says {}",
            component.sha256
        )));
    }
    if component.kind != Kind::Image {
        return Ok(None);
    }
    let reference = component.reference.as_deref().unwrap_or_default();
    match image_id(&path, reference, dir) {
        Err(error) => Ok(Some(format!("{error:#}"))),
        Ok(id) if component.image_id != Some(format!("sha256:{id}")) => Ok(Some(format!(
            "its image ID is {id}, but the manifest has another one"
        ))),
        Ok(_) => Ok(None),
    }
}

/// The ID of the image in the tarball at `path`, whose layers were verified.
fn image_id(path: &Path, reference: &str, scratch: &Path) -> Result<Sha256> {
    let saved = Saved::open(File::open(path)?, scratch)?;
    let image = saved.named(reference, scratch)?;
    image.check()?;
    Ok(image.id().clone())
}

/// Compares the component's entry in the manifest with `bundle.toml`.
fn differs(component: &Component, source: &Source) -> Option<String> {
    let same = component.kind == source.kind
        && component.version == source.version
        && component.path == source.path
        && component.source == source.upstream().map(ToString::to_string)
        && component.member == source.part()
        && component.license == source.license
        && component.supplier == source.supplier
        && component.reference == source.reference
        && component.arguments == source.arguments
        && component.on_path == source.on_path
        && component.nodes == source.nodes;
    (!same).then(|| {
        format!(
            "bundle.toml has {} {} at {}, but the payload has {} {} at {}, or with other properties",
            source.name,
            source.version,
            source.path,
            component.name,
            component.version,
            component.path
        )
    })
}

fn unlike_lock(component: &Component, source: &Source, definition: &Definition) -> Option<String> {
    let upstream = source.upstream()?;
    let Some(artifact) = definition.lock.get(upstream) else {
        return Some(format!("bundle.lock has no entry for {upstream}"));
    };
    let image_id = component
        .image_id
        .as_deref()
        .and_then(|id| Sha256::from_prefixed(id).ok());
    let (found, expected) = lock::expectation(
        artifact,
        source.part().as_deref(),
        image_id.as_ref(),
        &component.sha256,
    );
    match expected {
        Some(expected) if expected == found => None,
        Some(expected) => Some(format!(
            "its sha256 is {found}, but bundle.lock has {expected}"
        )),
        None => Some(format!(
            "bundle.lock has no checksum of the content of {upstream}; run `{} bundle lock --bundle {}{}`, \
             and verify against that bundle",
            program_name(),
            definition.given,
            definition.output_for_lock()
        )),
    }
}

fn missing(manifest: &Manifest, definition: &Definition) -> Vec<Finding> {
    let absent = definition
        .components
        .iter()
        .filter(|source| manifest.component(&source.name).is_none());
    absent
        .map(|source| Finding {
            name: source.name.clone(),
            version: source.version.clone(),
            held_to: Measure::Manifest,
            problem: Some("it is not in the payload".to_owned()),
        })
        .collect()
}

/// Compares the payload's workloads with those of `bundle.toml`, also their order, in which they are
/// applied.
fn workloads(found: &[Workload], defined: &[Workload]) -> Vec<Difference> {
    let difference = |workload: &Workload, problem: &str| Difference {
        name: workload.name.clone(),
        problem: problem.to_owned(),
    };
    let mut differences = Vec::new();
    let mut in_both = Vec::new();
    for workload in defined {
        match found.iter().find(|other| other.name == workload.name) {
            None => differences.push(difference(workload, "it is not in the payload")),
            Some(other) if other != workload => {
                differences.push(difference(
                    workload,
                    "it differs from the one in bundle.toml",
                ));
            }
            Some(_) => in_both.push(workload),
        }
    }
    let foreign = found
        .iter()
        .filter(|workload| defined.iter().all(|other| other.name != workload.name));
    differences.extend(foreign.map(|w| difference(w, "it is not in bundle.toml")));
    let order = found.iter().filter(|workload| in_both.contains(workload));
    let moved = order.zip(&in_both).filter(|(one, other)| one != *other);
    let place = "its place in the order differs from bundle.toml";
    differences.extend(moved.map(|(w, _)| difference(w, place)));
    differences
}
