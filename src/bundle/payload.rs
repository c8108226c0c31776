//! The packed bundle: one ZIP file with uncompressed entries. It is either a separate file, or
//! appended to a program, which then is an appliance. One reader reads both.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Take, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::elf::Program;
use super::manifest::{FILE_NAME, Manifest};
use super::signature::TrustKey;
use crate::digest::Sha256;
use crate::nodespec::Refused;

/// The entry with the signature of the manifest, with the name that minisign gives such files.
pub const SIGNATURE: &str = "manifest.json.minisig";
/// How a ZIP file begins.
const ZIP: &[u8] = b"PK\x03\x04";
/// How a program begins.
const ELF: &[u8] = b"\x7fELF";
/// The maximum size of the manifest or its signature, in bytes.
const MAX_DOCUMENT: u64 = 16 * 1024 * 1024;
/// The running program, even if it was renamed or removed since it was started.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Why there is nothing to install, and what to do.
const BUILDER: &str = "this program carries no bundle; make an appliance with `appliance repack \
                       --bundle BUNDLE -o FILE` and use that, or give a payload with `--payload \
                       FILE`";

/// A packed bundle whose table of contents has been checked.
#[derive(Debug)]
pub struct Payload {
    container: Container,
    manifest: Manifest,
    text: Vec<u8>,
    digest: Sha256,
}

impl Payload {
    /// The payload of the running program; `None` in the builder, which carries none.
    pub fn of_this_program() -> Result<Option<Payload>> {
        let program = this_program()?;
        Payload::of_program(&program).context("the payload of this program")
    }

    /// The payload at the end of the program at `path`; `None` if the program has none.
    pub fn of_program(path: &Path) -> Result<Option<Payload>> {
        let end = Program::read(path)?.end;
        let size = std::fs::metadata(path)?.len();
        ensure!(
            size >= end,
            "the program is cut off: it has {size} bytes of {end}; copy it to this machine again"
        );
        if size == end {
            return Ok(None);
        }
        Payload::at(path, end).map(Some)
    }

    /// The payload in the file at `path`: a payload alone, or an appliance.
    pub fn open(path: &Path) -> Result<Payload> {
        let open = || {
            let mut start = Vec::new();
            let file = File::open(path)?;
            file.take(ZIP.len() as u64).read_to_end(&mut start)?;
            match start.as_slice() {
                ZIP => Payload::at(path, 0),
                ELF => Payload::of_program(path)?.context(
                    "this is the builder, which has no payload; add one with `appliance repack`",
                ),
                _ => bail!("it is neither a payload nor an appliance"),
            }
        };
        open().with_context(|| path.display().to_string())
    }

    /// The payload in the file `given`, or the payload of this program. A program without one is refused.
    pub fn to_install(given: Option<&Path>) -> Result<Payload> {
        let payload = match given {
            Some(path) => Some(Payload::open(path)?),
            None => Payload::of_this_program()?,
        };
        payload.ok_or_else(|| Refused::because(anyhow!(BUILDER)).into())
    }

    /// Refuses a payload that one of the keys did not sign, each a key or a file with it.
    pub fn check_signatures(&self, keys: &[&str]) -> Result<(), Refused> {
        for key in keys {
            let key = TrustKey::find(key).map_err(Refused::because)?;
            self.check_signature(&key).map_err(Refused::because)?;
        }
        Ok(())
    }

    fn at(path: &Path, start: u64) -> Result<Payload> {
        let container = Container::open(path, start)?;
        let text = container.read_small(FILE_NAME)?;
        let manifest = Manifest::parse(&text).context(FILE_NAME)?;
        Ok(Payload {
            container,
            manifest,
            digest: Sha256::of(&text),
            text,
        })
    }

    /// Where in its file the payload begins: the size of the program before it.
    pub fn start(&self) -> u64 {
        self.container.start
    }

    /// Its table of contents.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The table of contents as it was written.
    pub fn manifest_text(&self) -> &[u8] {
        &self.text
    }

    /// SHA-256 of the table of contents, which has the digest of every file: it identifies the bundle.
    pub fn digest(&self) -> &Sha256 {
        &self.digest
    }

    /// The compressed stream of that name. It is read from the file as needed, not into memory.
    pub fn pack(&self, name: &str) -> Result<Take<File>> {
        self.container.entry(name)
    }

    /// Refuses a payload that `key` did not sign. The signature covers the manifest, which has the
    /// digest of everything else.
    pub fn check_signature(&self, key: &TrustKey) -> Result<()> {
        ensure!(
            self.container.entries.contains_key(SIGNATURE),
            "the payload is not signed, but a signature of key {key} is required; pack it with \
             `--sign-key FILE`"
        );
        let signature =
            String::from_utf8(self.container.read_small(SIGNATURE)?).context(SIGNATURE)?;
        key.check(&self.text, &signature).with_context(|| {
            format!(
                "the payload is not signed by key {key}; use a payload that this key signed, or \
                 give the right key with `--trust-key`"
            )
        })
    }
}

/// Whether the file begins like a payload in a separate file.
pub fn is_payload(path: &Path) -> Result<bool> {
    if !path.is_file() {
        return Ok(false);
    }
    let mut start = Vec::new();
    let file = File::open(path).with_context(|| path.display().to_string())?;
    file.take(ZIP.len() as u64).read_to_end(&mut start)?;
    Ok(start == ZIP)
}

/// The file of the running program.
pub fn this_program() -> Result<PathBuf> {
    let path = PathBuf::from(THIS_PROGRAM);
    if path.exists() {
        return Ok(path);
    }
    // Without /proc, only the name by which it was started is known.
    let name = std::env::args_os().next().map(PathBuf::from);
    name.filter(|path| path.is_file())
        .context("cannot find the file of this program; run `mount -t proc proc /proc`")
}

/// A ZIP file, alone or at the end of another file.
#[derive(Debug)]
struct Container {
    path: PathBuf,
    start: u64,
    entries: BTreeMap<String, Entry>,
}

/// Where an entry's bytes are in the file.
#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: u64,
    size: u64,
}

impl Container {
    fn open(path: &Path, start: u64) -> Result<Container> {
        let mut archive = ZipArchive::new(File::open(path)?).context(
            "its payload is damaged or cut off; copy it to this machine again and compare its sha256",
        )?;
        ensure!(
            archive.offset() == start,
            "its payload does not begin where the program ends, so the file is damaged"
        );
        ensure!(
            !archive.has_duplicate_names(),
            "its payload has two entries with the same name"
        );
        let mut entries = BTreeMap::new();
        for index in 0..archive.len() {
            let file = archive.by_index(index)?;
            let name = file.name()?.into_owned();
            ensure!(
                file.compression() == CompressionMethod::Stored,
                "its entry {name} is compressed, which is not supported"
            );
            let offset = file
                .data_start()
                .context("an entry has no position in the file")?;
            let size = file.size();
            entries.insert(name, Entry { offset, size });
        }
        Ok(Container {
            path: path.to_owned(),
            start,
            entries,
        })
    }

    fn entry(&self, name: &str) -> Result<Take<File>> {
        let entry = self
            .entries
            .get(name)
            .with_context(|| format!("the payload has no {name}"))?;
        let mut file = File::open(&self.path).with_context(|| self.path.display().to_string())?;
        file.seek(SeekFrom::Start(entry.offset))?;
        Ok(file.take(entry.size))
    }

    fn read_small(&self, name: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.entry(name)?
            .take(MAX_DOCUMENT + 1)
            .read_to_end(&mut bytes)?;
        ensure!(
            bytes.len() as u64 <= MAX_DOCUMENT,
            "{name} is longer than {MAX_DOCUMENT} bytes"
        );
        Ok(bytes)
    }
}

/// Writes a payload: the manifest, its signature if there is one, and the packs, from their files.
/// The same input gives the same bytes.
pub fn write(
    output: File,
    manifest: &[u8],
    signature: Option<&str>,
    packs: &[(&str, &Path)],
) -> Result<()> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .large_file(true)
        .unix_permissions(0o644);
    let mut archive = ZipWriter::new(output);
    archive.start_file(FILE_NAME, options)?;
    archive.write_all(manifest)?;
    if let Some(signature) = signature {
        archive.start_file(SIGNATURE, options)?;
        archive.write_all(signature.as_bytes())?;
    }
    for (name, path) in packs {
        archive.start_file(*name, options)?;
        std::io::copy(&mut File::open(path)?, &mut archive)?;
    }
    archive.finish()?.sync_all()?;
    Ok(())
}
