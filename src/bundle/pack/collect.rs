//! Finds every component's file, in a directory or in the cache, also inside archives and images;
//! and verifies each against `bundle.lock`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::bundle::archive;
use crate::bundle::cache::Cache;
use crate::bundle::definition::{Definition, Source};
use crate::bundle::elf::Program;
use crate::bundle::image::{self, Image};
use crate::bundle::lock;
use crate::bundle::manifest::Kind;
use crate::bundle::upstream::Upstream;
use crate::digest::Sha256;
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
    pub source_sha256: Option<Sha256>,
}

/// Where a component's bytes come from.
#[derive(Debug)]
enum Origin {
    /// A file.
    Plain(PathBuf),
    /// An archive that contains them.
    Member(PathBuf),
    /// An image in the cache, whose manifest has this digest.
    Image(Sha256),
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
    collector.check_archives(&origins)?;
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
        let origins: Vec<Option<Origin>> = components
            .iter()
            .map(|source| self.origin(source))
            .collect();
        let missing: Vec<String> = components
            .iter()
            .zip(&origins)
            .filter(|(_, origin)| origin.is_none())
            .map(|(source, _)| self.describe(source))
            .collect();
        ensure!(missing.is_empty(), "{}", self.missing(&missing));
        Ok(origins.into_iter().flatten().collect())
    }

    fn origin(&self, source: &Source) -> Option<Origin> {
        if let Some(dir) = self.places.components {
            let bare = dir.join(&source.file);
            if bare.is_file() {
                return Some(Origin::Plain(bare));
            }
            let archive = source.member.as_ref().and(source.source.as_ref());
            let archive = archive.map(|upstream| dir.join(upstream.file_name()));
            if let Some(archive) = archive.filter(|archive| archive.is_file()) {
                return Some(Origin::Member(archive));
            }
        }
        let sha256 = source.locked(&self.definition.lock)?.sha256.known()?;
        let cache = self.places.cache.filter(|cache| cache.contains(sha256))?;
        Some(match (&source.source, &source.member) {
            (Some(Upstream::Image(_)), _) => Origin::Image(sha256.clone()),
            (_, Some(_)) => Origin::Member(cache.path(sha256)),
            (_, None) => Origin::Plain(cache.path(sha256)),
        })
    }

    fn describe(&self, source: &Source) -> String {
        let from = match (&source.source, &source.supplier) {
            (Some(upstream), _) => format!(", from {upstream}"),
            (None, Some(supplier)) => format!(", from {supplier}"),
            (None, None) => String::new(),
        };
        let archive = source.member.as_ref().and(source.source.as_ref());
        let archive = archive.map_or(String::new(), |upstream| {
            format!(" or {}", upstream.file_name())
        });
        let unlocked = source.source.is_some()
            && source
                .locked(&self.definition.lock)
                .and_then(|a| a.sha256.known())
                .is_none();
        let unlocked = if unlocked {
            "; it has no checksum in bundle.lock"
        } else {
            ""
        };
        format!("{}{archive}{from}{unlocked}", source.file)
    }

    fn missing(&self, missing: &[String]) -> String {
        let mut places = Vec::new();
        places.extend(self.places.components.map(|dir| dir.display().to_string()));
        places.extend(
            self.places
                .cache
                .map(|cache| format!("the cache {}", cache.dir().display())),
        );
        format!(
            "these files are not in {}:\n  {}\nfetch them with `appliance bundle fetch --bundle \
             BUNDLE`, or name their directory with `--components DIR`",
            places.join(" or "),
            missing.join("\n  ")
        )
    }

    /// Verifies every archive that is read, and checks that it has the members that are needed.
    fn check_archives(&self, origins: &[Origin]) -> Result<()> {
        let mut archives: BTreeMap<&Path, (&Source, Vec<&str>)> = BTreeMap::new();
        for (source, origin) in self.definition.components.iter().zip(origins) {
            if let (Origin::Member(archive), Some(member)) = (origin, &source.member) {
                let (_, members) = archives.entry(archive).or_insert((source, Vec::new()));
                members.push(member);
            }
        }
        for (archive, (source, members)) in archives {
            let artifact = source.locked(&self.definition.lock);
            if let Some(expected) = artifact.and_then(|artifact| artifact.sha256.known()) {
                let (_, found) = hash(archive)?;
                ensure!(
                    found == *expected,
                    mismatch(archive, &found, expected, source)
                );
            }
            archive::inspect(archive, &members).with_context(|| archive.display().to_string())?;
        }
        Ok(())
    }

    fn one(&self, source: &'a Source, origin: &Origin) -> Result<Collected<'a>> {
        let path = match origin {
            Origin::Plain(path) => path.clone(),
            Origin::Member(archive) => self.extract(source, archive)?,
            Origin::Image(manifest) => self.assemble(source, manifest)?,
        };
        let (size, sha256) = hash(&path)?;
        let image_id = match source.kind {
            Kind::Image => Some(self.image_id(source, &path)?),
            Kind::Program | Kind::CniPlugin => {
                Program::read(&path).with_context(|| source.file.clone())?;
                None
            }
        };
        let mut collected = Collected {
            source,
            path,
            size,
            sha256,
            image_id,
            source_sha256: None,
        };
        let is_held = self.check(&collected)?;
        // A file from a directory need not be the published one.
        if is_held || !matches!(origin, Origin::Plain(_)) {
            let artifact = source.locked(&self.definition.lock);
            collected.source_sha256 =
                artifact.and_then(|artifact| artifact.sha256.known().cloned());
        }
        Ok(collected)
    }

    fn extract(&self, source: &Source, archive: &Path) -> Result<PathBuf> {
        let member = source.member.as_deref().context("no member")?;
        let path = self.staging.join(&source.name);
        let mut file = File::create_new(&path)?;
        let copy = |_, content: &mut dyn io::Read| Ok(io::copy(content, &mut file)?);
        archive::read_member(archive, member, copy)
            .with_context(|| archive.display().to_string())?;
        Ok(path)
    }

    fn assemble(&self, source: &Source, manifest: &Sha256) -> Result<PathBuf> {
        let cache = self.places.cache.context("no cache")?;
        let reference = source.reference.as_deref().context("no reference")?;
        let path = self.staging.join(&source.name);
        let mut file = File::create_new(&path)?;
        Image::read(cache, manifest)?.write_archive(cache, reference, &mut file)?;
        Ok(path)
    }

    fn image_id(&self, source: &Source, path: &Path) -> Result<Sha256> {
        let reference = source.reference.as_deref().context("no reference")?;
        let file = BufReader::new(File::open(path)?);
        image::check_archive(file, reference).with_context(|| source.file.clone())
    }

    /// Verifies the component's own bytes against the lock. Returns whether the lock has a digest.
    fn check(&self, collected: &Collected<'_>) -> Result<bool> {
        let source = collected.source;
        let Some(artifact) = source.locked(&self.definition.lock) else {
            return Ok(false);
        };
        let (found, expected) = lock::expectation(
            artifact,
            source.member.as_deref(),
            collected.image_id.as_ref(),
            &collected.sha256,
        );
        match expected {
            Some(expected) if expected != found => {
                bail!(mismatch(&collected.path, found, expected, source))
            }
            expected => Ok(expected.is_some()),
        }
    }
}

fn mismatch(path: &Path, found: &Sha256, expected: &Sha256, source: &Source) -> String {
    let name = path.file_name().unwrap_or_default().display();
    let again = source
        .source
        .as_ref()
        .map_or(String::new(), |u| format!("; fetch it again from {u}"));
    format!("{name}: its sha256 is {found}, but bundle.lock has {expected}{again}")
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
