//! The packed bundle: inside this program, or in a directory.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use super::definition::{check_path, is_file_name};
use super::manifest::{FILE_NAME, Manifest};

/// The only layout of a payload there is so far.
pub const FORMAT: u32 = 1;

#[cfg(feature = "payload")]
mod embedded {
    #[derive(rust_embed::RustEmbed)]
    #[folder = "$APPLIANCE_PAYLOAD"]
    pub struct Files;
}

/// The bytes embedded in this program under that name, borrowed from its image.
#[cfg(feature = "payload")]
fn embedded_file(name: &str) -> Option<Cow<'static, [u8]>> {
    embedded::Files::get(name).map(|file| file.data)
}

#[cfg(not(feature = "payload"))]
fn embedded_file(_name: &str) -> Option<Cow<'static, [u8]>> {
    None
}

enum Place {
    Program,
    Directory(PathBuf),
}

/// A packed bundle whose table of contents has been checked.
pub struct Payload {
    place: Place,
    manifest: Manifest,
    text: Vec<u8>,
    digest: String,
}

impl Payload {
    /// The payload inside this program; `None` in the builder, which carries none.
    pub fn embedded() -> Result<Option<Payload>> {
        let Some(text) = embedded_file(FILE_NAME) else {
            return Ok(None);
        };
        Payload::new(Place::Program, text.into_owned())
            .context("the payload of this program")
            .map(Some)
    }

    /// The packed payload in the directory `dir`.
    pub fn open(dir: &Path) -> Result<Payload> {
        let text = fs::read(dir.join(FILE_NAME))
            .with_context(|| format!("payload {}: {FILE_NAME}", dir.display()))?;
        Payload::new(Place::Directory(dir.to_owned()), text)
            .with_context(|| format!("payload {}", dir.display()))
    }

    fn new(place: Place, text: Vec<u8>) -> Result<Payload> {
        let manifest: Manifest = serde_json::from_slice(&text).context(FILE_NAME)?;
        check(&manifest).context(FILE_NAME)?;
        let digest = hex::encode(Sha256::digest(&text));
        Ok(Payload {
            place,
            manifest,
            text,
            digest,
        })
    }

    /// Its table of contents.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The table of contents as it was written.
    pub fn manifest_text(&self) -> &[u8] {
        &self.text
    }

    /// SHA-256 of the table of contents, which has the digest of every file: it names the bundle.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The compressed archive of that name.
    pub fn pack(&self, name: &str) -> Result<Box<dyn Read>> {
        match &self.place {
            Place::Program => match embedded_file(name) {
                Some(Cow::Borrowed(bytes)) => Ok(Box::new(bytes)),
                Some(Cow::Owned(bytes)) => Ok(Box::new(std::io::Cursor::new(bytes))),
                None => anyhow::bail!("this program lacks {name}; build it again"),
            },
            Place::Directory(dir) => {
                let path = dir.join(name);
                Ok(Box::new(
                    File::open(&path).with_context(|| path.display().to_string())?,
                ))
            }
        }
    }
}

/// Refuses a table of contents that could lead an unpacker astray.
fn check(manifest: &Manifest) -> Result<()> {
    ensure!(
        manifest.format == FORMAT,
        "layout {} is not known to this program, which knows {FORMAT}",
        manifest.format
    );
    let mut paths = BTreeSet::new();
    for component in &manifest.components {
        ensure!(
            is_file_name(&component.name),
            "component name {:?} is not a file name",
            component.name
        );
        check_path(&component.path)?;
        ensure!(
            paths.insert(component.path.as_str()),
            "{} is there twice",
            component.path
        );
    }
    for pack in &manifest.packs {
        ensure!(
            is_file_name(&pack.name),
            "pack name {:?} is not a file name",
            pack.name
        );
        for path in &pack.components {
            ensure!(
                paths.remove(path.as_str()),
                "{} has {path}, which is unknown or packed twice",
                pack.name
            );
        }
    }
    match paths.first() {
        Some(path) => anyhow::bail!("{path} is in no pack"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::bundle::manifest::{BundleInfo, Component, Kind, Pack};

    fn manifest() -> Manifest {
        let component = Component {
            name: "etcd".to_owned(),
            kind: Kind::Program,
            version: "3".to_owned(),
            path: "bin/etcd".to_owned(),
            size: 1,
            sha256: "0".repeat(64),
            reference: None,
            image_id: None,
            arguments: vec![],
            on_path: false,
        };
        let pack = Pack {
            name: "pack-0.tar.xz".to_owned(),
            size: 1,
            sha256: "0".repeat(64),
            components: vec!["bin/etcd".to_owned()],
        };
        let bundle = BundleInfo {
            name: "t".to_owned(),
            kubernetes: "v1.9.0".to_owned(),
            description: "d".to_owned(),
            demonstration: false,
        };
        Manifest {
            format: FORMAT,
            bundle,
            components: vec![component],
            packs: vec![pack],
        }
    }

    fn refusal(change: impl Fn(&mut Manifest)) -> String {
        let mut manifest = manifest();
        change(&mut manifest);
        check(&manifest).unwrap_err().to_string()
    }

    #[test]
    fn a_sound_table_of_contents_is_taken() {
        check(&manifest()).unwrap();
    }

    #[test]
    fn a_table_of_contents_that_could_lead_astray_is_refused() {
        assert!(refusal(|m| m.format = 2).contains("layout 2"));
        assert!(refusal(|m| m.components[0].path = "../x".to_owned()).contains("would escape"));
        assert!(refusal(|m| m.packs[0].components.clear()).contains("in no pack"));
        assert!(
            refusal(|m| m.packs[0].components.push("bin/x".to_owned()))
                .contains("unknown or packed twice")
        );
        assert!(
            refusal(|m| m.components[0].name = "./../x".to_owned()).contains("not a file name")
        );
        assert!(refusal(|m| m.packs[0].name = "../p".to_owned()).contains("not a file name"));
        let twice = refusal(|m| m.components.push(m.components[0].clone()));
        assert!(twice.contains("bin/etcd is there twice"), "{twice}");
    }
}
