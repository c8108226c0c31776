//! From a directory of components to a packed payload: the same files give the same bytes.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::thread::available_parallelism;

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use serde::Deserialize;
use xz2::stream::{Check, Filters, LzmaOptions, MtStreamBuilder};
use xz2::write::XzEncoder;

use super::definition::{Definition, Source};
use super::manifest::{Component, FILE_NAME, Kind, Manifest, Pack};
use super::payload::FORMAT;
use crate::sys::progress::Progress;
use crate::sys::stream::{Counting, Hashing};

/// How the directories of unfinished runs begin.
const STAGING: &str = ".payload-";
const PACK_NAME: &str = "pack-0.tar.xz";
/// liblzma's preset: what it spends on finding repeats.
const PRESET: u32 = 6;
/// How far back a repeat may lie, in bytes; unpacking takes this much memory.
const DICTIONARY: u32 = 64 * 1024 * 1024;
/// The most a docker-archive's table of contents may be, in bytes.
const MAX_IMAGE_MANIFEST: u64 = 1024 * 1024;
/// How an ELF file for x86-64 begins: magic, 64 bits, little endian; and its machine at byte 18.
const ELF_MAGIC: &[u8] = b"\x7fELF\x02\x01";
const ELF_MACHINE_X86_64: [u8; 2] = [62, 0];

/// Bytes of all components, as far as they lie there as files: what packing has to read.
pub fn total(definition: &Definition, components: &Path) -> u64 {
    let size = |source: &Source| fs::metadata(components.join(&source.file)).map_or(0, |m| m.len());
    definition.components.iter().map(size).sum()
}

/// Packs the components of `definition` found in the directory `components` into the
/// directory `output`, replacing a payload there in one step.
pub fn pack(
    definition: &Definition,
    components: &Path,
    output: &Path,
    progress: &dyn Progress,
) -> Result<Manifest> {
    ensure_all_there(definition, components)?;
    check_lock(definition, components)?;
    let parent = output
        .parent()
        .context("the output cannot be the root directory")?;
    fs::create_dir_all(parent)?;
    let staging = tempfile::Builder::new()
        .prefix(STAGING)
        .tempdir_in(parent)?;
    let (pack, packed) = write_pack(
        definition,
        components,
        &staging.path().join(PACK_NAME),
        progress,
    )?;
    let mut manifest = Manifest {
        format: FORMAT,
        bundle: definition.bundle.clone(),
        components: packed,
        packs: vec![pack],
    };
    manifest.components.sort_by(|a, b| a.path.cmp(&b.path));
    let mut text = serde_json::to_vec_pretty(&manifest)?;
    text.push(b'\n');
    fs::write(staging.path().join(FILE_NAME), text)?;
    replace(staging, parent, output)?;
    Ok(manifest)
}

/// Puts the staged payload in the place of `output`. The old one is moved aside before and
/// removed after, so that there is always one of the two.
fn replace(staging: tempfile::TempDir, parent: &Path, output: &Path) -> Result<()> {
    let aside = tempfile::Builder::new()
        .prefix(STAGING)
        .tempdir_in(parent)?;
    if output.exists() {
        // Only a payload is ever removed, never a directory given by mistake.
        ensure!(
            output.join(FILE_NAME).exists() || fs::read_dir(output)?.next().is_none(),
            "{} is there and is not a payload; choose another directory",
            output.display()
        );
        fs::rename(output, aside.path().join("old"))?;
    }
    fs::rename(staging.path(), output)
        .with_context(|| format!("move the payload to {}", output.display()))?;
    // Its directory has moved away: there is nothing left to remove.
    drop(staging.keep());
    Ok(())
}

/// The file a component is read from: itself, or the archive that has it.
fn origin(source: &Source, components: &Path) -> Option<String> {
    let bare = components
        .join(&source.file)
        .is_file()
        .then(|| source.file.clone());
    let archive = source
        .archive
        .clone()
        .filter(|archive| components.join(archive).is_file());
    bare.or(archive)
}

fn ensure_all_there(definition: &Definition, components: &Path) -> Result<()> {
    let missing: Vec<String> = definition
        .components
        .iter()
        .filter(|source| origin(source, components).is_none())
        .map(|source| match (&source.archive, &source.source) {
            (Some(archive), Some(url)) => format!("{} (or {archive}, from {url})", source.file),
            (None, Some(url)) => format!("{} (from {url})", source.file),
            (Some(archive), None) => format!("{} (or {archive})", source.file),
            (None, None) => source.file.clone(),
        })
        .collect();
    ensure!(
        missing.is_empty(),
        "{} lacks:\n  {}",
        components.display(),
        missing.join("\n  ")
    );
    Ok(())
}

/// Compares every file that is read with the lock, where that has an entry for it.
fn check_lock(definition: &Definition, components: &Path) -> Result<()> {
    let mut names: Vec<String> = definition
        .components
        .iter()
        .filter_map(|source| origin(source, components))
        .collect();
    names.sort();
    names.dedup();
    for (name, artifact) in names
        .iter()
        .filter_map(|name| Some((name, definition.lock.get(name)?)))
    {
        let mut reader = Hashing::new(open(&components.join(name))?);
        io::copy(&mut reader, &mut io::sink()).with_context(|| name.clone())?;
        let (_, found) = reader.finish();
        ensure!(
            found == artifact.sha256,
            "{name}: sha256 is {found}, but bundle.lock has {}; fetch it again from {}",
            artifact.sha256,
            artifact.url
        );
    }
    Ok(())
}

fn open(path: &Path) -> Result<BufReader<File>> {
    Ok(BufReader::new(
        File::open(path).with_context(|| path.display().to_string())?,
    ))
}

fn encoder(output: File) -> Result<XzEncoder<File>> {
    let mut options = LzmaOptions::new_preset(PRESET)?;
    options.dict_size(DICTIONARY);
    let mut filters = Filters::new();
    filters.x86().lzma2(&options);
    let threads = available_parallelism().map_or(1, |n| n.get() as u32);
    // The blocks' size is fixed, so that the number of cores does not change the bytes.
    let stream = MtStreamBuilder::new()
        .filters(filters)
        .check(Check::Sha256)
        .block_size(3 * u64::from(DICTIONARY))
        .threads(threads)
        .encoder()?;
    Ok(XzEncoder::new_stream(output, stream))
}

fn write_pack(
    definition: &Definition,
    components: &Path,
    path: &Path,
    progress: &dyn Progress,
) -> Result<(Pack, Vec<Component>)> {
    let mut sources: Vec<&Source> = definition.components.iter().collect();
    // What is alike stands together: programs, then plugins, then images.
    sources.sort_by_key(|source| (source.kind != Kind::Program, &source.path));
    let file = File::create_new(path)?;
    let mut archive = tar::Builder::new(encoder(file.try_clone()?)?);
    let mut packed = Vec::new();
    for source in sources {
        let component = append(source, components, &mut archive, progress)
            .with_context(|| format!("component {}", source.name))?;
        packed.push(component);
    }
    archive.into_inner()?.finish()?.flush()?;
    let mut reader = Hashing::new(open(path)?);
    io::copy(&mut reader, &mut io::sink())?;
    let (size, sha256) = reader.finish();
    let components = packed
        .iter()
        .map(|component| component.path.clone())
        .collect();
    Ok((
        Pack {
            name: PACK_NAME.to_owned(),
            size,
            sha256,
            components,
        },
        packed,
    ))
}

/// Appends one component to the archive, without times or owners.
fn append<W: Write>(
    source: &Source,
    components: &Path,
    archive: &mut tar::Builder<W>,
    progress: &dyn Progress,
) -> Result<Component> {
    let image_id = match source.kind {
        // An image is never a member of an archive: docker save makes one of it alone.
        Kind::Image => Some(image_id(source, open(&components.join(&source.file))?)?),
        Kind::Program | Kind::CniPlugin => None,
    };
    let mut entry = None;
    read_component(source, components, &mut |size, reader| {
        let advance = |bytes| progress.advance(bytes);
        let mut reader = Hashing::new(Counting::new(reader, &advance));
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(if source.kind == Kind::Image {
            0o644
        } else {
            0o755
        });
        header.set_entry_type(tar::EntryType::Regular);
        archive.append_data(&mut header, &source.path, &mut reader)?;
        let (read, sha256) = reader.finish();
        ensure!(read == size, "it changed while it was read");
        entry = Some((size, sha256));
        Ok(())
    })?;
    let (size, sha256) = entry.context("nothing was read")?;
    Ok(Component {
        name: source.name.clone(),
        kind: source.kind,
        version: source.version.clone(),
        path: source.path.clone(),
        size,
        sha256,
        reference: source.reference.clone(),
        image_id,
        arguments: source.arguments.clone(),
        on_path: source.on_path,
    })
}

type Take<'a> = dyn FnMut(u64, &mut dyn Read) -> Result<()> + 'a;

/// Hands the component's bytes and their number to `take`: from its own file, or out of
/// the upstream archive without unpacking that to disk.
fn read_component(source: &Source, components: &Path, take: &mut Take<'_>) -> Result<()> {
    let path = components.join(&source.file);
    if path.is_file() {
        let file = open(&path)?;
        let size = file.get_ref().metadata()?.len();
        return take_checked(source, size, file, take);
    }
    let (Some(archive), Some(member)) = (&source.archive, &source.member) else {
        bail!("{} is missing", path.display());
    };
    let mut archive_reader = tar::Archive::new(GzDecoder::new(open(&components.join(archive))?));
    for entry in archive_reader.entries().with_context(|| archive.clone())? {
        let entry = entry.with_context(|| archive.clone())?;
        let name = entry.path()?.to_string_lossy().into_owned();
        if name.trim_start_matches("./") == member && entry.header().entry_type().is_file() {
            return take_checked(source, entry.size(), entry, take);
        }
    }
    bail!("{archive} has no member {member}")
}

fn take_checked(
    source: &Source,
    size: u64,
    mut reader: impl Read,
    take: &mut Take<'_>,
) -> Result<()> {
    if source.kind == Kind::Image {
        return take(size, &mut reader);
    }
    let mut start = Vec::new();
    reader.by_ref().take(20).read_to_end(&mut start)?;
    let is_elf = start.starts_with(ELF_MAGIC) && start.get(18..20) == Some(&ELF_MACHINE_X86_64);
    ensure!(
        is_elf,
        "{} is not a program for x86-64 Linux (ELF)",
        source.file
    );
    take(size, &mut start.as_slice().chain(reader))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ImageManifest {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
}

/// The identifier docker will give the image, after a check that it is known by the
/// reference the bundle says.
fn image_id(source: &Source, tarball: impl Read) -> Result<String> {
    let reference = source
        .reference
        .as_deref()
        .context("an image needs a `reference`")?;
    let image = image_manifest(tarball)
        .with_context(|| format!("{} is not a tarball as docker save writes it", source.file))?;
    let tags = image.repo_tags.unwrap_or_default();
    ensure!(
        tags.iter().any(|tag| tag == reference),
        "{} is tagged {}, not {reference}; save it by that reference",
        source.file,
        tags.join(", ")
    );
    // Docker names the configuration by its digest: HEX.json, or blobs/sha256/HEX.
    let digest = image
        .config
        .trim_end_matches(".json")
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let is_digest = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
    ensure!(
        is_digest,
        "{}: its configuration {:?} is not named by a digest",
        source.file,
        image.config
    );
    Ok(format!("sha256:{digest}"))
}

fn image_manifest(tarball: impl Read) -> Result<ImageManifest> {
    let mut archive = tar::Archive::new(tarball);
    for entry in archive.entries()? {
        let entry = entry?;
        if entry.path()?.as_os_str() != "manifest.json" {
            continue;
        }
        let mut text = Vec::new();
        entry.take(MAX_IMAGE_MANIFEST).read_to_end(&mut text)?;
        let mut images: Vec<ImageManifest> =
            serde_json::from_slice(&text).context("manifest.json")?;
        ensure!(
            images.len() == 1,
            "it holds {} images, not one",
            images.len()
        );
        return images.pop().context("manifest.json");
    }
    bail!("it has no manifest.json")
}
