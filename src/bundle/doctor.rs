//! Examines whether an appliance can be built from here: which artifacts are there, and which of their
//! sources answer. Downloads nothing and changes nothing.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::cache::Cache;
use super::definition::{Definition, Source};
use super::fetch::Probe;
use super::image::registry::Image;
use super::lock::Artifact;
use super::pack::is_in_directory;
use super::upstream::Upstream;
use crate::sys::host::program_name;
use crate::sys::parallel;

/// The result of an examination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Diagnosis {
    /// The bundle's name.
    pub bundle: String,
    /// Whether an appliance can be built from here.
    pub ready: bool,
    /// Bytes to download. An artifact whose size no source says is not counted.
    pub download: u64,
    /// Why no appliance can be built; `None` if it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// One entry for each artifact, and one for each component without a source.
    pub artifacts: Vec<Examined>,
}

/// One artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Examined {
    /// Its first source, or the name of a component without a source.
    pub artifact: String,
    /// What it can be verified against.
    pub checksum: Checksum,
    /// Its size in bytes, as bundle.lock or a source says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Where it is.
    pub place: Place,
    /// Its sources in the order in which they are tried; empty if it need not be downloaded.
    pub sources: Vec<Answer>,
}

/// What an artifact can be verified against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Checksum {
    /// A published SHA-256.
    Sha256,
    /// A published SHA-512.
    Sha512,
    /// The ID of the image.
    ImageId,
    /// The checksum of the first download.
    FirstUse,
    /// Nothing.
    Unknown,
}

/// Where an artifact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// In the directory of components.
    Components,
    /// In the cache.
    Cache,
    /// On a server.
    Server,
    /// No server that answers has it.
    Nowhere,
}

/// The answer of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Answer {
    /// The address that was asked.
    pub address: String,
    /// The size of the artifact in bytes, if the source says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Why it does not serve the artifact; `None` if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Examines every artifact of the bundle, several at once.
pub fn examine(
    definition: &Definition,
    components: Option<&Path>,
    cache: &Cache,
    probe: &Probe<'_>,
    jobs: usize,
) -> Diagnosis {
    let upstreams = definition.upstreams();
    let look = |upstream: &&Upstream| {
        let of = definition.components_of(upstream);
        let is_there = |one: &&Source| components.is_some_and(|dir| is_in_directory(dir, one));
        if of.iter().all(is_there) {
            return in_directory(definition, upstream);
        }
        artifact(definition, upstream, cache, probe)
    };
    let mut artifacts = parallel::map(&upstreams, jobs, look);
    artifacts.extend(without_source(definition, components));
    let problem = problem(definition, &artifacts);
    Diagnosis {
        bundle: definition.bundle.name.clone(),
        ready: problem.is_none(),
        download: artifacts
            .iter()
            .filter(|one| one.place == Place::Server)
            .filter_map(|one| one.size)
            .sum(),
        problem,
        artifacts,
    }
}

fn in_directory(definition: &Definition, upstream: &Upstream) -> Examined {
    Examined {
        artifact: upstream.to_string(),
        checksum: checksum(definition.lock.get(upstream)),
        size: None,
        place: Place::Components,
        sources: Vec::new(),
    }
}

fn artifact(
    definition: &Definition,
    upstream: &Upstream,
    cache: &Cache,
    probe: &Probe<'_>,
) -> Examined {
    let locked = definition.lock.get(upstream);
    let mut examined = Examined {
        artifact: upstream.to_string(),
        checksum: checksum(locked),
        size: locked.and_then(|artifact| artifact.size),
        place: Place::Cache,
        sources: Vec::new(),
    };
    if locked.is_some_and(|artifact| is_cached(cache, upstream, artifact)) {
        return examined;
    }
    for source in definition.sources_of(upstream) {
        let (address, size) = probe.ask(source, locked);
        let answer = match size {
            Ok(size) => Answer {
                address,
                size,
                problem: None,
            },
            Err(error) => Answer {
                address,
                size: None,
                problem: Some(format!("{error:#}")),
            },
        };
        examined.sources.push(answer);
    }
    let serving = examined.sources.iter().find(|one| one.problem.is_none());
    examined.size = examined.size.or(serving.and_then(|one| one.size));
    examined.place = serving.map_or(Place::Nowhere, |_| Place::Server);
    examined
}

fn is_cached(cache: &Cache, upstream: &Upstream, artifact: &Artifact) -> bool {
    match upstream {
        Upstream::Image(_) => Image::find(cache, artifact).is_ok_and(|found| found.is_some()),
        Upstream::File(_) => {
            let digest = artifact.digest();
            digest.is_some_and(|digest| cache.contains(&digest))
        }
    }
}

fn checksum(artifact: Option<&Artifact>) -> Checksum {
    match artifact {
        Some(artifact) if artifact.trusted_on_first_use => Checksum::FirstUse,
        Some(artifact) if artifact.sha512.is_some() => Checksum::Sha512,
        Some(artifact) if artifact.digest().is_some() => Checksum::Sha256,
        Some(artifact) if artifact.image_id.is_some() => Checksum::ImageId,
        _ => Checksum::Unknown,
    }
}

/// The components that can only come from a directory.
fn without_source(definition: &Definition, components: Option<&Path>) -> Vec<Examined> {
    let all = definition.components.iter();
    let local = all.filter(|component| component.upstream().is_none());
    local
        .map(|component| Examined {
            artifact: component.name.clone(),
            checksum: Checksum::Unknown,
            size: None,
            place: match components.is_some_and(|dir| is_in_directory(dir, component)) {
                true => Place::Components,
                false => Place::Nowhere,
            },
            sources: Vec::new(),
        })
        .collect()
}

fn problem(definition: &Definition, artifacts: &[Examined]) -> Option<String> {
    let missing = artifacts.iter().filter(|one| one.place == Place::Nowhere);
    let (from_servers, local): (Vec<_>, Vec<_>) = missing.partition(|one| !one.sources.is_empty());
    let unknown = artifacts
        .iter()
        .filter(|one| one.checksum == Checksum::Unknown && one.place == Place::Server);
    let unknown = unknown.count();
    if let Some(first) = from_servers.first() {
        let reason = first.sources.first().and_then(|one| one.problem.as_deref());
        let (count, all) = (from_servers.len(), artifacts.len());
        return Some(format!(
            "no source serves {count} of {all} artifacts, for example {} ({})",
            first.artifact,
            reason.unwrap_or("no answer")
        ));
    }
    if let Some(first) = local.first() {
        let (count, name) = (local.len(), &first.artifact);
        return Some(format!(
            "{count} components have no source, {name} for example; name the directory that has them \
             with `--components DIR`"
        ));
    }
    (unknown > 0).then(|| {
        let given = &definition.given;
        format!(
            "{unknown} artifacts have no checksum in bundle.lock; to accept what the servers send now, \
             run `{} bundle lock --bundle {given} --trust-on-first-use{}`",
            program_name(),
            definition.output_for_lock()
        )
    })
}
