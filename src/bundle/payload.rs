//! The packed bundle: one ZIP file with uncompressed entries. It is either a separate file, or
//! appended to a program, which then is an appliance. One reader reads both. It ends with a [`Seal`], which
//! has the digests of everything before it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Take, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail, ensure};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::elf::Program;
use super::manifest::{FILE_NAME, Manifest};
use super::seal::{self, Seal};
use super::signature::TrustKey;
use crate::digest::Sha256;
use crate::language::{message, tr, translated};
use crate::nodespec::Refused;
use crate::sys::host::program_name;
use crate::sys::stream::Hashing;

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
const BUILDER: &str = message!(
    "this program carries no bundle; make an appliance with `appliance repack --bundle BUNDLE --file FILE` and \
     use that, or give a payload with `--payload FILE`"
);

/// Why a file is not used that ends with something else.
const NO_SEAL: &str = "it does not end as `appliance bundle pack` of this version ends a payload. If another \
                       version packed it, pack it again with this version";

/// That the file at `path` must not be used, and what to do.
fn damaged(path: &Path) -> String {
    let path = shown(path);
    format!(
        "{path} is damaged or cut off, or was changed; copy it to this machine again, and compare it with \
         `{} bundle verify {path} --sha256 HEX`",
        program_name()
    )
}

/// The name of the file at `path` for people: of the running program, its real name.
fn shown(path: &Path) -> String {
    let real = (path == Path::new(THIS_PROGRAM)).then(|| path.read_link().ok());
    real.flatten()
        .as_deref()
        .unwrap_or(path)
        .display()
        .to_string()
}

/// A packed bundle whose table of contents has been checked.
#[derive(Debug)]
pub struct Payload {
    container: Container,
    seal: Seal,
    manifest: Manifest,
    text: Vec<u8>,
    digest: Sha256,
    /// Set once every byte was found to be as it was packed.
    whole: OnceLock<()>,
}

impl Payload {
    /// The payload of the running program; `None` in the builder, which carries none.
    pub fn of_this_program() -> Result<Option<Payload>> {
        let program = this_program()?;
        Payload::of_program(&program).context("the payload of this program")
    }

    /// The payload at the end of the program at `path`; `None` if the program has none.
    pub fn of_program(path: &Path) -> Result<Option<Payload>> {
        let mut file = File::open(path).with_context(|| shown(path))?;
        let size = file.metadata()?.len();
        if let Some(seal) = Seal::read(&mut file, size)? {
            return Payload::at(path, seal, size).map(Some);
        }
        let end = Program::read(path).with_context(|| shown(path))?.end;
        let cut = format!("it has {size} bytes, but its program alone has {end}");
        ensure!(size >= end, "{}: {cut}", damaged(path));
        ensure!(size == end, "{}: {NO_SEAL}", damaged(path));
        Ok(None)
    }

    /// The payload in the file at `path`: a payload alone, or an appliance.
    pub fn open(path: &Path) -> Result<Payload> {
        let mut start = Vec::new();
        let file = File::open(path).with_context(|| shown(path))?;
        let size = file.metadata()?.len();
        file.take(ZIP.len() as u64).read_to_end(&mut start)?;
        if start != ZIP && start != ELF {
            bail!(tr!(
                "{} is neither a payload nor an appliance; name another file, or copy it to this machine again",
                shown(path)
            ))
        }
        if start == ZIP {
            let seal = Seal::read(&mut File::open(path)?, size)?;
            let seal = seal.with_context(|| format!("{}: {NO_SEAL}", damaged(path)))?;
            return Payload::at(path, seal, size);
        }
        let payload = Payload::of_program(path)?;
        payload.with_context(|| {
            let path = shown(path);
            format!("{path} is the builder, which has no payload; add one with `appliance repack`")
        })
    }

    /// The payload in the file `given`, or the payload of this program. A program without one is refused.
    /// Only its table of contents was checked: call [`Payload::refuse_changed`] before it is used.
    pub fn to_install(given: Option<&Path>) -> Result<Payload> {
        let find = || -> Result<Payload> {
            let payload = match given {
                Some(path) => Some(Payload::open(path)?),
                None => Payload::of_this_program()?,
            };
            payload.ok_or_else(|| anyhow!(translated(BUILDER)))
        };
        Ok(find().map_err(Refused::because)?)
    }

    /// As [`Payload::check_whole`], and a difference is a refusal: nothing was written yet.
    pub fn refuse_changed(&self) -> Result<(), Refused> {
        self.check_whole().map_err(Refused::because)
    }

    /// Reads every byte of the payload and of the program before it, and compares them with the digests
    /// that were recorded when they were packed. The second call does nothing.
    ///
    /// # Errors
    /// If one differs. The error names the file and what to do.
    pub fn check_whole(&self) -> Result<()> {
        if self.whole.get().is_some() {
            return Ok(());
        }
        let Container { path, start, .. } = &self.container;
        let mut file = File::open(path).with_context(|| shown(path))?;
        let end = self.container.end;
        let compare = |what: &str, found: Sha256, recorded: &Sha256| {
            ensure!(
                found == *recorded,
                "{}: the sha256 of {what} is {found}, but {recorded} was recorded when it was packed",
                damaged(path)
            );
            Ok(())
        };
        let program = seal::digest_of(&mut file, 0, *start)?;
        compare("its program", program, &self.seal.program)?;
        let payload = seal::digest_of(&mut file, *start, end)?;
        compare("its payload", payload, &self.seal.payload)?;
        self.whole.get_or_init(|| ());
        Ok(())
    }

    /// Refuses a payload that one of the keys did not sign, each a key or a file with it.
    pub fn check_signatures(&self, keys: &[&str]) -> Result<(), Refused> {
        for key in keys {
            let key = TrustKey::find(key).map_err(Refused::because)?;
            self.check_signature(&key).map_err(Refused::because)?;
        }
        Ok(())
    }

    /// The payload in the file at `path`, which has `size` bytes and ends with `seal`.
    fn at(path: &Path, seal: Seal, size: u64) -> Result<Payload> {
        let end = size - seal::LENGTH;
        let read = || -> Result<(Container, Vec<u8>, Sha256)> {
            let start = seal.program_size;
            ensure!(
                start == 0 || Program::read(path)?.end == start,
                "its payload does not begin where its program ends"
            );
            let container = Container::open(path, start, end)?;
            let text = container.read_small(FILE_NAME)?;
            let digest = Sha256::of(&text);
            ensure!(
                digest == seal.manifest,
                "the sha256 of its {FILE_NAME} is {digest}, but {} was recorded when it was packed",
                seal.manifest
            );
            Ok((container, text, digest))
        };
        let (container, text, digest) = read().with_context(|| damaged(path))?;
        let manifest = Manifest::parse(&text).with_context(|| shown(path))?;
        Ok(Payload {
            container,
            seal,
            manifest,
            text,
            digest,
            whole: OnceLock::new(),
        })
    }

    /// The file that it is in.
    pub fn file(&self) -> &Path {
        &self.container.path
    }

    /// Where in its file the payload begins: the size of the program before it.
    pub fn start(&self) -> u64 {
        self.container.start
    }

    /// The digests that were recorded when it was packed.
    pub fn seal(&self) -> &Seal {
        &self.seal
    }

    /// Appends it, without its seal, to `output`.
    ///
    /// # Errors
    /// If it is not as it was packed.
    pub fn copy_to(&self, output: &mut impl Write) -> Result<()> {
        let Container {
            path, start, end, ..
        } = &self.container;
        let mut file = File::open(path).with_context(|| shown(path))?;
        file.seek(SeekFrom::Start(*start))?;
        let mut bytes = Hashing::new(file.take(end - start));
        std::io::copy(&mut bytes, output)?;
        let (_, found) = bytes.finish();
        ensure!(
            found == self.seal.payload,
            "{}: the sha256 of its payload is {found}, but {} was recorded when it was packed",
            damaged(path),
            self.seal.payload
        );
        Ok(())
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
    /// Where its seal begins.
    end: u64,
    entries: BTreeMap<String, Entry>,
}

/// Where an entry's bytes are in the file.
#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: u64,
    size: u64,
}

impl Container {
    fn open(path: &Path, start: u64, end: u64) -> Result<Container> {
        let mut archive = ZipArchive::new(File::open(path)?)?;
        ensure!(
            archive.offset() == start,
            "its payload does not begin where its program ends"
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
            end,
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

/// Writes a payload to `output`, which can also be read: the manifest, its signature if there is one, the
/// packs, from their files, and the seal. The same input gives the same bytes.
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
    // The seal's place.
    archive.set_raw_comment(vec![b' '; seal::LENGTH as usize].into())?;
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
    let mut file = archive.finish()?;
    let end = file.metadata()?.len() - seal::LENGTH;
    let payload = seal::digest_of(&mut file, 0, end)?;
    Seal::new(Sha256::of(manifest), payload).write(&mut file)?;
    Ok(file.sync_all()?)
}
