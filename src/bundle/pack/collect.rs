//! Finds every component's file, in a directory or in the cache, also inside archives and images;
//! and verifies each against `bundle.lock`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::bundle::cache::{self, Cache};
use crate::bundle::contents::{self, Content};
use crate::bundle::definition::{Definition, Source};
use crate::bundle::elf::Program;
use crate::bundle::image::Layered;
use crate::bundle::image::registry::Image;
use crate::bundle::image::saved::Saved;
use crate::bundle::lock::{self, Artifact};
use crate::bundle::manifest::Kind;
use crate::bundle::upstream::Upstream;
use crate::digest::{Digest, Sha256};
use crate::sys::host::program_name;
use crate::sys::stream::Hashing;

/// Where to search for components: first in the directory, then in the cache.
#[derive(Clone, Copy, Debug, Default)]
pub struct Places<'a> {
    /// A directory with the components' files, or with the archives that contain them.
    pub components: Option<&'a Path>,
    /// The cache that `appliance bundle fetch` has filled.
    pub cache: Option<&'a Cache>,
}

/// A component as a plain file.
#[derive(Debug)]
pub struct Collected<'a> {
    /// Its entry in `bundle.toml`.
    pub source: &'a Source,
    /// Its file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest.
    pub sha256: Sha256,
    /// For an image: the digest of its configuration.
    pub image_id: Option<Sha256>,
    /// The digest of its artifact, if it was verified against `bundle.lock`.
    pub source_digest: Option<Digest>,
}

/// Where a component's bytes come from.
#[derive(Debug)]
enum Origin {
    /// A file.
    Plain(PathBuf),
    /// An archive that contains them.
    Archive(PathBuf),
    /// An image in the cache.
    Image(Box<Image>),
}

/// Whether the directory `dir` has the component's file, or the archive that contains it.
pub fn is_in_directory(dir: &Path, source: &Source) -> bool {
    in_directory(dir, source).is_some()
}

fn in_directory(dir: &Path, source: &Source) -> Option<Origin> {
    let bare = dir.join(&source.file);
    if bare.is_file() {
        return Some(Origin::Plain(bare));
    }
    let archive = source.member.as_ref().and(source.upstream());
    let archive = archive.map(|upstream| dir.join(upstream.file_name()));
    let archive = archive.filter(|archive| archive.is_file());
    archive.map(Origin::Archive)
}

/// Collects the components of `definition`. Members of archives and images become files in
/// the directory `staging`. Fails if a file differs from `bundle.lock`.
pub fn collect<'a>(
    definition: &'a Definition,
    places: Places<'_>,
    staging: &Path,
) -> Result<Vec<Collected<'a>>> {
    let collector = Collector {
        definition,
        places,
        staging,
    };
    let origins = collector.origins()?;
    collector.extract(&origins)?;
    let mut collected = Vec::new();
    for (source, origin) in definition.components.iter().zip(&origins) {
        let one = collector.one(source, origin);
        collected.push(one.with_context(|| format!("component {}", source.name))?);
    }
    Ok(collected)
}

struct Collector<'a, 'b> {
    definition: &'a Definition,
    places: Places<'b>,
    staging: &'b Path,
}

impl<'a> Collector<'a, '_> {
    /// Where every component is. All missing ones are reported in one error.
    fn origins(&self) -> Result<Vec<Origin>> {
        let components = &self.definition.components;
        let origins = components.iter().map(|source| self.origin(source));
        let origins = origins.collect::<Result<Vec<_>>>()?;
        let missing: Vec<&Source> = components
            .iter()
            .zip(&origins)
            .filter(|(_, origin)| origin.is_none())
            .map(|(source, _)| source)
            .collect();
        ensure!(missing.is_empty(), "{}", self.missing(&missing));
        Ok(origins.into_iter().flatten().collect())
    }

    fn origin(&self, source: &Source) -> Result<Option<Origin>> {
        let dir = self.places.components;
        if let Some(origin) = dir.and_then(|dir| in_directory(dir, source)) {
            return Ok(Some(origin));
        }
        let Some(artifact) = source.locked(&self.definition.lock) else {
            return Ok(None);
        };
        let Some(cache) = self.places.cache else {
            return Ok(None);
        };
        if let Some(Upstream::Image(_)) = source.upstream() {
            let image = Image::find(cache, artifact)?;
            return Ok(image.map(|(_, image)| Origin::Image(Box::new(image))));
        }
        let digest = artifact.digest().filter(|digest| cache.contains(digest));
        let path = digest.map(|digest| cache.path(&digest));
        Ok(path.map(|path| match source.member {
            Some(_) => Origin::Archive(path),
            None => Origin::Plain(path),
        }))
    }

    fn describe(&self, source: &Source) -> String {
        let from = match (source.upstream(), &source.supplier) {
            (Some(upstream), _) => format!(", from {upstream}"),
            (None, Some(supplier)) => format!(", from {supplier}"),
            (None, None) => String::new(),
        };
        let archive = source.member.as_ref().and(source.upstream());
        let archive = archive.map_or(String::new(), |upstream| {
            format!(" or {}", upstream.file_name())
        });
        let locked = source.locked(&self.definition.lock);
        let unlocked = source.upstream().is_some() && !locked.is_some_and(Artifact::is_verifiable);
        let unlocked = if unlocked {
            "; it has no checksum in bundle.lock"
        } else {
            ""
        };
        format!("{}{archive}{from}{unlocked}", source.file)
    }

    fn missing(&self, missing: &[&Source]) -> String {
        let mut places = Vec::new();
        places.extend(self.places.components.map(|dir| dir.display().to_string()));
        places.extend(
            self.places
                .cache
                .map(|cache| format!("the cache {}", cache.dir().display())),
        );
        // Those without a source can only be there already.
        let has_sources = missing.iter().all(|source| source.upstream().is_some());
        let fetch = match has_sources {
            true => format!(
                "fetch them with `{} bundle fetch --bundle {}`, or ",
                program_name(),
                self.definition.given
            ),
            false => String::new(),
        };
        let missing: Vec<String> = missing.iter().map(|source| self.describe(source)).collect();
        format!(
            "these files are not in {}:\n  {}\n{fetch}name their directory with `--components DIR`",
            places.join(" or "),
            missing.join("\n  "),
        )
    }

    /// Takes every component out of its archive or image, each into a file of the component's name in
    /// `staging`. Every archive is verified, and read once.
    fn extract(&self, origins: &[Origin]) -> Result<()> {
        let mut archives: BTreeMap<&Path, Vec<&Source>> = BTreeMap::new();
        let write = |source: &Source, content: Content<'_>| {
            content.write(
                &self.staging.join(&source.name),
                source.reference.as_deref(),
            )
        };
        for (source, origin) in self.definition.components.iter().zip(origins) {
            match origin {
                Origin::Plain(_) => {}
                Origin::Archive(archive) => archives.entry(archive).or_default().push(source),
                Origin::Image(image) => {
                    contents::of_image(&**image, source, self.staging, &mut { write })
                        .with_context(|| format!("component {}", source.name))?;
                }
            }
        }
        for (archive, components) in archives {
            self.check_artifact(archive, components[0])?;
            contents::of_archive(archive, &components, self.staging, write)?;
        }
        Ok(())
    }

    fn check_artifact(&self, file: &Path, source: &Source) -> Result<()> {
        let artifact = source.locked(&self.definition.lock);
        let Some(expected) = artifact.and_then(Artifact::digest) else {
            return Ok(());
        };
        let place = || file.display().to_string();
        let (_, found) = cache::hash(file, &expected).with_context(place)?;
        ensure!(found == expected, mismatch(file, &found, &expected, source));
        Ok(())
    }

    fn one(&self, source: &'a Source, origin: &Origin) -> Result<Collected<'a>> {
        let mut path = match origin {
            Origin::Plain(path) => path.clone(),
            Origin::Archive(_) | Origin::Image(_) => self.staging.join(&source.name),
        };
        let mut image_id = None;
        if source.kind == Kind::Image {
            let (id, archive) = self.image(source, &path)?;
            image_id = Some(id);
            path = archive;
        } else {
            Program::read(&path).with_context(|| source.file.clone())?;
        }
        let (size, sha256) = hash(&path)?;
        let mut collected = Collected {
            source,
            path,
            size,
            sha256,
            image_id,
            source_digest: None,
        };
        let is_held = self.check(&collected)?;
        // A file from a directory need not be the published one.
        if is_held || !matches!(origin, Origin::Plain(_)) {
            let artifact = source.locked(&self.definition.lock);
            collected.source_digest = artifact.and_then(Artifact::digest);
        }
        Ok(collected)
    }

    /// The ID of the image in the tarball at `path`, and a tarball of it with the component's reference.
    /// The image itself may have another name: that of one of its sources, or any if its ID is that of
    /// the lock.
    fn image(&self, source: &Source, path: &Path) -> Result<(Sha256, PathBuf)> {
        let reference = source.reference.as_deref().context("no reference")?;
        let place = || source.file.clone();
        let saved = Saved::open(File::open(path)?, self.staging).with_context(place)?;
        let error = match saved.named(reference, self.staging) {
            Ok(image) => {
                if saved.is_plain(reference).with_context(place)? {
                    image.check().with_context(place)?;
                    return Ok((image.id().clone(), path.to_owned()));
                }
                let archive = self.staging.join(&source.name);
                let written = Content::Image(&image).write(&archive, Some(reference));
                written.with_context(place)?;
                return Ok((image.id().clone(), archive));
            }
            Err(error) => error,
        };
        let sources = source.upstream().into_iter();
        let mut sources = sources.flat_map(|upstream| self.definition.sources_of(upstream));
        let has_name_of = |upstream: &Upstream| match upstream {
            Upstream::Image(name) => saved.named(name, self.staging).is_ok(),
            Upstream::File(_) => false,
        };
        let is_named = sources.any(has_name_of);
        let known = source.locked(&self.definition.lock);
        let known = known.and_then(|artifact| artifact.image_id.as_ref());
        let image = match saved.choose(Some(reference), self.staging) {
            Ok(image) if is_named || known == Some(image.id()) => image,
            _ => return Err(error.context(source.file.clone())),
        };
        let renamed = self.staging.join(&source.name);
        Content::Image(&image).write(&renamed, Some(reference))?;
        Ok((image.id().clone(), renamed))
    }

    /// Verifies the component's own bytes against the lock. Returns whether the lock has a digest.
    fn check(&self, collected: &Collected<'_>) -> Result<bool> {
        let source = collected.source;
        let Some(artifact) = source.locked(&self.definition.lock) else {
            return Ok(false);
        };
        if source.part().is_none() && artifact.sha512.is_some() {
            self.check_artifact(&collected.path, source)?;
            return Ok(true);
        }
        let (found, expected) = lock::expectation(
            artifact,
            source.part().as_deref(),
            collected.image_id.as_ref(),
            &collected.sha256,
        );
        match expected {
            Some(expected) if expected != found => {
                bail!(mismatch(
                    Path::new(&source.file),
                    &found.into(),
                    &expected.into(),
                    source
                ))
            }
            expected => Ok(expected.is_some()),
        }
    }
}

fn mismatch(path: &Path, found: &Digest, expected: &Digest, source: &Source) -> String {
    let name = path.file_name().unwrap_or_default().display();
    let again = source
        .upstream()
        .map_or(String::new(), |u| format!("; fetch it again from {u}"));
    format!(
        "{name}: its {} is {}, but bundle.lock has {}{again}",
        found.algorithm(),
        found.digits(),
        expected.digits()
    )
}

fn hash(path: &Path) -> Result<(u64, Sha256)> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let mut reader = Hashing::new(BufReader::with_capacity(256 * 1024, file));
    io::copy(&mut reader, &mut io::sink()).with_context(|| path.display().to_string())?;
    Ok(reader.finish())
}

/// Bytes of all collected files.
pub fn total(collected: &[Collected<'_>]) -> u64 {
    collected.iter().map(|one| one.size).sum()
}
