//! Reads a backup, and refuses one that is not whole or not as [`super::write`](mod@super::write) writes it. Its
//! content is hostile until all of it was checked: who knows a recipient can encrypt anything for it.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};

use anyhow::{Context, Result, anyhow, bail, ensure};
use flate2::read::GzDecoder;
use tar::{Archive, Entry, EntryType};

use super::seal::Keys as Opening;
use crate::clients::etcd::keys::Keys;
use crate::clients::etcd::snapshot::Whole;
use crate::formats::BACKUP;
use crate::language::tr;
use crate::nodespec::Refused;
use crate::pki::Secret;
use crate::records::backup::{FORMAT, KEYS, MANIFEST, Manifest, Member, SNAPSHOT, path_of};
use crate::sys::stream::Hashing;

/// The most that a file of the master has, in bytes.
const MOST_OF_FILE: u64 = 16 * 1024 * 1024;
/// The most that all of them have.
const MOST_OF_FILES: u64 = 64 * 1024 * 1024;
/// The most that the keys of etcd's API v2 have as JSON.
const MOST_OF_KEYS: u64 = 512 * 1024 * 1024;
/// The most that etcd's snapshot has: twice what etcd is meant for.
const MOST_OF_SNAPSHOT: u64 = 16 * 1024 * 1024 * 1024;
/// The most that is behind the last member: an archive ends with blocks of zeros.
const MOST_OF_END: u64 = 64 * 1024;

/// What a backup has, without etcd's snapshot.
pub struct Contents {
    /// Its description.
    pub manifest: Manifest,
    /// The files of the master, by path.
    pub files: BTreeMap<String, Secret>,
    /// The keys of etcd's API v2.
    pub keys: Keys,
}

/// Takes etcd's snapshot: its size in bytes, and its content.
pub type Take<'a> = dyn FnMut(u64, &mut dyn Read) -> Result<()> + 'a;

/// A snapshot could not be taken: the backup may be good.
#[derive(Debug)]
struct NotTaken(anyhow::Error);

impl std::fmt::Display for NotTaken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl std::error::Error for NotTaken {}

/// Takes the snapshot to nowhere.
pub fn pass(_size: u64, content: &mut dyn Read) -> Result<()> {
    io::copy(content, &mut io::sink())?;
    Ok(())
}

/// Reads the backup in `input`, which one of `opening` opens. `take` gets etcd's snapshot, and must not use it before this
/// returns: only then is it known to be whole.
///
/// # Errors
/// [`Refused`] if it is damaged, or has anything else than a backup has. Any other error is one of `take`.
pub fn read(input: impl BufRead, opening: &Opening, take: &mut Take<'_>) -> Result<Contents> {
    let opened = opening.opening(input)?;
    match of_archive(opened, take) {
        Ok(contents) => Ok(contents),
        Err(error) if error.is::<NotTaken>() => Err(error),
        Err(error) => Err(Refused::because(
            error.context(tr!("the backup is damaged or incomplete; use another one")),
        )
        .into()),
    }
}

fn of_archive(opened: impl Read, take: &mut Take<'_>) -> Result<Contents> {
    let mut archive = Archive::new(GzDecoder::new(opened));
    let mut reading = Reading::default();
    // Raw: no extension makes a name or a size that is not in the header itself.
    for entry in archive.entries()?.raw(true) {
        reading.add(entry.context(tr!("cannot read an entry"))?, take)?;
    }
    let mut rest = archive.into_inner();
    let end = io::copy(&mut (&mut rest).take(MOST_OF_END), &mut io::sink())?;
    ensure!(end < MOST_OF_END, tr!("something follows the last entry"));
    // Reading to the end checks that nothing was cut off.
    let behind = rest.into_inner().read(&mut [0])?;
    ensure!(behind == 0, tr!("something follows the archive"));
    reading.contents()
}

#[derive(Default)]
struct Reading {
    found: BTreeMap<String, Member>,
    manifest: Option<Manifest>,
    files: BTreeMap<String, Secret>,
    bytes_of_files: u64,
    keys: Option<Keys>,
}

impl Reading {
    fn add<R: Read>(&mut self, mut entry: Entry<'_, R>, take: &mut Take<'_>) -> Result<()> {
        ensure!(
            entry.header().entry_type() == EntryType::Regular,
            tr!("it has something else than files")
        );
        let name = String::from_utf8(entry.path_bytes().into_owned());
        let name = name.context(tr!("a name is not UTF-8"))?;
        let (size, mode) = (entry.header().size()?, entry.header().mode()?);
        ensure!(
            self.manifest.is_none(),
            tr!(
                "{name} follows the manifest",
                name = format_args!("{name:?}")
            )
        );
        if name == MANIFEST {
            self.manifest = Some(manifest(&bounded(&mut entry, MOST_OF_FILE)?)?);
            return Ok(());
        }
        ensure!(
            !self.found.contains_key(&name),
            tr!("{name} is in it twice", name = format_args!("{name:?}"))
        );
        let mut content = Hashing::new(&mut entry);
        match name.as_str() {
            SNAPSHOT => snapshot(size, &mut content, take)?,
            KEYS => {
                let text = bounded(&mut content, MOST_OF_KEYS)?;
                let keys = serde_json::from_slice(&text);
                self.keys = Some(keys.map_err(|_| anyhow!(tr!("{KEYS} is not valid", KEYS)))?);
            }
            name => {
                let path = path_of(name);
                let path = path.with_context(|| {
                    tr!(
                        "{name} does not belong there",
                        name = format_args!("{name:?}")
                    )
                })?;
                let bytes = bounded(&mut content, MOST_OF_FILE)?;
                self.bytes_of_files += bytes.len() as u64;
                ensure!(
                    self.bytes_of_files <= MOST_OF_FILES,
                    tr!(
                        "its files have more than {MOST_OF_FILES} bytes",
                        MOST_OF_FILES
                    )
                );
                self.files.insert(path.to_owned(), Secret::new(bytes));
            }
        }
        let (read, sha256) = content.finish();
        ensure!(read == size, tr!("{name} is cut off", name));
        self.found.insert(name, Member { size, sha256, mode });
        Ok(())
    }

    fn contents(self) -> Result<Contents> {
        let manifest = self.manifest.context(tr!("it has no manifest"))?;
        for (name, member) in &manifest.members {
            let found = self.found.get(name);
            ensure!(
                found == Some(member),
                tr!("{name} is not as its manifest says", name)
            );
        }
        if let Some(other) = self
            .found
            .keys()
            .find(|name| !manifest.members.contains_key(*name))
        {
            bail!(tr!(
                "its manifest does not name {other}",
                other = format_args!("{other:?}")
            ));
        }
        ensure!(
            self.found.contains_key(SNAPSHOT),
            tr!("it has no {SNAPSHOT}", SNAPSHOT)
        );
        Ok(Contents {
            manifest,
            files: self.files,
            keys: self.keys.with_context(|| tr!("it has no {KEYS}", KEYS))?,
        })
    }
}

fn manifest(text: &[u8]) -> Result<Manifest> {
    let manifest: Manifest = BACKUP.read(text, || tr!("its manifest is not valid"))?;
    ensure!(
        manifest.format == FORMAT,
        tr!(
            "its manifest has the format {}, which no version of the program wrote",
            manifest.format
        )
    );
    Ok(manifest)
}

fn snapshot(size: u64, content: &mut impl Read, take: &mut Take<'_>) -> Result<()> {
    ensure!(
        size <= MOST_OF_SNAPSHOT,
        tr!(
            "etcd's snapshot has {size} bytes; at most {MOST_OF_SNAPSHOT} are allowed",
            size,
            MOST_OF_SNAPSHOT
        )
    );
    let mut checked = Checked {
        inner: content,
        whole: Whole::new(size),
        failed: None,
    };
    let taken = take(size, &mut checked);
    if let Some(error) = checked.failed {
        return Err(error.into());
    }
    taken.map_err(NotTaken)?;
    ensure!(
        checked.whole.is_whole(),
        tr!("etcd's snapshot does not have its checksum")
    );
    Ok(())
}

/// Checks what is read through it, and notes why reading failed: then the one who takes it is not to blame.
struct Checked<R> {
    inner: R,
    whole: Whole,
    failed: Option<io::Error>,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(count) => {
                self.whole.update(&buffer[..count]);
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.failed.get_or_insert(error);
                Err(kind.into())
            }
        }
    }
}

/// Everything in `content`, at most `most` bytes.
fn bounded(content: &mut impl Read, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = content.take(most + 1).read_to_end(&mut bytes)?;
    ensure!(
        read as u64 <= most,
        tr!("an entry has more than {most} bytes", most)
    );
    Ok(bytes)
}
