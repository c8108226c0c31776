//! Docker image archives made without docker: the format of `docker save` in both its layouts,
//! which `docker load` of 1.13 and of 20.10 accepts.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// A file in an image, in addition to its program.
pub struct Extra {
    /// Its absolute path.
    pub path: String,
    /// Its permissions.
    pub mode: u32,
    /// Its content.
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
    /// The path of the program in the image.
    pub program: &'static str,
    /// The entrypoint; an image has this or a command.
    pub entrypoint: &'static [&'static str],
    /// The default command.
    pub command: &'static [&'static str],
    /// Variables in addition to the search path, as `NAME=value`.
    pub environment: &'static [&'static str],
}

impl Image {
    /// Writes the archive of the image, with `program` as its program and with the files `extra`.
    /// The same files give the same bytes.
    ///
    /// # Errors A directory that cannot be written to.
    pub fn write(&self, directory: &Path, program: &[u8], extra: &[Extra]) -> Result<()> {
        // All images share the first layer, so that docker unpacks it once.
        let layers = [base_layer(program)?, self.layer(extra)?];
        let diffs = layers.each_ref().map(|layer| hash(layer));
        let settings = self.settings();
        let config = json!({
            "architecture": "amd64", "os": "linux", "created": EPOCH, "config": settings,
            "rootfs": {"type": "layers", "diff_ids": diffs.each_ref().map(|diff| format!("sha256:{diff}"))},
            "history": diffs.each_ref().map(|_| json!({"created": EPOCH, "comment": NOTE})),
        });
        let config = config.to_string();
        let digest = hash(config.as_bytes());
        // A layer's own id in the old layout: any 64 hexadecimal digits that differ between layers.
        let ids = [
            diffs[0].clone(),
            hash(format!("{digest} {}", diffs[1]).as_bytes()),
        ];
        let path = directory.join(self.file);
        let file = File::create(&path).with_context(|| path.display().to_string())?;
        let mut archive = Builder::new(file);
        let described = [
            json!({"id": ids[0], "created": EPOCH, "comment": NOTE}),
            self.legacy(&ids, &settings),
        ];
        for ((id, layer), described) in ids.iter().zip(&layers).zip(&described) {
            let described = described.to_string();
            directory_entry(&mut archive, &format!("{id}/"))?;
            file_entry(&mut archive, &format!("{id}/VERSION"), 0o644, b"1.0")?;
            file_entry(
                &mut archive,
                &format!("{id}/json"),
                0o644,
                described.as_bytes(),
            )?;
            file_entry(&mut archive, &format!("{id}/layer.tar"), 0o644, layer)?;
        }
        let listed = self.manifest(&digest, &ids).to_string();
        let repositories = json!({self.repository: {self.tag: ids[1]}}).to_string();
        for (name, text) in [
            (format!("{digest}.json"), &config),
            ("manifest.json".to_owned(), &listed),
            ("repositories".to_owned(), &repositories),
        ] {
            file_entry(&mut archive, &name, 0o644, text.as_bytes())?;
        }
        archive.into_inner()?.flush()?;
        Ok(())
    }

    /// The files of this image alone: the extra files, the directories above them, and last its
    /// program, which is a link to the stand-in.
    fn layer(&self, extra: &[Extra]) -> Result<Vec<u8>> {
        let mut archive = Builder::new(Vec::new());
        let mut directories = BTreeSet::new();
        let paths = extra.iter().map(|extra| extra.path.as_str());
        for path in paths.chain([self.program]) {
            let path = path.trim_start_matches('/');
            for (end, _) in path.match_indices('/') {
                if directories.insert(&path[..=end]) {
                    directory_entry(&mut archive, &path[..=end])?;
                }
            }
        }
        for extra in extra {
            let path = extra.path.trim_start_matches('/');
            file_entry(&mut archive, path, extra.mode, &extra.bytes)?;
        }
        let mut link = header(EntryType::Symlink, 0o777, 0);
        let program = self.program.trim_start_matches('/');
        archive.append_link(&mut link, program, format!("/{STAND_IN}"))?;
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

    fn manifest(&self, digest: &str, ids: &[String]) -> Value {
        let layers = ids.iter().map(|id| format!("{id}/layer.tar"));
        json!([{
            "Config": format!("{digest}.json"),
            "RepoTags": [format!("{}:{}", self.repository, self.tag)],
            "Layers": layers.collect::<Vec<_>>(),
        }])
    }

    fn legacy(&self, ids: &[String; 2], settings: &Value) -> Value {
        json!({
            "id": ids[1], "parent": ids[0], "created": EPOCH, "architecture": "amd64", "os": "linux",
            "comment": NOTE, "config": settings,
        })
    }
}

const EPOCH: &str = "1970-01-01T00:00:00Z";
const NOTE: &str = "appliance test stand-in; not the real image";

/// The path of the stand-in in every image; the names of programs are links to it.
const STAND_IN: &str = "stand-in";

fn base_layer(program: &[u8]) -> Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    file_entry(&mut archive, STAND_IN, 0o755, program)?;
    Ok(archive.into_inner()?)
}

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
