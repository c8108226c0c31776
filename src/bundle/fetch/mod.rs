//! From `bundle.lock` to the cache: every artifact of a bundle, each byte checked.

use anyhow::{Context, Result, anyhow, bail, ensure};

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
use crate::sys::digest::Sha256;
use crate::sys::parallel;
use crate::sys::progress::{Board, Progress};

/// How artifacts are fetched.
pub struct Fetcher<'a> {
    /// Where the files go.
    pub cache: &'a Cache,
    /// Where to ask in the place of the artifacts' own addresses.
    pub mirrors: &'a Mirrors,
    /// How many artifacts are fetched at once.
    pub jobs: usize,
    /// Shows how far each is.
    pub board: &'a Board,
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
        let unknown = Artifact::unverified(upstream);
        let artifact = definition.lock.get(upstream).unwrap_or(&unknown);
        let before = artifact.clone();
        let (artifact, fetched) = match upstream {
            Upstream::File(_) => self.file(upstream, before)?,
            Upstream::Image(reference) => self.image(reference, before)?,
        };
        let artifact = self.look_inside(definition, upstream, artifact)?;
        if fetched {
            log::info!("{upstream}: {} bytes", artifact.size.unwrap_or_default());
        }
        Ok((artifact, fetched))
    }

    fn begin(&self, upstream: &Upstream, artifact: &Artifact) -> Box<dyn Progress> {
        self.board
            .begin(upstream.file_name(), artifact.size.unwrap_or(0))
    }

    fn file(&self, upstream: &Upstream, mut artifact: Artifact) -> Result<(Artifact, bool)> {
        let Upstream::File(url) = upstream else {
            bail!("{upstream} is not a file")
        };
        if let Some(sha256) = artifact
            .sha256
            .known()
            .filter(|sha256| self.cache.contains(sha256))
        {
            let size = self
                .cache
                .check(sha256)
                .with_context(|| upstream.to_string())?;
            ensure_size(&artifact, size)?;
            artifact.size = Some(size);
            return Ok((artifact, false));
        }
        let expected = Expected {
            sha256: artifact.sha256.known(),
            size: artifact.size,
        };
        let progress = self.begin(upstream, &artifact);
        let url = self.mirrors.url(url)?;
        let received = Downloader::new()?.fetch(&url, expected, self.cache, &*progress)?;
        artifact.size = Some(received.size);
        believe(&mut artifact, received.sha256);
        Ok((artifact, true))
    }

    fn image(&self, reference: &str, mut artifact: Artifact) -> Result<(Artifact, bool)> {
        let known = artifact.sha256.known();
        let is_whole = |image: &Image| {
            image
                .layers
                .iter()
                .all(|layer| self.cache.contains(&layer.blob))
        };
        let present = known
            .filter(|sha256| self.cache.contains(sha256))
            .and_then(|sha256| Image::read(self.cache, sha256).ok())
            .filter(is_whole);
        if artifact.size.is_some()
            && let Some(image) = present
        {
            for layer in &image.layers {
                self.cache
                    .check(&layer.blob)
                    .with_context(|| reference.to_owned())?;
            }
            return Ok((artifact, false));
        }
        let progress = self
            .board
            .begin(reference.rsplit('/').next().unwrap_or(reference), 0);
        let pulled = registry::pull(reference, known, self.mirrors, self.cache, &*progress)?;
        artifact.size = Some(pulled.size);
        believe(&mut artifact, pulled.manifest);
        Ok((artifact, present.is_none()))
    }

    /// Compares what is in the artifact with what the lock says of it; what the lock does not
    /// say is added.
    fn look_inside(
        &self,
        definition: &Definition,
        upstream: &Upstream,
        mut artifact: Artifact,
    ) -> Result<Artifact> {
        let Some(sha256) = artifact.sha256.known().cloned() else {
            return Ok(artifact);
        };
        if let Upstream::Image(_) = upstream {
            let image = Image::read(self.cache, &sha256).with_context(|| upstream.to_string())?;
            if let Some(known) = artifact.image_id.filter(|known| *known != image.id) {
                bail!(
                    "{upstream}: its identifier is {}, but bundle.lock has {known}",
                    image.id
                )
            }
            artifact.image_id = Some(image.id);
            return Ok(artifact);
        }
        let wanted = definition.members_of(upstream);
        if wanted.is_empty() {
            return Ok(artifact);
        }
        let found = archive::inspect(&self.cache.path(&sha256), &wanted)
            .with_context(|| upstream.to_string())?;
        for (name, member) in found {
            let known = artifact.members.insert(name.clone(), member.sha256.clone());
            if let Some(known) = known.filter(|known| *known != member.sha256) {
                bail!(
                    "{upstream}: the sha256 of {name} is {}, but bundle.lock has {known}",
                    member.sha256
                )
            }
        }
        Ok(artifact)
    }
}

/// A checksum that was not known before is what came first.
fn believe(artifact: &mut Artifact, found: Sha256) {
    if artifact.sha256 == Checksum::Unverified {
        artifact.trusted_on_first_use = true;
        artifact.sha256 = Checksum::Known(found);
    }
}

fn ensure_size(artifact: &Artifact, size: u64) -> Result<()> {
    if let Some(known) = artifact.size.filter(|known| *known != size) {
        bail!(
            "{}: it has {size} bytes, but bundle.lock says {known}",
            artifact.url
        )
    }
    Ok(())
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
