//! Images of registries: their manifests, and those whose parts are all in the cache.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use oci_client::manifest::{OciDescriptor, OciImageManifest, OciManifest};
use serde::Deserialize;

use super::layered::{Config, Layered, MAX_DOCUMENT, unpacked};
use crate::bundle::archive::MAX_MEMBER;
use crate::bundle::cache::Cache;
use crate::bundle::lock::Artifact;
use crate::digest::{Digest, Sha256};

/// An image whose parts are all in the cache.
#[derive(Clone, Debug)]
pub struct Image {
    cache: Cache,
    config: Config,
    /// The digests of the layers' files, which may be compressed; the lowest first.
    layers: Vec<Sha256>,
    size: u64,
}

/// Reads a manifest as a registry serves it. Schema 1, which names no configuration, is refused.
pub fn parse_manifest(bytes: &[u8]) -> Result<OciManifest> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        schema_version: u32,
    }
    let version: Version = serde_json::from_slice(bytes).context("the image's manifest")?;
    ensure!(
        version.schema_version == 2,
        "the registry has only a manifest of schema {}, which names no configuration, so the image \
         cannot be verified; another source would do: a registry with a manifest of schema 2 (pull the \
         image with docker 1.10 or later and push it to your own registry, then give `--mirror \
         HOST=URL` or add it to `source` in bundle.toml), or a tarball from `docker save` in the \
         directory of `--components DIR`",
        version.schema_version
    );
    serde_json::from_slice(bytes).context("the image's manifest")
}

/// The digest of the manifest for this appliance's platform, out of a list of several.
pub fn for_this_platform(manifest: &OciManifest) -> Result<Option<Sha256>> {
    let OciManifest::ImageIndex(index) = manifest else {
        return Ok(None);
    };
    if let Some(digest) = oci_client::client::linux_amd64_resolver(&index.manifests) {
        return Sha256::from_prefixed(&digest).map(Some);
    }
    let platforms: Vec<String> = index
        .manifests
        .iter()
        .filter_map(|entry| entry.platform.as_ref())
        .map(|platform| format!("{}/{}", platform.os, platform.architecture))
        .collect();
    bail!(
        "the image is for {}, not for linux/amd64",
        platforms.join(", ")
    )
}

/// The descriptor's digest and size, checked for their form.
pub fn blob_of(descriptor: &OciDescriptor) -> Result<(Sha256, u64)> {
    ensure!(
        !descriptor.media_type.contains("foreign")
            && !descriptor.media_type.contains("nondistributable"),
        "layer {} is not distributed by registries",
        descriptor.digest
    );
    let size = u64::try_from(descriptor.size).context("the manifest has a negative size")?;
    ensure!(
        size <= MAX_MEMBER,
        "the manifest says that {} has {size} bytes, more than the limit of {MAX_MEMBER}",
        descriptor.digest
    );
    Ok((Sha256::from_prefixed(&descriptor.digest)?, size))
}

impl Image {
    /// The image of that entry of the lock, if all its parts are in the cache.
    pub fn find(cache: &Cache, artifact: &Artifact) -> Result<Option<(Sha256, Image)>> {
        let Some(manifest) = manifest_in(cache, artifact)? else {
            return Ok(None);
        };
        let Ok(image) = Image::read(cache, &manifest) else {
            return Ok(None);
        };
        let is_whole = image.layers.iter().all(|layer| cache.contains(layer));
        Ok(is_whole.then_some((manifest, image)))
    }

    /// The image whose manifest, or list of manifests, has that digest.
    pub fn read(cache: &Cache, manifest: &Sha256) -> Result<Image> {
        let mut text = cache.read_small(manifest, MAX_DOCUMENT)?;
        if let Some(digest) = for_this_platform(&parse_manifest(&text)?)? {
            text = cache.read_small(&digest, MAX_DOCUMENT)?;
        }
        match parse_manifest(&text)? {
            OciManifest::Image(manifest) => Image::of(cache, &manifest, text.len() as u64),
            OciManifest::ImageIndex(_) => {
                bail!("its list of manifests contains another list, which is not supported")
            }
        }
    }

    fn of(cache: &Cache, manifest: &OciImageManifest, mut size: u64) -> Result<Image> {
        let (id, config_size) = blob_of(&manifest.config)?;
        size += config_size;
        let config = cache.read_small(&id, MAX_DOCUMENT)?;
        let config = Config::parse(config, manifest.layers.len(), "manifest")?;
        let mut layers = Vec::new();
        for descriptor in &manifest.layers {
            let (blob, layer_size) = blob_of(descriptor)?;
            let found = fs::metadata(cache.path(&blob)).map(|found| found.len());
            ensure!(
                found.as_ref().is_ok_and(|found| *found == layer_size) || found.is_err(),
                "layer {blob} has not the {layer_size} bytes that the manifest says; fetch the image \
                 from another server"
            );
            size += layer_size;
            layers.push(blob);
        }
        Ok(Image {
            cache: cache.clone(),
            config,
            layers,
            size,
        })
    }

    /// Docker's identifier: the digest of the configuration.
    pub fn id(&self) -> &Sha256 {
        &self.config.id
    }

    /// Bytes of its manifest, configuration and layers as the registry serves them.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The digests of its configuration and of its layers' files.
    pub fn blobs(&self) -> impl Iterator<Item = &Sha256> {
        std::iter::once(&self.config.id).chain(&self.layers)
    }
}

impl Layered for Image {
    fn config(&self) -> &Config {
        &self.config
    }

    fn layer(&self, number: usize) -> Result<File> {
        let (blob, diff_id) = (&self.layers[number], &self.config.diff_ids[number]);
        let open = || {
            let file = File::open(self.cache.path(blob))?;
            let size = file.metadata()?.len();
            unpacked(file, size, diff_id, self.cache.dir())
        };
        open().with_context(|| format!("layer {blob}"))
    }
}

/// The digest of the image's manifest, if it is in the cache: that of the lock or, if the lock has only
/// the image ID, the one of a manifest with that configuration.
fn manifest_in(cache: &Cache, artifact: &Artifact) -> Result<Option<Sha256>> {
    if let Some(Digest::Sha256(sha256)) = artifact.digest()
        && cache.contains(&sha256)
    {
        return Ok(Some(sha256));
    }
    let Some(id) = artifact.image_id.as_ref().filter(|id| cache.contains(*id)) else {
        return Ok(None);
    };
    for blob in cache.blobs()? {
        let Digest::Sha256(sha256) = blob else {
            continue;
        };
        if is_small(&cache.path(&sha256))
            && Image::read(cache, &sha256).is_ok_and(|image| image.id() == id)
        {
            return Ok(Some(sha256));
        }
    }
    Ok(None)
}

fn is_small(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.len() <= MAX_DOCUMENT)
}
