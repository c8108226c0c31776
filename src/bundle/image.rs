//! Images without docker: makes tarballs for `docker load` from the files of a registry, and verifies
//! images as docker does, by the digests of their configuration and layers.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};

use anyhow::{Context, Result, bail, ensure};
use flate2::read::MultiGzDecoder;
use oci_client::manifest::{OciDescriptor, OciImageManifest, OciManifest};
use ruzstd::decoding::StreamingDecoder;
use serde::{Deserialize, Serialize};

use super::archive::unpacked_limit;
use super::cache::Cache;
use super::tarball::append_file;
use crate::digest::Sha256;
use crate::sys::stream::{Bounded, Hashing};

/// The maximum size of a manifest or a configuration, in bytes.
pub const MAX_DOCUMENT: u64 = 4 * 1024 * 1024;
const MANIFEST: &str = "manifest.json";
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// An image whose parts are all in the cache.
#[derive(Clone, Debug)]
pub struct Image {
    /// Docker's identifier: the digest of the configuration.
    pub id: Sha256,
    /// The layers, the lowest first.
    pub layers: Vec<Layer>,
    /// Bytes of its manifest, configuration and layers as the registry serves them.
    pub size: u64,
    config: Vec<u8>,
}

/// One layer of an image.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The digest of the file in the registry, which may be compressed.
    pub blob: Sha256,
    /// The digest of the layer's tar.
    pub diff_id: Sha256,
}

/// The parts of an image's configuration that this program reads.
#[derive(Deserialize)]
struct Config {
    architecture: String,
    os: String,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// An entry of the `manifest.json` of a docker-archive.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ArchiveManifest {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
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
        "the registry has only a manifest of schema {}, which cannot be verified layer by layer; \
         pull the image with docker 1.10 or later, push it to a registry of your own, and use that \
         with `--mirror HOST=URL`",
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
    Ok((Sha256::from_prefixed(&descriptor.digest)?, size))
}

impl Image {
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
        let parsed: Config =
            serde_json::from_slice(&config).context("the image's configuration")?;
        let platform = format!("{}/{}", parsed.os, parsed.architecture);
        ensure!(
            platform == "linux/amd64",
            "the image is for {platform}, not for linux/amd64"
        );
        let diff_ids = parsed.rootfs.diff_ids;
        ensure!(
            diff_ids.len() == manifest.layers.len() && !diff_ids.is_empty(),
            "its configuration has {} layers, but its manifest has {}",
            diff_ids.len(),
            manifest.layers.len()
        );
        let mut layers = Vec::new();
        for (descriptor, diff_id) in manifest.layers.iter().zip(&diff_ids) {
            let (blob, layer_size) = blob_of(descriptor)?;
            size += layer_size;
            let diff_id = Sha256::from_prefixed(diff_id)?;
            layers.push(Layer { blob, diff_id });
        }
        Ok(Image {
            id,
            layers,
            size,
            config,
        })
    }

    /// Writes the image as a tarball for `docker load`, with the tag `reference`. The same image
    /// gives the same bytes.
    pub fn write_archive(&self, cache: &Cache, reference: &str, output: &mut File) -> Result<()> {
        let mut archive = tar::Builder::new(output);
        let layer_path = |layer: &Layer| format!("{}/layer.tar", layer.diff_id);
        let manifest = [ArchiveManifest {
            config: format!("{}.json", self.id),
            repo_tags: Some(vec![reference.to_owned()]),
            layers: self.layers.iter().map(layer_path).collect(),
        }];
        let manifest = serde_json::to_vec(&manifest)?;
        append_file(&mut archive, MANIFEST, manifest.len() as u64, &*manifest)?;
        append_file(
            &mut archive,
            &format!("{}.json", self.id),
            self.config.len() as u64,
            &*self.config,
        )?;
        let mut written = Vec::new();
        for layer in &self.layers {
            // Empty layers are alike, and one image may have several.
            if written.contains(&&layer.diff_id) {
                continue;
            }
            let mut plain =
                unpacked(cache, layer).with_context(|| format!("layer {}", layer.blob))?;
            let size = plain.metadata()?.len();
            plain.rewind()?;
            append_file(&mut archive, &layer_path(layer), size, &mut plain)?;
            written.push(&layer.diff_id);
        }
        archive.into_inner()?.flush()?;
        Ok(())
    }
}

/// The layer's tar, verified against the digest in the configuration. It is unpacked to a temporary
/// file first: in the archive, its size comes before its content.
fn unpacked(cache: &Cache, layer: &Layer) -> Result<File> {
    let file = File::open(cache.path(&layer.blob))?;
    let limit = unpacked_limit(file.metadata()?.len());
    let mut reader = BufReader::new(file);
    let mut start = Vec::new();
    reader
        .by_ref()
        .take(ZSTD.len() as u64)
        .read_to_end(&mut start)?;
    reader.rewind()?;
    let plain: Box<dyn Read> = if start.starts_with(GZIP) {
        Box::new(MultiGzDecoder::new(reader))
    } else if start.starts_with(ZSTD) {
        Box::new(StreamingDecoder::new(reader)?)
    } else {
        Box::new(reader)
    };
    let mut plain = Hashing::new(Bounded::new(plain, limit));
    let mut output = tempfile::tempfile_in(cache.dir())?;
    io::copy(&mut plain, &mut output)?;
    let (_, found) = plain.finish();
    ensure!(
        found == layer.diff_id,
        "its content has the sha256 {found}, but the image's configuration says {}",
        layer.diff_id
    );
    Ok(output)
}

/// Reads a docker-archive to its end, checks that it holds only the image `reference` and that its
/// layers are those of its configuration, and returns the image ID.
pub fn check_archive(tarball: impl Read, reference: &str) -> Result<Sha256> {
    let mut contents = read_archive(tarball).context("it is not a tarball from `docker save`")?;
    let text = contents
        .documents
        .remove(MANIFEST)
        .context("it has no manifest.json, so it is not a tarball from `docker save`")?;
    let manifests: Vec<ArchiveManifest> = serde_json::from_slice(&text).context(MANIFEST)?;
    let [manifest] = manifests.as_slice() else {
        bail!(
            "it holds {} images instead of one; save each image to a file of its own",
            manifests.len()
        )
    };
    let tags = manifest.repo_tags.clone().unwrap_or_default();
    ensure!(
        tags.iter().any(|tag| tag == reference),
        "it is tagged {}, not {reference}; save it with `docker save {reference} -o FILE`",
        tags.join(", ")
    );
    let config = contents.documents.get(&manifest.config);
    let config = config.with_context(|| format!("it has no {}", manifest.config))?;
    let id = Sha256::of(config);
    let parsed: Config = serde_json::from_slice(config).with_context(|| manifest.config.clone())?;
    let platform = format!("{}/{}", parsed.os, parsed.architecture);
    ensure!(
        platform == "linux/amd64",
        "the image is for {platform}, not for linux/amd64"
    );
    ensure!(
        parsed.rootfs.diff_ids.len() == manifest.layers.len(),
        "its configuration has {} layers, but its {MANIFEST} has {}",
        parsed.rootfs.diff_ids.len(),
        manifest.layers.len()
    );
    for (path, diff_id) in manifest.layers.iter().zip(&parsed.rootfs.diff_ids) {
        let found = contents
            .digest(path)
            .with_context(|| format!("it has no {path}"))?;
        ensure!(
            *found == Sha256::from_prefixed(diff_id)?,
            "{path} has the sha256 {found}, but its configuration says {diff_id}"
        );
    }
    Ok(id)
}

/// The content of a docker-archive.
#[derive(Default)]
struct Contents {
    digests: BTreeMap<String, Sha256>,
    /// The contents of the files that may be JSON.
    documents: BTreeMap<String, Vec<u8>>,
    /// Layers that occur more than once: docker writes a link from one to the other.
    links: BTreeMap<String, String>,
}

impl Contents {
    fn digest(&self, path: &str) -> Option<&Sha256> {
        let path = self.links.get(path).map_or(path, String::as_str);
        self.digests.get(path)
    }
}

fn read_archive(tarball: impl Read) -> Result<Contents> {
    let mut contents = Contents::default();
    let mut archive = tar::Archive::new(tarball);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        if entry.header().entry_type().is_symlink() {
            let target = entry
                .link_name()?
                .context("it has a link without a target")?;
            let target = target
                .to_string_lossy()
                .trim_start_matches("../")
                .to_owned();
            contents.links.insert(name, target);
            continue;
        }
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let is_document = entry.size() <= MAX_DOCUMENT;
        let mut document = Vec::new();
        let mut reader = Hashing::new(&mut entry);
        if is_document {
            reader.read_to_end(&mut document)?;
        } else {
            io::copy(&mut reader, &mut io::sink())?;
        }
        let (_, sha256) = reader.finish();
        ensure!(
            contents.digests.insert(name.clone(), sha256).is_none(),
            "it has the file {name} twice"
        );
        if matches!(document.first(), Some(b'{' | b'[')) {
            contents.documents.insert(name, document);
        }
    }
    Ok(contents)
}

/// The references in a tarball from `docker save` or a similar program, each with its image ID. Reads
/// only the descriptions of the images, and not their layers.
pub fn references(tarball: &File) -> Result<Vec<(String, Sha256)>> {
    let mut start = Vec::new();
    tarball.take(ZSTD.len() as u64).read_to_end(&mut start)?;
    ensure!(
        !start.starts_with(GZIP) && !start.starts_with(ZSTD),
        "it is compressed; unpack it to a plain tar first, with `gunzip` or `unzstd`"
    );
    let manifest = document(tarball, MANIFEST)?;
    let manifests: Vec<ArchiveManifest> = serde_json::from_slice(&manifest).context(MANIFEST)?;
    let mut references = Vec::new();
    for manifest in manifests {
        let tags = manifest.repo_tags.unwrap_or_default();
        ensure!(
            !tags.is_empty(),
            "an image in it has no name; save it with `docker save NAME:TAG -o FILE`"
        );
        let id = Sha256::of(&document(tarball, &manifest.config)?);
        references.extend(tags.into_iter().map(|tag| (tag, id.clone())));
    }
    Ok(references)
}

/// The small file of that name in a tarball. The content of files before it is not read.
fn document(mut tarball: &File, name: &str) -> Result<Vec<u8>> {
    tarball.rewind()?;
    let mut archive = tar::Archive::new(tarball);
    for entry in archive.entries_with_seek()? {
        let entry = entry.context("it is not a tarball from `docker save`")?;
        if entry.path()?.to_str() != Some(name) {
            continue;
        }
        ensure!(
            entry.size() <= MAX_DOCUMENT,
            "its {name} is longer than {MAX_DOCUMENT} bytes"
        );
        let mut document = Vec::new();
        entry.take(MAX_DOCUMENT).read_to_end(&mut document)?;
        return Ok(document);
    }
    bail!("it has no {name}, so it is not a tarball from `docker save`")
}
