//! From the payload to files, in one pass: decompress, hash, write to a staging directory,
//! compare, sync; the directory gets its name only when everything in it is right.

use std::fs::{self, File, Permissions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use xz2::read::XzDecoder;
use xz2::stream::Stream;

use super::manifest::{Component, FILE_NAME, Kind, Manifest, Pack};
use super::payload::Payload;
use crate::sys::progress::Progress;
use crate::sys::stream::{Counting, Hashing};

/// The most memory the decoder may take, in bytes.
const MEMORY_LIMIT: u64 = 256 * 1024 * 1024;
/// How the directories of unfinished runs begin.
const STAGING: &str = ".unpacking-";
/// What to do about a payload that is not what was packed.
const DAMAGED: &str = "this appliance is damaged; copy it here again and compare its sha256";

/// Whether `bundles` has the payload unpacked, each file with its right size. Files are
/// written whole or not at all, so that a size is enough to find one cut by other hands.
pub fn is_complete(bundles: &Path, payload: &Payload) -> bool {
    let dir = bundles.join(payload.digest());
    let is_whole = |component: &Component| {
        fs::symlink_metadata(dir.join(&component.path))
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() == component.size)
    };
    dir.join(FILE_NAME).is_file() && payload.manifest().components.iter().all(is_whole)
}

/// Unpacks the payload into the directory `bundles`, below a name that is its digest, and
/// returns that directory. On any error nothing is left behind.
pub fn unpack(payload: &Payload, bundles: &Path, progress: &dyn Progress) -> Result<PathBuf> {
    remove_leftovers(bundles)?;
    let staging = tempfile::Builder::new()
        .prefix(STAGING)
        .tempdir_in(bundles)?;
    for pack in &payload.manifest().packs {
        unpack_pack(payload, pack, staging.path(), progress).with_context(|| pack.name.clone())?;
    }
    let manifest = staging.path().join(FILE_NAME);
    fs::write(&manifest, payload.manifest_text())?;
    File::open(&manifest)?.sync_all()?;
    fs::set_permissions(staging.path(), Permissions::from_mode(0o755))?;
    sync_directories(staging.path())?;
    publish(staging, bundles, payload.digest())
}

fn remove_leftovers(bundles: &Path) -> Result<()> {
    for entry in fs::read_dir(bundles)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(STAGING) {
            fs::remove_dir_all(entry.path()).with_context(|| entry.path().display().to_string())?;
        }
    }
    Ok(())
}

/// Gives the staged directory its name. A damaged one that has it is moved aside before and
/// removed after; where the new one cannot take its place, it goes back.
fn publish(staging: tempfile::TempDir, bundles: &Path, digest: &str) -> Result<PathBuf> {
    let target = bundles.join(digest);
    let aside = tempfile::Builder::new()
        .prefix(STAGING)
        .tempdir_in(bundles)?;
    let old = aside.path().join(digest);
    let replaces = target.exists();
    if replaces {
        fs::rename(&target, &old)?;
    }
    if let Err(error) = fs::rename(staging.path(), &target) {
        if replaces {
            fs::rename(&old, &target)?;
        }
        return Err(error)
            .with_context(|| format!("move the unpacked bundle to {}", target.display()));
    }
    // Its directory has moved away: there is nothing left to remove.
    drop(staging.keep());
    File::open(bundles)?.sync_all()?;
    Ok(target)
}

fn sync_directories(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_directories(&path)?;
        }
    }
    Ok(File::open(dir)?.sync_all()?)
}

fn unpack_pack(payload: &Payload, pack: &Pack, dir: &Path, progress: &dyn Progress) -> Result<()> {
    let stream = Stream::new_stream_decoder(MEMORY_LIMIT, 0)?;
    let mut compressed = Hashing::new(payload.pack(&pack.name)?);
    let decoder = XzDecoder::new_stream(BufReader::new(&mut compressed), stream);
    let mut archive = tar::Archive::new(Blaming(decoder));
    extract(payload.manifest(), pack, &mut archive, dir, progress)?;
    let mut decoder = archive.into_inner();
    // What follows the last entry is the archive's padding, and nothing else.
    let mut padding = Vec::new();
    decoder
        .by_ref()
        .take(1024 * 1024)
        .read_to_end(&mut padding)?;
    ensure!(
        padding.iter().all(|&byte| byte == 0),
        "more than was packed is in it; {DAMAGED}"
    );
    drop(decoder);
    io::copy(&mut compressed, &mut io::sink())?;
    let (size, sha256) = compressed.finish();
    ensure!(
        size == pack.size,
        "it has {size} bytes where {} were packed; {DAMAGED}",
        pack.size
    );
    ensure!(
        sha256 == pack.sha256,
        "its sha256 is {sha256}, not {}; {DAMAGED}",
        pack.sha256
    );
    Ok(())
}

/// Says of every byte that cannot be had that the appliance is damaged: whoever copies from
/// it cannot tell that from a disk that cannot be written to.
struct Blaming<R>(R);

impl<R: Read> Read for Blaming<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let blame = |error: io::Error| io::Error::new(error.kind(), format!("{error}; {DAMAGED}"));
        self.0.read(buffer).map_err(blame)
    }
}

fn extract(
    manifest: &Manifest,
    pack: &Pack,
    archive: &mut tar::Archive<impl Read>,
    dir: &Path,
    progress: &dyn Progress,
) -> Result<()> {
    let mut expected = pack.components.iter();
    for entry in archive.entries()? {
        let entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some(path) = expected.next() else {
            bail!("{name:?} was not packed; {DAMAGED}")
        };
        ensure!(
            *path == name,
            "{name:?} is where {path} was packed; {DAMAGED}"
        );
        ensure!(
            entry.header().entry_type().is_file(),
            "{path} is not a regular file; {DAMAGED}"
        );
        let component = manifest
            .components
            .iter()
            .find(|component| component.path == *path)
            .with_context(|| format!("{path} is not in {FILE_NAME}"))?;
        write_component(component, entry, dir, progress).with_context(|| path.clone())?;
    }
    match expected.next() {
        Some(path) => bail!("it ends before {path}; {DAMAGED}"),
        None => Ok(()),
    }
}

/// Writes one file under a temporary name, compares it, and only then gives it its own.
fn write_component(
    component: &Component,
    entry: impl Read,
    dir: &Path,
    progress: &dyn Progress,
) -> Result<()> {
    let target = dir.join(&component.path);
    let parent = target.parent().context("a path without a directory")?;
    fs::create_dir_all(parent)?;
    let temporary = parent.join(format!(".{}", component.name));
    let mode = if component.kind == Kind::Image {
        0o644
    } else {
        0o755
    };
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)?;
    let advance = |bytes| progress.advance(bytes);
    // One byte more than promised is enough to know that there are too many.
    let limited = entry.take(component.size.saturating_add(1));
    let mut reader = Hashing::new(Counting::new(limited, &advance));
    io::copy(&mut reader, &mut file)?;
    let (size, sha256) = reader.finish();
    ensure!(
        size == component.size,
        "it has {size} bytes where {} were packed; {DAMAGED}",
        component.size
    );
    ensure!(
        sha256 == component.sha256,
        "its sha256 is {sha256}, not {}; {DAMAGED}",
        component.sha256
    );
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()?;
    fs::rename(&temporary, &target)?;
    Ok(())
}
