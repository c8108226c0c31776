//! From `bundle.lock` to the cache: every artifact of a bundle, each byte checked.

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
    /// Where to ask in the place of the artifacts' own addresses.
    pub mirrors: &'a Mirrors,
    /// How many artifacts are fetched at once.
    pub jobs: usize,
    /// Begins to show how far an artifact is: its name, and its bytes or 0.
    pub begin: &'a (dyn Fn(&str, u64) -> Box<dyn Progress> + Sync),
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Artifacts that were fetched.
    pub fetched: Vec<Artifact>,
    /// Artifacts that were in the cache already.
    pub present: Vec<Artifact>,
}

impl Fetcher<'_> {
    /// Brings every artifact of the bundle into the cache. One without an entry in the lock, or
    /// whose entry has no checksum, is refused before anything is fetched.
    pub fn fetch(&self, definition: &Definition) -> Result<Summary> {
        let upstreams = definition.upstreams();
        ensure_locked(&definition.lock, &upstreams)?;
        self.all(definition, &upstreams)
    }

    /// Like [`Fetcher::fetch`], and returns the lock with all that became known of its
    /// artifacts. What has no checksum is believed only where `trust_on_first_use` says so.
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

    /// Works on several artifacts at once. What fails does not hold up the others; all
    /// failures are told together.
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

    /// What the artifact is now known to be, and whether it had to be fetched.
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

    /// Brings a file into the cache, and tells its digest and whether it was not there.
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

    /// Brings an image into the cache, and tells the digest of its manifest and whether some of
    /// it was not there.
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

    /// Compares what is in the artifact with what the lock says of it; what the lock does not
    /// say is added.
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
                    "its identifier",
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

/// Refuses what is not as it was known before.
fn hold<T: PartialEq + Display>(what: &str, known: Option<T>, found: &T) -> Result<()> {
    match known.filter(|known| known != found) {
        Some(known) => bail!("{what} is {found}, but bundle.lock has {known}"),
        None => Ok(()),
    }
}

/// Refuses artifacts that cannot be checked, all at once.
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
        "bundle.lock has no entry for:\n  {}\nadd them with their published checksums, or run \
         `appliance bundle lock --trust-on-first-use`",
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
        "nobody published a checksum for:\n  {}\n`appliance bundle lock --trust-on-first-use` notes what comes \
         now, so that all later downloads are held to it; or put checksums you trust into bundle.lock",
        list(unverified)
    );
    Ok(())
}
