//! Images as docker before 1.10 saved them, without a `manifest.json`: a directory for each layer, with its
//! description and its parent, and the file `repositories` with the names.
//!
//! Such an image has no configuration with digests. It is made here of the descriptions, as docker does
//! when it loads the image ("image/v1/imagev1.go" of docker).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use super::layered::ArchiveManifest;
use crate::digest::Sha256;

/// The table of contents: names of images, their tags, and the ID of each tag's top layer.
pub(super) const REPOSITORIES: &str = "repositories";
/// The fields of a description that are no part of a configuration.
const OF_LAYER: [&str; 6] = ["id", "parent", "parent_id", "layer_id", "Size", "throwaway"];
/// Docker's limit of layers.
const MOST_LAYERS: usize = 127;

/// The images, and a configuration for each, which has the name that its image says. `document` reads a
/// file of the tarball, `diff_id` returns the digest of an unpacked layer.
pub(super) fn images(
    repositories: &[u8],
    document: &dyn Fn(&str) -> Result<Vec<u8>>,
    diff_id: &dyn Fn(&str) -> Result<Sha256>,
) -> Result<Vec<(ArchiveManifest, Vec<u8>)>> {
    let repositories: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_slice(repositories).context(REPOSITORIES)?;
    let mut names: BTreeMap<&String, Vec<String>> = BTreeMap::new();
    for (name, tags) in &repositories {
        for (tag, id) in tags {
            names.entry(id).or_default().push(format!("{name}:{tag}"));
        }
    }
    let mut digests: BTreeMap<String, Sha256> = BTreeMap::new();
    let mut images = Vec::new();
    for (top, tags) in names {
        let chain = chain(top, document)?;
        let mut diff_ids = Vec::new();
        for (id, _) in &chain {
            let layer = layer(id);
            if !digests.contains_key(&layer) {
                digests.insert(layer.clone(), diff_id(&layer)?);
            }
            diff_ids.push(format!("sha256:{}", digests[&layer]));
        }
        let config = config(&chain, &diff_ids)?;
        let manifest = ArchiveManifest {
            config: format!("{}.json", Sha256::of(&config)),
            repo_tags: Some(tags),
            layers: chain.iter().map(|(id, _)| layer(id)).collect(),
        };
        images.push((manifest, config));
    }
    Ok(images)
}

/// The IDs and descriptions of all layers of the image whose top layer is `top`, the lowest first.
fn chain(
    top: &str,
    document: &dyn Fn(&str) -> Result<Vec<u8>>,
) -> Result<Vec<(String, Map<String, Value>)>> {
    let (mut chain, mut seen) = (Vec::new(), BTreeSet::new());
    let mut next = Some(top.to_owned());
    while let Some(id) = next {
        let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        ensure!(is_id, "{id:?} is not the ID of a layer");
        ensure!(
            seen.insert(id.clone()) && chain.len() < MOST_LAYERS,
            "its layer {id} has itself as parent, or more than {MOST_LAYERS} parents"
        );
        let path = format!("{id}/json");
        let description = document(&path)?;
        let description: Map<String, Value> =
            serde_json::from_slice(&description).with_context(|| path.clone())?;
        let parent = description.get("parent").and_then(Value::as_str);
        next = parent
            .filter(|parent| !parent.is_empty())
            .map(str::to_owned);
        chain.push((id, description));
    }
    chain.reverse();
    Ok(chain)
}

fn config(chain: &[(String, Map<String, Value>)], diff_ids: &[String]) -> Result<Vec<u8>> {
    let (_, top) = chain.last().context("an image without layers")?;
    let mut config = top.clone();
    for field in OF_LAYER {
        config.remove(field);
    }
    let history = chain.iter().map(|(_, layer)| {
        let created = layer.get("created").cloned();
        json!({"created": created.unwrap_or(json!("0001-01-01T00:00:00Z"))})
    });
    let history: Vec<Value> = history.collect();
    config.insert("history".to_owned(), history.into());
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    config.insert("rootfs".to_owned(), rootfs);
    Ok(serde_json::to_vec(&config)?)
}

fn layer(id: &str) -> String {
    format!("{id}/layer.tar")
}
