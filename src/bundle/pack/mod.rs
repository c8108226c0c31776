//! Packs components into a payload. The same files give the same bytes.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

mod collect;
mod compress;
mod kept;

use self::collect::Collected;
pub use self::collect::{Places, is_in_directory};
use self::compress::{Effort, compress};

use super::definition::Definition;
use super::manifest::{Component, FORMAT, Manifest, Pack};
use super::payload;
use super::signature;
use crate::sys::atomic;
use crate::sys::progress::Progress;
use crate::sys::scratch;

/// The key that signs a payload.
#[derive(Clone, Debug)]
pub struct Signer {
    /// The file with the secret key.
    pub key: PathBuf,
    /// The file with the key's password, if it has one.
    pub password: Option<PathBuf>,
}

impl Signer {
    /// The signature of `data`, and of `comment`, in minisign's format.
    pub fn sign(&self, data: impl Read, comment: &str) -> Result<String> {
        signature::sign(&self.key, self.password.as_deref(), data, comment)
    }
}

/// Packs the components of `definition` into a payload, the file `output`, and replaces an existing
/// payload in one step. `begin` gets the number of bytes to pack, and shows the progress.
pub fn pack(
    definition: &Definition,
    places: Places<'_>,
    signer: Option<&Signer>,
    output: &Path,
    begin: impl FnOnce(u64) -> Box<dyn Progress>,
) -> Result<Manifest> {
    let parent = atomic::parent(output);
    atomic::create_directories(parent).with_context(|| parent.display().to_string())?;
    // Only a payload is ever replaced, never a file given by mistake.
    ensure!(
        !output.exists() || payload::is_payload(output)?,
        "{} exists and is not a payload; choose another output file",
        output.display()
    );
    let staging = scratch::directory_beside(output)?;
    let files = collect::collect(definition, places, staging.path())?;
    let progress = begin(collect::total(&files));
    let effort = match definition.bundle.demonstration {
        true => Effort::Little,
        false => Effort::Usual,
    };
    let packs = compress(
        &files,
        &definition.bundle.kubernetes,
        staging.path(),
        effort,
        places.cache,
        &*progress,
    )?;
    drop(progress);
    let manifest = manifest(definition, &files, packs);
    write(&manifest, signer, staging.path(), output)?;
    Ok(manifest)
}

fn manifest(definition: &Definition, files: &[Collected<'_>], packs: Vec<Pack>) -> Manifest {
    let mut components: Vec<Component> = files.iter().map(component).collect();
    components.sort_by(|a, b| a.path.cmp(&b.path));
    Manifest {
        format: FORMAT,
        bundle: definition.bundle.clone(),
        components,
        packs,
        workloads: definition.workloads.clone(),
    }
}

fn component(file: &Collected<'_>) -> Component {
    let source = file.source;
    Component {
        name: source.name.clone(),
        kind: source.kind,
        version: source.version.clone(),
        path: source.path.clone(),
        size: file.size,
        sha256: file.sha256.clone(),
        license: source.license.clone(),
        supplier: source.supplier.clone(),
        source: source.upstream().map(ToString::to_string),
        member: source.part(),
        source_digest: file.source_digest.clone(),
        reference: source.reference.clone(),
        image_id: file.image_id.as_ref().map(|id| format!("sha256:{id}")),
        arguments: source.arguments.clone(),
        on_path: source.on_path,
        nodes: source.nodes,
    }
}

fn write(
    manifest: &Manifest,
    signer: Option<&Signer>,
    staging: &Path,
    output: &Path,
) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(manifest)?;
    text.push(b'\n');
    let signature = signer
        .map(|signer| {
            let comment = format!("appliance bundle {}", manifest.bundle.name);
            signer.sign(text.as_slice(), &comment)
        })
        .transpose()?;
    let packs: Vec<(&str, PathBuf)> = manifest
        .packs
        .iter()
        .map(|pack| (pack.name.as_str(), staging.join(&pack.name)))
        .collect();
    let packs: Vec<(&str, &Path)> = packs
        .iter()
        .map(|(name, path)| (*name, path.as_path()))
        .collect();
    let unfinished = staging.join("payload");
    payload::write(
        File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&unfinished)?,
        &text,
        signature.as_deref(),
        &packs,
    )?;
    fs::rename(&unfinished, output)
        .with_context(|| format!("cannot move the payload to {}", output.display()))?;
    Ok(atomic::sync_directory(atomic::parent(output))?)
}
