//! Asks sources for artifacts without downloading them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, anyhow};

use super::download::Downloader;
use super::mirror::Mirrors;
use super::registry::{self, Wanted};
use crate::bundle::cache::Cache;
use crate::bundle::lock::{Artifact, Checksum};
use crate::bundle::upstream::Upstream;
use crate::sys::http::Unreachable;

/// Asks sources for artifacts without downloading them.
pub struct Probe<'a> {
    cache: &'a Cache,
    mirrors: &'a Mirrors,
    downloader: Downloader,
    /// The servers that do not answer, each with the reason, so that nobody waits for them twice.
    silent: Mutex<BTreeMap<String, String>>,
}

impl<'a> Probe<'a> {
    /// A probe with these mirrors.
    pub fn new(cache: &'a Cache, mirrors: &'a Mirrors) -> Result<Probe<'a>> {
        Ok(Probe {
            cache,
            mirrors,
            downloader: Downloader::new()?,
            silent: Mutex::new(BTreeMap::new()),
        })
    }

    /// The address that is asked, and the size of the artifact in bytes if the server says.
    pub fn ask(
        &self,
        source: &Upstream,
        artifact: Option<&Artifact>,
    ) -> (String, Result<Option<u64>>) {
        let (address, host) = match self.address(source) {
            Ok(found) => found,
            Err(error) => return (source.to_string(), Err(error)),
        };
        let silent = || self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = silent().get(&host) {
            return (address, Err(anyhow!("{reason}")));
        }
        let found = self.size(source, artifact);
        let reason = found.as_ref().err();
        let reason = reason.and_then(|error| error.downcast_ref::<Unreachable>());
        if let Some(reason) = reason {
            silent().insert(host, reason.to_string());
            return (address, Err(anyhow!("{reason}")));
        }
        (address, found)
    }

    fn address(&self, source: &Upstream) -> Result<(String, String)> {
        Ok(match source {
            Upstream::File(url) => {
                let url = self.mirrors.url(url)?;
                let host = url.host_str().unwrap_or_default().to_owned();
                (url.to_string(), host)
            }
            Upstream::Image(reference) => {
                let (image, _) = self.mirrors.image(reference)?;
                (image.to_string(), image.resolve_registry().to_owned())
            }
        })
    }

    fn size(&self, source: &Upstream, artifact: Option<&Artifact>) -> Result<Option<u64>> {
        match source {
            Upstream::File(url) => self.downloader.size(&self.mirrors.url(url)?),
            Upstream::Image(reference) => {
                let known = artifact.and_then(|artifact| artifact.sha256.as_ref());
                let ask = |manifest| {
                    let wanted = Wanted {
                        reference,
                        manifest,
                    };
                    registry::size(wanted, self.mirrors, self.cache)
                };
                let has_id = artifact.is_some_and(|artifact| artifact.image_id.is_some());
                let found = ask(known.and_then(Checksum::known));
                match &found {
                    // The tag may lead to the same image with another manifest.
                    Err(error) if has_id && !error.is::<Unreachable>() => ask(None),
                    _ => found,
                }
            }
        }
    }
}
