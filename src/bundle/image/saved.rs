//! Images in tarballs from `docker save` and from programs that write the same form.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::layered::{
    ArchiveManifest, Config, GZIP, Layered, MANIFEST, MAX_DOCUMENT, ZSTD, unpacked,
};
use crate::bundle::archive::{Inventory, each_entry_with_seek, inside, list};
use crate::digest::Sha256;

/// A tarball whose table of contents was read. Its layers were not read yet.
#[derive(Debug)]
pub struct Saved {
    file: File,
    /// Where in the tarball each file begins, and its size in bytes.
    files: BTreeMap<String, (u64, u64)>,
    /// Layers that occur more than once: docker writes a link from one to the other.
    links: BTreeMap<String, String>,
    images: Vec<ArchiveManifest>,
}

impl Saved {
    /// Reads the tarball's table of contents.
    pub fn open(mut file: File) -> Result<Saved> {
        let mut start = Vec::new();
        file.rewind()?;
        (&file).take(ZSTD.len() as u64).read_to_end(&mut start)?;
        ensure!(
            !start.starts_with(GZIP) && !start.starts_with(ZSTD),
            "it is compressed; unpack it to a plain tar first, with `gunzip` or `unzstd`"
        );
        let mut saved = Saved {
            file,
            files: BTreeMap::new(),
            links: BTreeMap::new(),
            images: Vec::new(),
        };
        saved
            .read_index()
            .context("it is not a tarball from `docker save`")?;
        let manifest = saved
            .document(MANIFEST)
            .context("it is not a tarball from `docker save`")?;
        saved.images = serde_json::from_slice(&manifest).context(MANIFEST)?;
        saved.check_names()?;
        Ok(saved)
    }

    fn read_index(&mut self) -> Result<()> {
        self.file.rewind()?;
        let mut inventory = Inventory::default();
        each_entry_with_seek(&self.file, |entry| {
            let name = inside(&entry.path()?)?;
            inventory.count(&name)?;
            let kind = entry.header().entry_type();
            if kind.is_symlink() || kind.is_hard_link() {
                let target = entry.link_name()?.unwrap_or_default();
                // Links lead from a layer's directory to another: `../ID/layer.tar`.
                let target = target
                    .to_string_lossy()
                    .trim_start_matches("../")
                    .to_owned();
                self.links.insert(name, target);
            } else if kind.is_file() {
                let place = (entry.raw_file_position(), entry.size());
                ensure!(
                    self.files.insert(name.clone(), place).is_none(),
                    "it has the file {name} twice"
                );
            }
            Ok(())
        })
    }

    /// Refuses a name that two images have: docker would take one of them.
    fn check_names(&self) -> Result<()> {
        let mut names: BTreeMap<&String, &String> = BTreeMap::new();
        for image in &self.images {
            for name in image.repo_tags.iter().flatten() {
                let other = names.insert(name, &image.config);
                ensure!(
                    other.is_none_or(|config| *config == image.config),
                    "two images in it have the name {name}; save each image to its own file"
                );
            }
        }
        Ok(())
    }

    /// Every reference in the tarball, with its image ID. Reads only the descriptions of the images,
    /// and not their layers.
    pub fn references(&self) -> Result<Vec<(String, Sha256)>> {
        let mut references = Vec::new();
        for image in &self.images {
            let tags = image.repo_tags.clone().unwrap_or_default();
            ensure!(
                !tags.is_empty(),
                "an image in it has no name; save it with `docker save NAME:TAG -o FILE`"
            );
            let id = Sha256::of(&self.document(&image.config)?);
            references.extend(tags.into_iter().map(|tag| (tag, id.clone())));
        }
        Ok(references)
    }

    /// The only image in the tarball, if `reference` is among its names. Its layers are unpacked to
    /// temporary files in `scratch`.
    pub fn named(&self, reference: &str, scratch: &Path) -> Result<SavedImage<'_>> {
        let [manifest] = self.images.as_slice() else {
            bail!(
                "it holds {} images instead of one; save each image to its own file",
                self.images.len()
            )
        };
        ensure!(
            manifest
                .repo_tags
                .iter()
                .flatten()
                .any(|tag| tag == reference),
            "it is tagged {}, not {reference}; save it with `docker save {reference} -o FILE`",
            tags(manifest)
        );
        self.image(manifest, scratch)
    }

    /// The image for the component with that reference: the only one, whatever its name is; among
    /// several, the one with that name and tag, with or without a registry. Its layers are unpacked to
    /// temporary files in `scratch`.
    pub fn choose(&self, reference: Option<&str>, scratch: &Path) -> Result<SavedImage<'_>> {
        if let [manifest] = self.images.as_slice() {
            return self.image(manifest, scratch);
        }
        let has_name = |name: &str, reference: &str| {
            name == reference || reference.ends_with(&format!("/{name}"))
        };
        let mut fitting = self.images.iter().filter(|image| {
            let names = image.repo_tags.iter().flatten();
            reference.is_some_and(|reference| names.into_iter().any(|n| has_name(n, reference)))
        });
        let (Some(manifest), None) = (fitting.next(), fitting.next()) else {
            bail!(
                "its {MANIFEST} names {} images, and none or several of them are {}: {}; save that \
                 image alone",
                self.images.len(),
                reference.unwrap_or("the wanted one"),
                list(self.images.iter().map(tags))
            )
        };
        self.image(manifest, scratch)
    }

    fn image(&self, manifest: &ArchiveManifest, scratch: &Path) -> Result<SavedImage<'_>> {
        let config = self.document(&manifest.config)?;
        for layer in &manifest.layers {
            self.place(layer)?;
        }
        Ok(SavedImage {
            saved: self,
            scratch: scratch.to_owned(),
            config: Config::parse(config, manifest.layers.len(), MANIFEST)?,
            layers: manifest.layers.clone(),
        })
    }

    /// Where the file of that name is.
    fn place(&self, name: &str) -> Result<(u64, u64)> {
        let target = self.links.get(name).map_or(name, String::as_str);
        let place = self.files.get(target).copied();
        place.with_context(|| {
            format!(
                "it has no {name}; it has {}",
                list(self.files.keys().cloned())
            )
        })
    }

    fn open_at(&self, name: &str) -> Result<(u64, impl Read)> {
        let (start, size) = self.place(name)?;
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(start))?;
        Ok((size, file.take(size)))
    }

    /// The small file of that name.
    fn document(&self, name: &str) -> Result<Vec<u8>> {
        let (size, mut reader) = self.open_at(name)?;
        ensure!(
            size <= MAX_DOCUMENT,
            "its {name} is longer than {MAX_DOCUMENT} bytes"
        );
        let mut document = Vec::new();
        reader.read_to_end(&mut document)?;
        Ok(document)
    }
}

fn tags(manifest: &ArchiveManifest) -> String {
    match manifest.repo_tags.as_deref() {
        None | Some([]) => "(no name)".to_owned(),
        Some(tags) => tags.join(", "),
    }
}

/// One image of a tarball.
#[derive(Debug)]
pub struct SavedImage<'a> {
    saved: &'a Saved,
    /// Where temporary files go.
    scratch: PathBuf,
    config: Config,
    layers: Vec<String>,
}

impl SavedImage<'_> {
    /// Docker's identifier: the digest of the configuration.
    pub fn id(&self) -> &Sha256 {
        &self.config.id
    }
}

impl Layered for SavedImage<'_> {
    fn config(&self) -> &Config {
        &self.config
    }

    fn layer(&self, number: usize) -> Result<File> {
        let name = &self.layers[number];
        let (size, reader) = self.saved.open_at(name)?;
        unpacked(reader, size, &self.config.diff_ids[number], &self.scratch)
            .with_context(|| name.clone())
    }
}
