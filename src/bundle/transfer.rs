//! Carries a bundle and its downloads over the air gap: exports them to one tar, and imports and verifies
//! them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::archive::each_entry;
use super::cache::{self, Cache};
use super::definition::Definition;
use super::image::MAX_DOCUMENT;
use super::image::registry::{Image, for_this_platform, parse_manifest};
use super::lock::Artifact;
use super::names::is_file_name;
use super::tarball::append_file;
use super::upstream::Upstream;
use crate::digest::Digest;
use crate::sys::atomic;
use crate::sys::host::program_name;
use crate::sys::progress::Progress;
use crate::sys::stream::Counting;
use crate::sys::temporary;

/// The directory of the bundle's own files in the tar.
const BUNDLE: &str = "bundle/";

/// The files of the cache that `definition` needs; without one, all of them. Fails if an artifact of
/// the bundle is missing.
pub fn contents(cache: &Cache, definition: Option<&Definition>) -> Result<Vec<Digest>> {
    let Some(definition) = definition else {
        return cache.blobs();
    };
    let mut needed = BTreeSet::new();
    for upstream in definition.upstreams() {
        let artifact = definition.lock.get(upstream);
        let is_there = match (upstream, artifact) {
            (_, None) => false,
            (Upstream::Image(_), Some(artifact)) => {
                image_blobs(cache, artifact, &mut needed).with_context(|| upstream.to_string())?
            }
            (Upstream::File(_), Some(artifact)) => {
                let digest = artifact.digest().filter(|digest| cache.contains(digest));
                needed.extend(digest.clone());
                digest.is_some()
            }
        };
        ensure!(
            is_there,
            "the cache has no {upstream}; run `{} bundle fetch --bundle {}`",
            program_name(),
            definition.given
        );
    }
    Ok(needed.into_iter().collect())
}

/// Adds the files of the image of that entry, if the cache has them all. Returns whether it has.
fn image_blobs(cache: &Cache, artifact: &Artifact, needed: &mut BTreeSet<Digest>) -> Result<bool> {
    let Some((manifest, image)) = Image::find(cache, artifact)? else {
        return Ok(false);
    };
    let parsed = parse_manifest(&cache.read_small(&manifest, MAX_DOCUMENT)?)?;
    let platform = for_this_platform(&parsed)?;
    let blobs = platform.iter().chain(image.blobs());
    needed.extend(blobs.map(Digest::from));
    needed.insert(Digest::from(&manifest));
    Ok(true)
}

/// Bytes of those files.
pub fn size(cache: &Cache, blobs: &[Digest]) -> u64 {
    let size =
        |digest: &Digest| fs::metadata(cache.path(digest)).map_or(0, |metadata| metadata.len());
    blobs.iter().map(size).sum()
}

/// Writes those files of the cache, and the files of `definition`, to the file at `path`: as a
/// reproducible tar, as a whole or not at all. Fails if the digest of a file is not its name.
pub fn export(
    path: &Path,
    cache: &Cache,
    definition: Option<&Definition>,
    blobs: &[Digest],
    progress: &dyn Progress,
) -> Result<()> {
    atomic::replace(path, 0o644, |file| {
        let mut archive = tar::Builder::new(BufWriter::with_capacity(1024 * 1024, file));
        let files = definition.map(|definition| definition.files(&definition.lock));
        for (name, text) in files.transpose()?.into_iter().flatten() {
            let name = format!("{BUNDLE}{name}");
            append_file(&mut archive, &name, text.len() as u64, text.as_bytes())?;
        }
        for digest in blobs {
            append_blob(&mut archive, cache, digest, progress)?;
        }
        Ok(archive.into_inner()?.flush()?)
    })
}

fn append_blob<W: Write>(
    archive: &mut tar::Builder<W>,
    cache: &Cache,
    digest: &Digest,
    progress: &dyn Progress,
) -> Result<()> {
    let path = cache.path(digest);
    let open = || format!("the cache has no {digest}");
    let (size, found) = cache::hash(&path, digest).with_context(open)?;
    ensure!(
        found == *digest,
        "the cache's file {digest} is damaged: its digest is {found}; run `appliance bundle fetch` again"
    );
    let file = File::open(&path).with_context(open)?;
    let advance = |bytes| progress.advance(bytes);
    let reader = Counting::new(file, &advance);
    append_file(archive, &cache::blob_path(digest), size, reader)
}

/// The result of an import.
#[derive(Debug)]
pub struct Imported {
    /// How many files are new in the cache.
    pub new: usize,
    /// The bundle in the tar, if it has one.
    pub definition: Option<Definition>,
}

/// Reads a tar that [`export`] wrote, to its end, and then adds its files to the cache. If the digest
/// of a file is not its name, or if anything else is in the tar, nothing is added.
pub fn import(cache: &Cache, input: impl Read, progress: &dyn Progress) -> Result<Imported> {
    let staging = temporary::directory_in(cache.dir())?;
    let advance = |bytes| progress.advance(bytes);
    let mut seen = BTreeSet::new();
    each_entry(Counting::new(input, &advance), |entry| {
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let is_file = entry.header().entry_type().is_file();
        if let Some(file) = name.strip_prefix(BUNDLE).filter(|_| is_file) {
            return receive_definition(staging.path(), file, entry).with_context(|| name.clone());
        }
        ensure!(
            is_file && name.starts_with("blobs/"),
            "it holds {name:?}, which `appliance bundle export` does not write; export it again"
        );
        let digest = cache::digest_at(&name).with_context(|| name.clone())?;
        let path = staging.path().join(digest.digits());
        io::copy(entry, &mut File::create(&path)?).with_context(|| name.clone())?;
        let (_, found) = cache::hash(&path, &digest)?;
        ensure!(
            found == digest,
            "{name} was damaged on the way: its digest is {found}; export it again"
        );
        File::open(&path)?.sync_all()?;
        ensure!(
            seen.insert(digest),
            "it holds {name} twice; export it again"
        );
        Ok(())
    })?;
    ensure!(!seen.is_empty(), "it holds no files; export it again");
    let own = staging.path().join(BUNDLE);
    let definition = own.exists().then(|| Definition::read(&own)).transpose()?;
    let mut new = 0;
    for digest in seen {
        let target = cache.path(&digest);
        if !cache.contains(&digest) {
            fs::rename(staging.path().join(digest.digits()), &target)?;
            new += 1;
        }
        atomic::sync_directory(atomic::parent(&target))?;
    }
    Ok(Imported { new, definition })
}

/// Writes a file of the bundle's definition to the directory `staging`.
fn receive_definition(staging: &Path, name: &str, content: impl Read) -> Result<()> {
    ensure!(is_file_name(name), "{name:?} is not a file name");
    fs::create_dir_all(staging.join(BUNDLE))?;
    let mut file = File::create_new(staging.join(BUNDLE).join(name))?;
    let copied = io::copy(&mut content.take(MAX_DOCUMENT + 1), &mut file)?;
    ensure!(
        copied <= MAX_DOCUMENT,
        "it is longer than {MAX_DOCUMENT} bytes"
    );
    Ok(())
}
