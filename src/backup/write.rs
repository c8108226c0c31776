//! Writes a backup: files of the master and etcd's data, as a stream.

use core::net::Ipv4Addr;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::blocking::Client;
use tar::{Builder, EntryType, Header};
use time::OffsetDateTime;

use super::seal::Seal;
use crate::clients::etcd::snapshot::Snapshot;
use crate::clients::etcd::{self, keys};
use crate::clients::mtls;
use crate::components::ETCD_CERTIFICATE;
use crate::digest::Sha256;
use crate::language::tr;
use crate::nodespec::ports::ETCD_CLIENTS;
use crate::nodespec::settings::Settings;
use crate::paths;
use crate::records::authorities::digests;
use crate::records::backup::{
    FORMAT, KEYS, MANIFEST, Manifest, Member, SETTINGS_DIR, SNAPSHOT, is_join_record, may_have,
    name_of, needed, optional,
};
use crate::records::state::State;
use crate::sys::progress::Progress;
use crate::sys::root::Root;
use crate::sys::stream::{Counting, Hashing};

/// How long the snapshot of etcd may take: 8 GiB, the most that etcd is meant for, at 2 MiB in a second.
const LONGEST: Duration = Duration::from_secs(4096);
/// The permission bits of what is in no file of the master.
const SECRET: u32 = 0o600;

/// The master whose cluster is backed up. The caller holds its lock: keys and data must not change places between two
/// reads, for example in a rotation of the key that encrypts secrets.
pub struct Source<'a> {
    /// Its files.
    pub root: &'a Root,
    /// Its record.
    pub state: &'a State,
    /// Where its member of etcd serves clients.
    pub address: Ipv4Addr,
    /// When the backup is begun.
    pub created: OffsetDateTime,
    /// Shows how far it is.
    pub progress: &'a dyn Progress,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its description.
    pub manifest: Manifest,
    /// Its size, in bytes.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: Sha256,
}

/// Writes a backup of the cluster of `source`, encrypted for `seal`, to `output`.
///
/// Calico's data is read after the snapshot: then each pod in the snapshot has its address there, and an address that
/// was given later is only in use for nobody.
///
/// # Errors
/// If a file is missing, if etcd does not answer, or if its snapshot is not whole.
pub fn write(source: &Source<'_>, seal: &Seal, output: impl Write) -> Result<Made> {
    let created = source.created;
    let client = mtls::client(source.root, ETCD_CERTIFICATE, LONGEST)?;
    let server = format!("https://{}:{ETCD_CLIENTS}", source.address);
    let etcd = etcd::version(&client, &server)?.server;
    let revision = etcd::revision(&client, &server)?;
    let files = files(source.root)?;
    let authority = digests(&String::from_utf8_lossy(&content(
        &files,
        paths::CA_CERTIFICATE,
    )?))
    .context(paths::CA_CERTIFICATE)?;

    let encrypting = seal.encrypting(Hashing::new(output))?;
    let mut archive = Archive {
        tar: Builder::new(GzEncoder::new(encrypting, Compression::fast())),
        members: BTreeMap::new(),
        created,
    };
    for (path, (mode, content)) in &files {
        archive.add(&name_of(path), *mode, content.len() as u64, &content[..])?;
    }
    etcd_data(&mut archive, &client, &server, source.progress)?;
    let manifest = Manifest {
        format: FORMAT,
        created,
        master: source.state.clone(),
        etcd,
        revision,
        authority,
        members: archive.members.clone(),
    };
    let text = serde_json::to_vec_pretty(&manifest)?;
    archive.add(MANIFEST, SECRET, text.len() as u64, &text[..])?;
    let mut written = archive.tar.into_inner()?.finish()?.finish()?;
    written.flush()?;
    let (bytes, sha256) = written.finish();
    Ok(Made {
        manifest,
        bytes,
        sha256,
    })
}

fn etcd_data<W: Write>(
    archive: &mut Archive<W>,
    client: &Client,
    server: &str,
    progress: &dyn Progress,
) -> Result<()> {
    let snapshot = Snapshot::begin(client, server)?;
    let size = snapshot.size();
    progress.set(0, Some(size));
    let advance = |bytes| progress.advance(bytes);
    archive.add(SNAPSHOT, SECRET, size, Counting::new(snapshot, &advance))?;
    let keys = serde_json::to_vec(&keys::all(client, server)?)?;
    archive.add(KEYS, SECRET, keys.len() as u64, &keys[..])
}

/// The files of the master by path, with their permission bits.
type Files = BTreeMap<String, (u32, zeroize::Zeroizing<Vec<u8>>)>;

fn files(root: &Root) -> Result<Files> {
    let mut files = Files::new();
    let mut read = |path: &str| -> Result<bool> {
        let Some(content) = root.read(path)? else {
            return Ok(false);
        };
        let mode = root.mode(path)?.unwrap_or(SECRET);
        files.insert(path.to_owned(), (mode & 0o777, content.into()));
        Ok(true)
    };
    for path in needed() {
        ensure!(
            read(&path)?,
            tr!(
                "{path} is missing, so there would be nothing to restore; run `appliance install` to repair this master",
                path
            )
        );
    }
    for path in optional() {
        read(path)?;
    }
    for name in root.list(paths::JOIN_DIR)? {
        if is_join_record(&name) {
            read(&format!("{}/{name}", paths::JOIN_DIR))?;
        }
    }
    for path in manifests(root)? {
        if !may_have(&path) {
            log::warn!(
                "the manifest {path} is not in the backup, because it is outside of {SETTINGS_DIR}; move it there, or \
                 keep a copy"
            );
        } else if !read(&path)? {
            log::warn!("the manifest {path} is not in the backup, because it does not exist");
        }
    }
    Ok(files)
}

/// The manifests of workloads that the file of settings names.
fn manifests(root: &Root) -> Result<Vec<String>> {
    let Some(text) = root.read(paths::CONFIG)? else {
        return Ok(Vec::new());
    };
    let settings = Settings::from_yaml(paths::CONFIG, &String::from_utf8_lossy(&text))?;
    let workloads = settings.workloads.unwrap_or_default();
    Ok(workloads
        .into_iter()
        .filter_map(|workload| workload.file)
        .collect())
}

fn content(files: &Files, path: &str) -> Result<zeroize::Zeroizing<Vec<u8>>> {
    let found = files.get(path).map(|(_, content)| content.clone());
    found.with_context(|| tr!("{path} is missing", path))
}

/// A tar archive of ordinary files.
struct Archive<W: Write> {
    tar: Builder<W>,
    members: BTreeMap<String, Member>,
    created: OffsetDateTime,
}

impl<W: Write> Archive<W> {
    fn add(&mut self, name: &str, mode: u32, size: u64, content: impl Read) -> Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_path(name).with_context(|| name.to_owned())?;
        header.set_size(size);
        header.set_mode(mode);
        header.set_mtime(u64::try_from(self.created.unix_timestamp()).unwrap_or_default());
        header.set_cksum();
        let mut content = Hashing::new(content);
        let appended = self.tar.append(&header, &mut content);
        appended.with_context(|| tr!("cannot write {name} into the backup", name))?;
        let (read, sha256) = content.finish();
        ensure!(
            read == size,
            tr!(
                "{name} has {read} bytes instead of {size}; run this again",
                name,
                read,
                size
            )
        );
        self.members
            .insert(name.to_owned(), Member { size, sha256, mode });
        Ok(())
    }
}
