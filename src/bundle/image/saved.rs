//! Images in tarballs for `docker load`: from `docker save` of any age, and from podman, buildah, skopeo,
//! crane and others.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::compression::{Compression, MAGIC};
use super::layered::{ArchiveManifest, Config, Layered, MANIFEST, MAX_DOCUMENT, digest, unpacked};
use super::layout::{self, INDEX};
use super::legacy::{self, REPOSITORIES};
use super::reference;
use crate::bundle::archive::{
    Inventory, MAX_MEMBER, below_root, each_entry_with_seek, list, unpacked_limit,
};
use crate::digest::Sha256;
use crate::sys::stream::Bounded;

/// How many links are followed before they are taken for a circle.
const MAX_LINKS: usize = 40;
/// How to make a tarball that every docker takes.
const REMEDY: &str = "make one with `docker save NAME:TAG -o FILE`";

/// The form of a tarball.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `manifest.json`, since docker 1.10.
    Manifest,
    /// An OCI layout without `manifest.json`.
    Layout,
    /// `repositories`, before docker 1.10.
    Legacy,
}

/// A tarball whose table of contents was read. Its layers were not read yet.
#[derive(Debug)]
pub struct Saved {
    /// The tar, unpacked.
    file: File,
    compression: Option<Compression>,
    form: Form,
    /// Where in the tar each file begins, and its size in bytes.
    files: BTreeMap<String, (u64, u64)>,
    /// The targets of links: docker writes a link for a layer that occurs more than once.
    links: BTreeMap<String, String>,
    /// Configurations that were made here, as a legacy tarball has none.
    made: BTreeMap<String, Vec<u8>>,
    images: Vec<ArchiveManifest>,
}

impl Saved {
    /// Reads the tarball's table of contents. A compressed tarball is unpacked to a temporary file in
    /// `scratch`.
    pub fn open(file: File, scratch: &Path) -> Result<Saved> {
        let (file, compression) = plain(file, scratch)?;
        let mut saved = Saved {
            file,
            compression,
            form: Form::Manifest,
            files: BTreeMap::new(),
            links: BTreeMap::new(),
            made: BTreeMap::new(),
            images: Vec::new(),
        };
        let not_saved = || format!("it is not a tarball from `docker save`; {REMEDY}");
        saved.read_index().with_context(not_saved)?;
        if saved.has(MANIFEST) {
            saved.images = serde_json::from_slice(&saved.document(MANIFEST)?).context(MANIFEST)?;
        } else if saved.has(INDEX) {
            saved.form = Form::Layout;
            saved.images = layout::images(&saved.document(INDEX)?, &|name| saved.document(name))?;
        } else if saved.has(REPOSITORIES) {
            saved.form = Form::Legacy;
            saved.read_legacy()?;
        } else {
            saved.document(MANIFEST).with_context(not_saved)?;
        }
        saved.check_names()?;
        Ok(saved)
    }

    fn read_legacy(&mut self) -> Result<()> {
        let repositories = self.document(REPOSITORIES)?;
        let document = |name: &str| self.document(name);
        let diff_id = |name: &str| {
            let (size, reader) = self.open_at(name)?;
            digest(reader, size).with_context(|| name.to_owned())
        };
        for (image, config) in legacy::images(&repositories, &document, &diff_id)? {
            self.made.insert(image.config.clone(), config);
            self.images.push(image);
        }
        Ok(())
    }

    /// Notes where each file is. Of several with one name, the last counts, as when a tar is unpacked.
    fn read_index(&mut self) -> Result<()> {
        self.file.rewind()?;
        let mut inventory = Inventory::default();
        let (files, links) = (&mut self.files, &mut self.links);
        each_entry_with_seek(&self.file, |entry| {
            let name = below_root(&entry.path()?)?;
            inventory.count(&name)?;
            let kind = entry.header().entry_type();
            if kind.is_symlink() || kind.is_hard_link() {
                let target = entry.link_name()?.unwrap_or_default();
                let target = target.to_string_lossy();
                // A hard link is to a path of the tar, a symbolic one starts where it is.
                let start = match name.rsplit_once('/') {
                    Some((directory, _)) if kind.is_symlink() => directory,
                    _ => "",
                };
                let target = target_of(start, &target);
                files.remove(&name);
                links.insert(name, target);
            } else if kind.is_file() {
                let place = (entry.raw_file_position(), entry.size());
                links.remove(&name);
                files.insert(name, place);
            }
            Ok(())
        })
    }

    /// Refuses a name that two images have: docker would take one of them.
    fn check_names(&self) -> Result<()> {
        let mut names: BTreeMap<&str, &String> = BTreeMap::new();
        for image in &self.images {
            for name in names_of(image).filter(|name| !reference::is_tag_only(name)) {
                let other = names.insert(reference::familiar(name), &image.config);
                ensure!(
                    other.is_none_or(|config| *config == image.config),
                    "two images in it have the name {name}; save each image to its own file with \
                     `docker save NAME:TAG -o FILE`"
                );
            }
        }
        Ok(())
    }

    /// Whether docker of any age loads the file as it is, and then has the image as `reference` only: one
    /// image in a plain tar with a `manifest.json` and plain layers.
    pub fn is_plain(&self, reference: &str) -> Result<bool> {
        let [image] = self.images.as_slice() else {
            return Ok(false);
        };
        let is_named = names_of(image).any(|name| name == reference);
        if !is_named || self.compression.is_some() || self.form != Form::Manifest {
            return Ok(false);
        }
        for layer in &image.layers {
            let mut start = Vec::new();
            self.open_at(layer)?
                .1
                .take(MAGIC as u64)
                .read_to_end(&mut start)?;
            if Compression::of(&start).is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Every reference in the tarball, with its image ID. Reads only the descriptions of the images,
    /// and not their layers.
    ///
    /// # Errors
    /// Also if docker 17, which Kubernetes v1.9 is made for, does not load this file, or under another ID.
    pub fn references(&self) -> Result<Vec<(String, Sha256)>> {
        ensure!(
            self.compression != Some(Compression::Zstd),
            "it is compressed with zstd, which older dockers do not load; unpack it with `zstd -d FILE`"
        );
        ensure!(
            self.form != Form::Layout,
            "it is an OCI layout without {MANIFEST}, which older dockers do not load; convert it with \
             `skopeo copy oci-archive:FILE docker-archive:NEW-FILE:NAME:TAG`"
        );
        ensure!(
            self.form != Form::Legacy,
            "it has no {MANIFEST}: docker before 1.10 saved it, and the ID that an image of it gets is \
             unknown; convert it with `docker load -i FILE`, then `docker save NAME:TAG -o NEW-FILE`"
        );
        let mut references = Vec::new();
        for image in &self.images {
            let id = Sha256::of(&self.document(&image.config)?);
            references.extend(names_of(image).map(|tag| (tag.to_owned(), id.clone())));
        }
        ensure!(
            !references.is_empty(),
            "no image in it has a name; save it with `docker save NAME:TAG -o FILE`"
        );
        Ok(references)
    }

    /// The image called `reference` in the tarball, or the only one if it has no name. Its layers are
    /// unpacked to temporary files in `scratch`.
    pub fn named(&self, reference: &str, scratch: &Path) -> Result<SavedImage<'_>> {
        if let [image] = self.images.as_slice()
            && names_of(image).all(reference::is_tag_only)
        {
            return self.image(image, scratch);
        }
        let has_name = |image: &&ArchiveManifest| {
            names_of(image).any(|name| reference::are_same(name, reference))
        };
        let Some(image) = self.images.iter().find(has_name) else {
            bail!(
                "it is tagged {}, not {reference}; save it with `docker save {reference} -o FILE`",
                list(self.images.iter().map(tags))
            )
        };
        self.image(image, scratch)
    }

    /// The image for the component with that reference: the only one, whatever its name is; among
    /// several, the one with that name and tag, with or without a registry. Its layers are unpacked to
    /// temporary files in `scratch`.
    pub fn choose(&self, reference: Option<&str>, scratch: &Path) -> Result<SavedImage<'_>> {
        if let [manifest] = self.images.as_slice() {
            return self.image(manifest, scratch);
        }
        let mut fitting = self.images.iter().filter(|image| {
            let has_name = |name, reference| reference::is_short_for(name, reference);
            reference.is_some_and(|reference| names_of(image).any(|name| has_name(name, reference)))
        });
        let (Some(manifest), None) = (fitting.next(), fitting.next()) else {
            bail!(
                "it has {} images, and none or several of them are {}: {}; save that image alone with \
                 `docker save NAME:TAG -o FILE`",
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

    fn has(&self, name: &str) -> bool {
        self.files.contains_key(name) || self.links.contains_key(name)
    }

    /// Where the file of that name is.
    fn place(&self, name: &str) -> Result<(u64, u64)> {
        let own = below_root(name.as_ref())?;
        let mut at = &own;
        let mut links = 0;
        while let Some(target) = self.links.get(at) {
            links += 1;
            ensure!(links <= MAX_LINKS, "{name} is a circle of links");
            at = target;
        }
        let place = self.files.get(at).copied();
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
        if let Some(made) = self.made.get(name) {
            return Ok(made.clone());
        }
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

/// The tar in `file`, and how it was compressed.
fn plain(mut file: File, scratch: &Path) -> Result<(File, Option<Compression>)> {
    let mut start = Vec::new();
    file.rewind()?;
    (&file).take(MAGIC as u64).read_to_end(&mut start)?;
    file.rewind()?;
    let Some(compression) = Compression::of(&start) else {
        return Ok((file, None));
    };
    let limit = unpacked_limit(file.metadata()?.len()).min(MAX_MEMBER);
    let mut reader = Bounded::new(compression.unpack(io::BufReader::new(file))?, limit);
    let mut unpacked = tempfile::tempfile_in(scratch)?;
    io::copy(&mut reader, &mut unpacked).with_context(|| {
        format!("it is compressed with {compression}, but cannot be unpacked; {REMEDY}")
    })?;
    Ok((unpacked, Some(compression)))
}

/// The path in the tar to which a link leads. As for docker, the tar is the root of all paths.
fn target_of(start: &str, target: &str) -> String {
    let start = if target.starts_with('/') { "" } else { start };
    let mut path: Vec<&str> = Vec::new();
    for part in start.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(path.pop()),
            part => path.push(part),
        }
    }
    path.join("/")
}

fn names_of(image: &ArchiveManifest) -> impl Iterator<Item = &str> {
    image.repo_tags.iter().flatten().map(String::as_str)
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
