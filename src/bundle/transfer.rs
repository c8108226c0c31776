//! Carries a cache over the air gap: exports files to one tar, and imports and verifies them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::cache::{BLOBS, Cache};
use super::definition::Definition;
use super::image::{self, Image, MAX_DOCUMENT};
use super::tarball::append_file;
use super::upstream::Upstream;
use crate::digest::Sha256;
use crate::sys::atomic;
use crate::sys::progress::Progress;
use crate::sys::stream::{Counting, Hashing};

/// The start of the names of unfinished imports.
const STAGING: &str = ".import-";

/// The files of the cache that `definition` needs; without one, all of them. Fails if an artifact of
/// the bundle is missing.
pub fn contents(cache: &Cache, definition: Option<&Definition>) -> Result<Vec<Sha256>> {
    let Some(definition) = definition else {
        return cache.blobs();
    };
    let mut needed = BTreeSet::new();
    for upstream in definition.upstreams() {
        let known = definition
            .lock
            .get(upstream)
            .and_then(|artifact| artifact.sha256.known());
        let sha256 = known
            .filter(|sha256| cache.contains(sha256))
            .with_context(|| {
                format!("the cache has no {upstream}; run `appliance bundle fetch --bundle BUNDLE`")
            })?;
        if let Upstream::Image(_) = upstream {
            image_blobs(cache, sha256, &mut needed).with_context(|| upstream.to_string())?;
        }
        needed.insert(sha256.clone());
    }
    Ok(needed.into_iter().collect())
}

fn image_blobs(cache: &Cache, manifest: &Sha256, needed: &mut BTreeSet<Sha256>) -> Result<()> {
    let parsed = image::parse_manifest(&cache.read_small(manifest, MAX_DOCUMENT)?)?;
    needed.extend(image::for_this_platform(&parsed)?);
    let image = Image::read(cache, manifest)?;
    needed.insert(image.id);
    needed.extend(image.layers.into_iter().map(|layer| layer.blob));
    Ok(())
}

/// Bytes of those files.
pub fn size(cache: &Cache, blobs: &[Sha256]) -> u64 {
    let size =
        |sha256: &Sha256| fs::metadata(cache.path(sha256)).map_or(0, |metadata| metadata.len());
    blobs.iter().map(size).sum()
}

/// Writes the archive of [`export`] to the file at `path`, as a whole or not at all.
pub fn export_to(
    path: &Path,
    cache: &Cache,
    blobs: &[Sha256],
    progress: &dyn Progress,
) -> Result<()> {
    atomic::replace(path, 0o644, |file| export(cache, blobs, file, progress))
}

/// Writes those files of the cache to `output`, as a reproducible tar. Fails if the digest of a file
/// is not its name.
pub fn export(
    cache: &Cache,
    blobs: &[Sha256],
    output: impl Write,
    progress: &dyn Progress,
) -> Result<()> {
    let mut archive = tar::Builder::new(BufWriter::with_capacity(1024 * 1024, output));
    for sha256 in blobs {
        let file =
            File::open(cache.path(sha256)).with_context(|| format!("the cache has no {sha256}"))?;
        let size = file.metadata()?.len();
        let advance = |bytes| progress.advance(bytes);
        let mut reader = Hashing::new(Counting::new(file, &advance));
        append_file(
            &mut archive,
            &format!("{BLOBS}/{sha256}"),
            size,
            &mut reader,
        )?;
        let (_, found) = reader.finish();
        ensure!(
            found == *sha256,
            "the cache's file {sha256} is damaged: its sha256 is {found}; run `appliance bundle fetch` again"
        );
    }
    Ok(archive.into_inner()?.flush()?)
}

/// Reads a tar that [`export`] wrote, to its end, and then adds its files to the cache. If the digest
/// of a file is not its name, or if anything else is in the tar, nothing is added. Returns how many
/// files were new.
pub fn import(cache: &Cache, input: impl Read, progress: &dyn Progress) -> Result<usize> {
    remove_leftovers(cache)?;
    let staging = tempfile::Builder::new()
        .prefix(STAGING)
        .tempdir_in(cache.dir())?;
    let advance = |bytes| progress.advance(bytes);
    let mut archive = tar::Archive::new(Counting::new(input, &advance));
    let mut seen = BTreeSet::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let sha256: Sha256 = match name
            .strip_prefix(BLOBS)
            .and_then(|rest| rest.strip_prefix('/'))
        {
            Some(digest) if entry.header().entry_type().is_file() => {
                digest.parse().with_context(|| name.clone())?
            }
            _ => bail!(
                "it holds {name:?}, which `appliance bundle export` does not write; export it again"
            ),
        };
        let mut file = File::create(staging.path().join(sha256.as_str()))?;
        let mut reader = Hashing::new(&mut entry);
        io::copy(&mut reader, &mut file).with_context(|| name.clone())?;
        let (_, found) = reader.finish();
        ensure!(
            found == sha256,
            "{name} was damaged on the way: its sha256 is {found}; export it again"
        );
        file.sync_all()?;
        ensure!(
            seen.insert(sha256),
            "it holds {name} twice; export it again"
        );
    }
    ensure!(!seen.is_empty(), "it holds no files; export it again");
    let mut new = 0;
    for sha256 in seen {
        if !cache.contains(&sha256) {
            fs::rename(staging.path().join(sha256.as_str()), cache.path(&sha256))?;
            new += 1;
        }
    }
    File::open(cache.dir().join(BLOBS))?.sync_all()?;
    Ok(new)
}

fn remove_leftovers(cache: &Cache) -> Result<()> {
    for entry in fs::read_dir(cache.dir())? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(STAGING) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
