//! What all images have: a configuration and layers. Writes any of them as a tarball for `docker load`.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::compression::{Compression, MAGIC};
use crate::bundle::archive::unpacked_limit;
use crate::bundle::tarball::append_file;
use crate::digest::Sha256;
use crate::sys::stream::{Bounded, Hashing, sha256_of};

/// The maximum size of a manifest or a configuration, in bytes.
pub const MAX_DOCUMENT: u64 = 4 * 1024 * 1024;
/// The table of contents of a tarball from `docker save`.
pub(super) const MANIFEST: &str = "manifest.json";

/// An image whose layers can be read.
pub trait Layered {
    /// Its configuration, which has the digests of its layers.
    fn config(&self) -> &Config;

    /// The tar of a layer, verified by its digest. The lowest layer has the number 0.
    fn layer(&self, number: usize) -> Result<File>;

    /// Verifies every layer.
    fn check(&self) -> Result<()> {
        let mut layers = 0..self.config().diff_ids.len();
        layers.try_for_each(|number| self.layer(number).map(drop))
    }
}

/// The configuration of an image for this platform.
#[derive(Clone, Debug)]
pub struct Config {
    /// Docker's identifier of the image: the digest of `text`.
    pub id: Sha256,
    /// The digests of the layers' tars, the lowest first.
    pub diff_ids: Vec<Sha256>,
    text: Vec<u8>,
}

/// The parts of a configuration that this program reads.
#[derive(Deserialize)]
struct Parsed {
    /// Docker takes a configuration that does not say it for one of its own platform.
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

impl Config {
    /// Reads a configuration. Refuses one that is for another platform, or that has not as many layers
    /// as `manifest`, the file `layers` are counted in.
    pub fn parse(text: Vec<u8>, layers: usize, manifest: &str) -> Result<Config> {
        let parsed: Parsed = serde_json::from_slice(&text).context("the image's configuration")?;
        let or = |said: &str, own: &str| match said {
            "" => own.to_owned(),
            said => said.to_owned(),
        };
        let (os, architecture) = (or(&parsed.os, "linux"), or(&parsed.architecture, "amd64"));
        let platform = format!("{os}/{architecture}");
        ensure!(
            platform == "linux/amd64",
            "the image is for {platform}, not for linux/amd64"
        );
        let diff_ids = parsed.rootfs.diff_ids;
        ensure!(
            diff_ids.len() == layers && layers > 0,
            "its configuration has {} layers, but its {manifest} has {layers}",
            diff_ids.len(),
        );
        let diff_ids = diff_ids.iter().map(|text| Sha256::from_prefixed(text));
        Ok(Config {
            id: Sha256::of(&text),
            diff_ids: diff_ids.collect::<Result<_>>()?,
            text,
        })
    }
}

/// An entry of the `manifest.json` of a tarball from `docker save`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ArchiveManifest {
    pub config: String,
    pub repo_tags: Option<Vec<String>>,
    pub layers: Vec<String>,
}

/// Writes the image as a tarball for `docker load`, with the tag `reference`. The same image gives the
/// same bytes, wherever it comes from.
pub fn write_archive(image: &dyn Layered, reference: &str, output: &mut File) -> Result<()> {
    let config = image.config();
    let mut archive = tar::Builder::new(output);
    let layer_path = |diff_id: &Sha256| format!("{diff_id}/layer.tar");
    let manifest = [ArchiveManifest {
        config: format!("{}.json", config.id),
        repo_tags: Some(vec![reference.to_owned()]),
        layers: config.diff_ids.iter().map(layer_path).collect(),
    }];
    let manifest = serde_json::to_vec(&manifest)?;
    append_file(&mut archive, MANIFEST, manifest.len() as u64, &*manifest)?;
    append_file(
        &mut archive,
        &format!("{}.json", config.id),
        config.text.len() as u64,
        &*config.text,
    )?;
    for (number, diff_id) in config.diff_ids.iter().enumerate() {
        // Empty layers are alike, and one image may have several.
        if config.diff_ids[..number].contains(diff_id) {
            continue;
        }
        let mut layer = image.layer(number)?;
        let size = layer.metadata()?.len();
        append_file(&mut archive, &layer_path(diff_id), size, &mut layer)?;
    }
    archive.into_inner()?.flush()?;
    Ok(())
}

/// The digest of the layer's tar out of `reader`, which has `size` bytes and may be compressed.
pub(super) fn digest(reader: impl Read, size: u64) -> Result<Sha256> {
    Ok(sha256_of(plain(reader, size)?)?)
}

/// The content of a file of `size` bytes that may be compressed, up to a limit.
fn plain<'a>(mut reader: impl Read + 'a, size: u64) -> Result<Bounded<Box<dyn Read + 'a>>> {
    let mut start = Vec::new();
    reader.by_ref().take(MAGIC as u64).read_to_end(&mut start)?;
    let compression = Compression::of(&start);
    let whole = BufReader::with_capacity(256 * 1024, io::Cursor::new(start).chain(reader));
    let plain = match compression {
        Some(compression) => compression.unpack(whole)?,
        None => Box::new(whole),
    };
    Ok(Bounded::new(plain, unpacked_limit(size)))
}

/// The layer's tar out of `reader`, which has `size` bytes and may be compressed, verified against its
/// digest. It becomes a temporary file in `dir`: its size is needed before its content.
pub(super) fn unpacked(reader: impl Read, size: u64, diff_id: &Sha256, dir: &Path) -> Result<File> {
    let mut plain = Hashing::new(plain(reader, size)?);
    let mut output = tempfile::tempfile_in(dir)?;
    io::copy(&mut plain, &mut output)?;
    let (_, found) = plain.finish();
    ensure!(
        found == *diff_id,
        "its content has the sha256 {found}, but the image's configuration says {diff_id}"
    );
    output.rewind()?;
    Ok(output)
}
