//! Docker image archives made without docker: what `docker save` writes, in both
//! its layouts, so that `docker load` of 1.13 and of 20.10 takes them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// A file that an image holds beside its program.
pub struct Extra {
    /// Where it stands, absolute.
    pub path: String,
    /// Its permissions.
    pub mode: u32,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// An image with one program in it.
pub struct Image {
    /// The name of the archive's file.
    pub file: &'static str,
    /// The image's repository.
    pub repository: &'static str,
    /// The image's tag.
    pub tag: &'static str,
    /// Where the program stands in the image.
    pub program: &'static str,
    /// What is run; an image has this or a command.
    pub entrypoint: &'static [&'static str],
    /// The default command.
    pub command: &'static [&'static str],
    /// Variables beside the search path, as `NAME=value`.
    pub environment: &'static [&'static str],
}

impl Image {
    /// Writes the archive of the image, with `program` as its program and `extra` beside
    /// it. The same files give the same bytes.
    ///
    /// # Errors
    /// A directory that cannot be written to.
    pub fn write(&self, directory: &Path, program: &[u8], extra: &[Extra]) -> Result<()> {
        let layer = self.layer(program, extra)?;
        let diff = hash(&layer);
        let settings = self.settings();
        let config = json!({
            "architecture": "amd64", "os": "linux", "created": EPOCH, "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff}")]},
            "history": [{"created": EPOCH, "comment": NOTE}],
        });
        let config = config.to_string();
        let digest = hash(config.as_bytes());
        // The layer's own id in the old layout: any 64 hexadecimal digits that
        // differ between layers.
        let id = hash(format!("{digest} {diff}").as_bytes());
        let path = directory.join(self.file);
        let file = File::create(&path).with_context(|| path.display().to_string())?;
        let mut archive = Builder::new(file);
        let legacy = self.legacy(&id, &settings);
        let listed = self.manifest(&digest, &id);
        let repositories = json!({self.repository: {self.tag: id}});
        // Sorted by name, but for the layer's directory, which goes first.
        directory_entry(&mut archive, &format!("{id}/"))?;
        file_entry(&mut archive, &format!("{id}/VERSION"), 0o644, b"1.0")?;
        file_entry(
            &mut archive,
            &format!("{id}/json"),
            0o644,
            legacy.to_string().as_bytes(),
        )?;
        file_entry(&mut archive, &format!("{id}/layer.tar"), 0o644, &layer)?;
        file_entry(
            &mut archive,
            &format!("{digest}.json"),
            0o644,
            config.as_bytes(),
        )?;
        file_entry(
            &mut archive,
            "manifest.json",
            0o644,
            listed.to_string().as_bytes(),
        )?;
        let repositories = repositories.to_string();
        file_entry(&mut archive, "repositories", 0o644, repositories.as_bytes())?;
        archive.into_inner()?.flush()?;
        Ok(())
    }

    /// The file system: the files and the directories above them, the program last.
    fn layer(&self, program: &[u8], extra: &[Extra]) -> Result<Vec<u8>> {
        let mut archive = Builder::new(Vec::new());
        let mut directories = BTreeSet::new();
        let others = extra
            .iter()
            .map(|e| (e.path.as_str(), e.mode, &e.bytes[..]));
        for (path, mode, bytes) in others.chain([(self.program, 0o755, program)]) {
            let path = path.trim_start_matches('/');
            for (end, _) in path.match_indices('/') {
                if directories.insert(path[..=end].to_owned()) {
                    directory_entry(&mut archive, &path[..=end])?;
                }
            }
            file_entry(&mut archive, path, mode, bytes)?;
        }
        Ok(archive.into_inner()?)
    }

    fn settings(&self) -> Value {
        let list = |words: &[&str]| {
            if words.is_empty() {
                Value::Null
            } else {
                json!(words)
            }
        };
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let environment = [&[path], self.environment].concat();
        json!({
            "Entrypoint": list(self.entrypoint),
            "Cmd": list(self.command),
            "Env": environment,
            "Labels": {"description": NOTE},
        })
    }

    fn manifest(&self, digest: &str, id: &str) -> Value {
        json!([{
            "Config": format!("{digest}.json"),
            "RepoTags": [format!("{}:{}", self.repository, self.tag)],
            "Layers": [format!("{id}/layer.tar")],
        }])
    }

    fn legacy(&self, id: &str, settings: &Value) -> Value {
        json!({
            "id": id, "created": EPOCH, "architecture": "amd64", "os": "linux",
            "comment": NOTE, "config": settings,
        })
    }
}

const EPOCH: &str = "1970-01-01T00:00:00Z";
const NOTE: &str = "appliance test stand-in; not the real image";

fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size as u64);
    header
}

fn directory_entry<W: Write>(archive: &mut Builder<W>, path: &str) -> Result<()> {
    let mut header = header(EntryType::Directory, 0o755, 0);
    Ok(archive.append_data(&mut header, path, &[][..])?)
}

fn file_entry<W: Write>(
    archive: &mut Builder<W>,
    path: &str,
    mode: u32,
    bytes: &[u8],
) -> Result<()> {
    let mut header = header(EntryType::Regular, mode, bytes.len());
    Ok(archive.append_data(&mut header, path, bytes)?)
}
