//! Fetches every artifact of a bundle into the cache, and verifies it against `bundle.lock`.

use std::fmt::Display;
use std::fs;

use anyhow::{Context, Result, anyhow, bail, ensure};
use reqwest::Url;

mod download;
pub mod mirror;
mod registry;

use self::download::{Downloader, Expected};
use self::mirror::Mirrors;
use super::archive;
use super::cache::Cache;
use super::definition::Definition;
use super::image::Image;
use super::lock::{Artifact, Checksum, Lock};
use super::upstream::Upstream;
use crate::digest::Sha256;
use crate::sys::parallel;
use crate::sys::progress::Progress;

/// How artifacts are fetched.
pub struct Fetcher<'a> {
    /// Where the files go.
    pub cache: &'a Cache,
    /// The servers to use instead of the artifacts' own addresses.
    pub mirrors: &'a Mirrors,
    /// How many artifacts are fetched at once.
    pub jobs: usize,
    /// Starts to show the progress of an artifact, from its name and its size in bytes (or 0).
    pub begin: &'a (dyn Fn(&str, u64) -> Box<dyn Progress> + Sync),
}

/// The result of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Artifacts that were fetched.
    pub fetched: Vec<Artifact>,
    /// Artifacts that were in the cache already.
    pub present: Vec<Artifact>,
}

impl Fetcher<'_> {
    /// Fetches every artifact of the bundle into the cache. Fails before it fetches anything if one
    /// has no entry or no checksum in the lock.
    pub fn fetch(&self, definition: &Definition) -> Result<Summary> {
        let upstreams = definition.upstreams();
        ensure_locked(&definition.lock, &upstreams)?;
        self.all(definition, &upstreams)
    }

    /// Like [`Fetcher::fetch`], and returns the lock with the sizes and checksums that were found.
    /// An artifact without a checksum is accepted only with `trust_on_first_use`.
    pub fn lock(&self, definition: &Definition, trust_on_first_use: bool) -> Result<Lock> {
        let upstreams = definition.upstreams();
        if !trust_on_first_use {
            ensure_locked(&definition.lock, &upstreams)?;
        }
        let summary = self.all(definition, &upstreams)?;
        let mut lock = definition.lock.clone();
        for artifact in summary.fetched.into_iter().chain(summary.present) {
            lock.set(artifact);
        }
        Ok(lock)
    }

    /// Fetches several artifacts at once. A failure does not stop the others; all failures are
    /// reported together.
    fn all(&self, definition: &Definition, upstreams: &[&Upstream]) -> Result<Summary> {
        let work = |upstream: &&Upstream| self.one(definition, upstream);
        let results = parallel::map(upstreams, self.jobs, work);
        let (mut summary, mut failures) = (Summary::default(), Vec::new());
        for result in results {
            match result {
                Ok((artifact, true)) => summary.fetched.push(artifact),
                Ok((artifact, false)) => summary.present.push(artifact),
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
        match failures.as_slice() {
            [] => Ok(summary),
            [failure] => Err(anyhow!("{failure}")),
            _ => bail!(
                "{} artifacts failed:\n  {}",
                failures.len(),
                failures.join("\n  ")
            ),
        }
    }

    /// The artifact with all that is known now, and whether it had to be fetched.
    fn one(&self, definition: &Definition, upstream: &Upstream) -> Result<(Artifact, bool)> {
        let locked = definition.lock.get(upstream).cloned();
        let mut artifact = locked.unwrap_or_else(|| Artifact::unverified(upstream));
        let (sha256, fetched) = match upstream {
            Upstream::File(url) => self.file(url, &artifact)?,
            Upstream::Image(reference) => self.image(reference, &artifact)?,
        };
        if artifact.sha256 == Checksum::Unverified {
            artifact.trusted_on_first_use = true;
            artifact.sha256 = Checksum::Known(sha256.clone());
        }
        self.look_inside(definition, upstream, &sha256, &mut artifact)
            .with_context(|| upstream.to_string())?;
        if fetched {
            log::info!("{upstream}: {} bytes", artifact.size.unwrap_or_default());
        }
        Ok((artifact, fetched))
    }

    /// Fetches a file into the cache. Returns its digest, and whether it was missing before.
    fn file(&self, url: &Url, artifact: &Artifact) -> Result<(Sha256, bool)> {
        let known = artifact.sha256.known();
        if let Some(sha256) = known.filter(|sha256| self.cache.contains(sha256)) {
            self.cache.check(sha256).with_context(|| url.to_string())?;
            return Ok((sha256.clone(), false));
        }
        let expected = Expected {
            sha256: known,
            size: artifact.size,
        };
        let name = url.path().rsplit('/').next().unwrap_or_default();
        let progress = (self.begin)(name, artifact.size.unwrap_or(0));
        let url = self.mirrors.url(url)?;
        let sha256 = Downloader::new()?.fetch(&url, expected, self.cache, &*progress)?;
        Ok((sha256, true))
    }

    /// Fetches an image into the cache. Returns the digest of its manifest, and whether a part of it
    /// was missing before.
    fn image(&self, reference: &str, artifact: &Artifact) -> Result<(Sha256, bool)> {
        let known = artifact.sha256.known();
        let present = known
            .filter(|sha256| self.cache.contains(sha256))
            .and_then(|sha256| Some((sha256, Image::read(self.cache, sha256).ok()?)))
            .filter(|(_, image)| {
                image
                    .layers
                    .iter()
                    .all(|layer| self.cache.contains(&layer.blob))
            });
        if let Some((sha256, image)) = present {
            for layer in &image.layers {
                self.cache
                    .check(&layer.blob)
                    .with_context(|| reference.to_owned())?;
            }
            return Ok((sha256.clone(), false));
        }
        let name = reference.rsplit('/').next().unwrap_or(reference);
        let progress = (self.begin)(name, artifact.size.unwrap_or(0));
        let sha256 = registry::pull(reference, known, self.mirrors, self.cache, &*progress)?;
        Ok((sha256, true))
    }

    /// Compares the content of the artifact with its entry in the lock, and completes the entry.
    fn look_inside(
        &self,
        definition: &Definition,
        upstream: &Upstream,
        sha256: &Sha256,
        artifact: &mut Artifact,
    ) -> Result<()> {
        let size = match upstream {
            Upstream::Image(_) => {
                let image = Image::read(self.cache, sha256)?;
                hold(
                    "its image ID",
                    artifact.image_id.replace(image.id.clone()),
                    &image.id,
                )?;
                image.size
            }
            Upstream::File(_) => {
                let path = self.cache.path(sha256);
                let wanted = definition.members_of(upstream);
                for (name, found) in archive::inspect(&path, &wanted)? {
                    let known = artifact.members.insert(name.clone(), found.clone());
                    hold(&format!("the sha256 of {name}"), known, &found)?;
                }
                fs::metadata(path)?.len()
            }
        };
        hold("its size in bytes", artifact.size.replace(size), &size)
    }
}

/// Refuses a value that differs from the known one.
fn hold<T: PartialEq + Display>(what: &str, known: Option<T>, found: &T) -> Result<()> {
    match known.filter(|known| known != found) {
        Some(known) => bail!(
            "{what} is {found}, but bundle.lock has {known}; correct bundle.lock, or fetch from \
             another server with --mirror"
        ),
        None => Ok(()),
    }
}

/// Refuses artifacts that cannot be verified, all in one error.
pub fn ensure_locked(lock: &Lock, upstreams: &[&Upstream]) -> Result<()> {
    let list = |of: Vec<String>| of.join("\n  ");
    let missing: Vec<String> = upstreams
        .iter()
        .filter(|upstream| lock.get(upstream).is_none())
        .map(ToString::to_string)
        .collect();
    let missing_count = missing.len();
    ensure!(
        missing_count == 0,
        "bundle.lock has no entry for:\n  {}\nadd them with their published checksums; or, to accept \
         what the servers send now, run `appliance bundle lock --trust-on-first-use --bundle BUNDLE \
         --output DIR`",
        list(missing)
    );
    let unverified: Vec<String> = upstreams
        .iter()
        .filter(|upstream| {
            lock.get(upstream)
                .is_some_and(|a| a.sha256 == Checksum::Unverified)
        })
        .map(ToString::to_string)
        .collect();
    let unverified_count = unverified.len();
    ensure!(
        unverified_count == 0,
        "bundle.lock has no checksum for:\n  {}\nadd checksums that you trust; or, to accept what the \
         servers send now and verify all later downloads against it, run `appliance bundle lock \
         --trust-on-first-use --bundle BUNDLE --output DIR`",
        list(unverified)
    );
    Ok(())
}
