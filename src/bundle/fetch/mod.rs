//! Fetches every artifact of a bundle into the cache, and verifies it against `bundle.lock`.

use std::error::Error;
use std::fmt::Display;
use std::fs;

use anyhow::{Context, Result, anyhow, bail, ensure};

mod download;
pub mod mirror;
mod probe;
mod registry;

use self::download::{Downloader, Expected};
use self::mirror::Mirrors;
pub use self::probe::Probe;
use self::registry::Wanted;
use super::cache::{Cache, CannotWrite};
use super::contents::{self, Content};
use super::definition::{Definition, Source};
use super::image::Layered;
use super::image::registry::Image;
use super::lock::{Artifact, Checksum, Lock};
use super::upstream::Upstream;
use crate::digest::{Digest, Sha256};
use crate::sys::host::program_name;
use crate::sys::parallel;
use crate::sys::progress::Progress;
use crate::sys::retry::Schedule;
use crate::sys::stream::sha256_of;

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
        ensure_locked(definition)?;
        self.all(definition, &definition.upstreams())
    }

    /// Like [`Fetcher::fetch`], and returns the lock with the sizes and checksums that were found.
    /// An artifact without a checksum is accepted only with `trust_on_first_use`.
    pub fn lock(&self, definition: &Definition, trust_on_first_use: bool) -> Result<Lock> {
        if !trust_on_first_use {
            ensure_locked(definition)?;
        }
        let summary = self.all(definition, &definition.upstreams())?;
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
        let present = self
            .present(upstream, &artifact)
            .with_context(|| upstream.to_string())?;
        let (digest, served) = match present {
            Some(digest) => (digest, None),
            None => {
                let sources = definition.sources_of(upstream);
                let (digest, address) = self.first(&sources, &artifact)?;
                (digest, Some(address))
            }
        };
        let is_known = artifact.is_verifiable();
        if artifact.digest().is_none()
            && let Digest::Sha256(sha256) = &digest
        {
            artifact.trusted_on_first_use |= !is_known;
            artifact.sha256 = Some(Checksum::Known(sha256.clone()));
        }
        self.look_inside(definition, upstream, &digest, &mut artifact)
            .with_context(|| upstream.to_string())?;
        if let Some(served) = &served {
            let size = artifact.size.unwrap_or_default();
            log::info!("{upstream}: {size} bytes, served by {served}");
        }
        Ok((artifact, served.is_some()))
    }

    /// The digest of the artifact's file, or of its manifest, if all of it is in the cache.
    fn present(&self, upstream: &Upstream, artifact: &Artifact) -> Result<Option<Digest>> {
        if let Upstream::Image(_) = upstream {
            let Some((manifest, image)) = Image::find(self.cache, artifact)? else {
                return Ok(None);
            };
            for blob in image.blobs() {
                self.cache.check(blob)?;
            }
            return Ok(Some(Digest::Sha256(manifest)));
        }
        let digest = artifact.digest();
        let Some(digest) = digest.filter(|digest| self.cache.contains(digest)) else {
            return Ok(None);
        };
        self.cache.check(&digest)?;
        Ok(Some(digest))
    }

    /// Fetches the artifact from the first of its sources that serves it. Returns its digest and the
    /// address that served it.
    fn first(&self, sources: &[&Upstream], artifact: &Artifact) -> Result<(Digest, String)> {
        let mut failures = Vec::new();
        for (number, source) in sources.iter().enumerate() {
            let next = sources.get(number + 1);
            let schedule = match next {
                Some(_) => Schedule::BRIEF,
                None => Schedule::PATIENT,
            };
            let error = match self.from(source, artifact, schedule) {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            match next {
                Some(next) if !is_local(&error) => {
                    log::warn!("{error:#}; trying the next source, {next}");
                    failures.push(format!("{error:#}"));
                }
                _ if failures.is_empty() || is_local(&error) => return Err(error),
                _ => failures.push(format!("{error:#}")),
            }
        }
        bail!(
            "none of its {} sources serves {}:\n  {}",
            sources.len(),
            artifact.url,
            failures.join("\n  ")
        )
    }

    fn from(
        &self,
        source: &Upstream,
        artifact: &Artifact,
        schedule: Schedule,
    ) -> Result<(Digest, String)> {
        let progress = (self.begin)(source.file_name(), artifact.size.unwrap_or(0));
        match source {
            Upstream::File(url) => {
                let url = self.mirrors.url(url)?;
                let digest = artifact.digest();
                let expected = Expected {
                    digest: digest.as_ref(),
                    size: artifact.size,
                };
                let downloader = Downloader::new()?;
                let found = downloader.fetch(&url, expected, self.cache, schedule, &*progress)?;
                Ok((found, url.to_string()))
            }
            Upstream::Image(reference) => {
                let manifest = self.image(reference, artifact, schedule, &*progress)?;
                let (served, _) = self.mirrors.image(reference)?;
                Ok((Digest::Sha256(manifest), served.to_string()))
            }
        }
    }

    /// Fetches the image by the digest of its manifest. If a registry has no such manifest, or if only
    /// the image ID is known, fetches the one with the tag and compares the ID.
    fn image(
        &self,
        reference: &str,
        artifact: &Artifact,
        schedule: Schedule,
        progress: &dyn Progress,
    ) -> Result<Sha256> {
        let known = artifact.sha256.as_ref().and_then(Checksum::known);
        let pull = |manifest| {
            let wanted = Wanted {
                reference,
                manifest,
            };
            registry::pull(wanted, self.mirrors, self.cache, schedule, progress)
        };
        let Some(id) = &artifact.image_id else {
            return pull(known);
        };
        if known.is_some() {
            match pull(known) {
                Err(error) if !is_local(&error) => {
                    log::warn!("{error:#}; trying the tag and the image ID");
                }
                found => return found,
            }
        }
        let manifest = pull(None)?;
        let check = || {
            let found = Image::read(self.cache, &manifest)?;
            hold("its image ID", Some(id.clone()), found.id())?;
            found.check()
        };
        if let Err(error) = check() {
            // Only its tag and its configuration led to this manifest: it must not be found again.
            self.cache.forget(&manifest)?;
            return Err(error.context(reference.to_owned()));
        }
        Ok(manifest)
    }

    /// Compares the content of the artifact with its entry in the lock, and completes the entry.
    fn look_inside(
        &self,
        definition: &Definition,
        upstream: &Upstream,
        digest: &Digest,
        artifact: &mut Artifact,
    ) -> Result<()> {
        let mut members = std::mem::take(&mut artifact.members);
        let note = |component: &Source, content: Content<'_>| {
            let name = component.part().unwrap_or_default();
            let found = match content {
                Content::File(reader) => sha256_of(reader)?,
                Content::Image(image) => image.config().id.clone(),
            };
            let known = members.insert(name.clone(), found.clone());
            hold(&format!("the sha256 of {name}"), known, &found)
        };
        let mut parts = definition.components_of(upstream);
        parts.retain(|component| component.part().is_some());
        let size = match digest {
            Digest::Sha256(manifest) if matches!(upstream, Upstream::Image(_)) => {
                self.look_inside_image(manifest, &parts, artifact, note)?
            }
            _ => {
                let path = self.cache.path(digest);
                if !parts.is_empty() {
                    contents::of_archive(&path, &parts, self.cache.dir(), note)?;
                } else if let Digest::Sha512(_) = digest {
                    // What is unpacked on a node is verified by this one.
                    let found = sha256_of(fs::File::open(&path)?)?;
                    let known = artifact.sha256.as_ref().and_then(Checksum::known);
                    hold("its sha256", known.cloned(), &found)?;
                    artifact.sha256 = Some(Checksum::Known(found));
                }
                fs::metadata(path)?.len()
            }
        };
        artifact.members = members;
        // The same image from another registry may be compressed in another way.
        if artifact.digest().as_ref() != Some(digest) && artifact.image_id.is_some() {
            return Ok(());
        }
        hold("its size in bytes", artifact.size.replace(size), &size)
    }

    fn look_inside_image(
        &self,
        manifest: &Sha256,
        parts: &[&Source],
        artifact: &mut Artifact,
        mut note: impl FnMut(&Source, Content<'_>) -> Result<()>,
    ) -> Result<u64> {
        let image = Image::read(self.cache, manifest)?;
        hold(
            "its image ID",
            artifact.image_id.replace(image.id().clone()),
            image.id(),
        )?;
        for part in parts {
            contents::of_image(&image, part, self.cache.dir(), &mut note)?;
        }
        Ok(image.size())
    }
}

/// Whether this machine cannot write: then another server does not help.
fn is_local(error: &anyhow::Error) -> bool {
    error.chain().any(<dyn Error>::is::<CannotWrite>)
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

/// Refuses a bundle with artifacts that cannot be verified, all in one error.
pub fn ensure_locked(definition: &Definition) -> Result<()> {
    let lock = &definition.lock;
    let upstreams = definition.upstreams();
    let list = |is_wrong: &dyn Fn(Option<&Artifact>) -> bool| {
        let wrong = upstreams.iter().filter(|one| is_wrong(lock.get(one)));
        let wrong: Vec<String> = wrong.map(ToString::to_string).collect();
        wrong.join("\n  ")
    };
    let accept = format!(
        "to accept what the servers send now and verify all later downloads against it, run `{} bundle \
         lock --bundle {} --trust-on-first-use{}`",
        program_name(),
        definition.given,
        definition.output_for_lock()
    );
    let missing = list(&|artifact| artifact.is_none());
    ensure!(
        missing.is_empty(),
        "bundle.lock has no entry for:\n  {missing}\nadd them with their published checksums; or, {accept}"
    );
    let unverified = list(&|artifact| artifact.is_some_and(|one| !one.is_verifiable()));
    ensure!(
        unverified.is_empty(),
        "bundle.lock has no checksum for:\n  {unverified}\nadd checksums that you trust; or, {accept}"
    );
    Ok(())
}
