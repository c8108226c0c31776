//! Fetches images from a registry: manifest, configuration and layers, each verified by its digest.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use futures_util::StreamExt;
use oci_client::client::{BlobResponse, ClientConfig, SizedStream};
use oci_client::errors::{DigestError, OciDistributionError};
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageManifest, OciManifest,
};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};

use super::mirror::Mirrors;
use crate::bundle::cache::{Cache, Incoming};
use crate::bundle::image::MAX_DOCUMENT;
use crate::bundle::image::registry::{blob_of, for_this_platform, parse_manifest};
use crate::digest::{Digest, Sha256};
use crate::sys::http;
use crate::sys::progress::{Progress, Silent};
use crate::sys::retry::{Failure, Schedule, retried};

const ACCEPTED: [&str; 4] = [
    IMAGE_MANIFEST_MEDIA_TYPE,
    IMAGE_MANIFEST_LIST_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE,
    OCI_IMAGE_INDEX_MEDIA_TYPE,
];

/// An image in a registry: the one whose manifest has this digest or, if none is given, the one with this
/// tag.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Registry, repository and tag.
    pub reference: &'a str,
    /// The digest of its manifest, or of its list of manifests.
    pub manifest: Option<&'a Sha256>,
}

/// Fetches the image into the cache. Returns the digest of its manifest.
pub fn pull(
    wanted: Wanted<'_>,
    mirrors: &Mirrors,
    cache: &Cache,
    schedule: Schedule,
    progress: &dyn Progress,
) -> Result<Sha256> {
    let puller = puller(wanted, mirrors, cache, schedule, progress)?;
    puller
        .pull(wanted.manifest)
        .with_context(|| format!("image {}", puller.image))
}

/// Asks for the image's manifest only. Returns the size of the image in bytes, or `None` if the answer is
/// a list of manifests for several platforms.
pub fn size(wanted: Wanted<'_>, mirrors: &Mirrors, cache: &Cache) -> Result<Option<u64>> {
    let puller = puller(wanted, mirrors, cache, Schedule::ONCE, &Silent)?;
    let ask = || -> Result<Option<u64>> {
        let bytes = puller.ask_for_manifest(&puller.image);
        let bytes = bytes.map_err(Failure::into_error)?;
        let OciManifest::Image(image) = parse_manifest(&bytes)? else {
            return Ok(None);
        };
        let blobs = std::iter::once(&image.config).chain(&image.layers);
        let sizes = blobs.map(|blob| Ok(blob_of(blob)?.1));
        let total: u64 = sizes.sum::<Result<u64>>()?;
        Ok(Some(total + bytes.len() as u64))
    };
    ask().with_context(|| format!("image {}", puller.image))
}

fn puller<'a>(
    wanted: Wanted<'_>,
    mirrors: &Mirrors,
    cache: &'a Cache,
    schedule: Schedule,
    progress: &'a dyn Progress,
) -> Result<Puller<'a>> {
    let (mut image, protocol) = mirrors.image(wanted.reference)?;
    if let Some(sha256) = wanted.manifest {
        image = image.clone_with_digest(format!("sha256:{sha256}"));
    }
    http::use_ring();
    let config = ClientConfig {
        protocol,
        read_timeout: Some(http::STALL),
        connect_timeout: Some(http::CONNECT),
        user_agent: http::USER_AGENT,
        // Without proxies here, the client uses those of the environment.
        ..ClientConfig::default()
    };
    Ok(Puller {
        client: Client::try_from(config)?,
        auth: credentials(image.resolve_registry()),
        runtime: tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?,
        image,
        cache,
        schedule,
        progress,
    })
}

/// The credentials from `docker login`, for private registries.
fn credentials(registry: &str) -> RegistryAuth {
    use docker_credential::DockerCredential::{IdentityToken, UsernamePassword};
    match docker_credential::get_credential(registry) {
        Ok(UsernamePassword(user, password)) => RegistryAuth::Basic(user, password),
        Ok(IdentityToken(token)) => RegistryAuth::Bearer(token),
        Err(_) => RegistryAuth::Anonymous,
    }
}

struct Puller<'a> {
    client: Client,
    auth: RegistryAuth,
    runtime: tokio::runtime::Runtime,
    image: Reference,
    cache: &'a Cache,
    schedule: Schedule,
    progress: &'a dyn Progress,
}

impl Puller<'_> {
    fn pull(&self, expected: Option<&Sha256>) -> Result<Sha256> {
        let (mut manifest, mut parsed) = self.manifest(&self.image)?;
        if let Some(digest) = for_this_platform(&parsed)? {
            let one = self.image.clone_with_digest(format!("sha256:{digest}"));
            let (digest, inner) = self.manifest(&one)?;
            parsed = inner;
            // A published checksum may be that of the list, which is not needed for anything else.
            manifest = expected.cloned().unwrap_or(digest);
        }
        match parsed {
            OciManifest::Image(image) => self.blobs(&image)?,
            OciManifest::ImageIndex(_) => {
                bail!("its list of manifests contains another list, which is not supported")
            }
        }
        Ok(manifest)
    }

    fn manifest(&self, image: &Reference) -> Result<(Sha256, OciManifest)> {
        let known = image.digest().map(Sha256::from_prefixed).transpose()?;
        let bytes = match known.filter(|digest| self.cache.contains(digest)) {
            Some(digest) => self.cache.read_small(&digest, MAX_DOCUMENT)?,
            None => retried(&image.to_string(), self.schedule, || {
                self.ask_for_manifest(image)
            })
            .map_err(Failure::into_error)?,
        };
        let parsed = parse_manifest(&bytes)?;
        Ok((self.cache.keep(&bytes)?, parsed))
    }

    fn ask_for_manifest(&self, image: &Reference) -> Result<Vec<u8>, Failure> {
        let ask = self.client.pull_manifest_raw(image, &self.auth, &ACCEPTED);
        match self.runtime.block_on(ask) {
            Ok((bytes, _)) if bytes.len() as u64 <= MAX_DOCUMENT => Ok(bytes.to_vec()),
            Ok(_) => Err(Failure::Permanent(anyhow!(
                "the manifest is longer than {MAX_DOCUMENT} bytes"
            ))),
            Err(OciDistributionError::DigestError(error)) => Err(Failure::Permanent(
                anyhow!(error).context("the manifest does not match its digest, or is of schema 1"),
            )),
            Err(error) => Err(failure(error)),
        }
    }

    fn blobs(&self, image: &OciImageManifest) -> Result<()> {
        let descriptors: Vec<&OciDescriptor> = std::iter::once(&image.config)
            .chain(&image.layers)
            .collect();
        let blobs = descriptors
            .iter()
            .map(|d| blob_of(d))
            .collect::<Result<Vec<_>>>()?;
        let total = blobs.iter().map(|(_, size)| size).sum();
        let mut done = 0;
        for (descriptor, (sha256, size)) in descriptors.into_iter().zip(&blobs) {
            self.progress.set(done, Some(total));
            if !self.cache.contains(sha256) {
                let attempt = || self.blob(descriptor, sha256, *size, (done, total));
                retried(&descriptor.digest, self.schedule, attempt)
                    .map_err(Failure::into_error)
                    .with_context(|| format!("blob {sha256}"))?;
            }
            done += size;
        }
        self.progress.set(done, Some(total));
        Ok(())
    }

    fn blob(
        &self,
        descriptor: &OciDescriptor,
        sha256: &Sha256,
        size: u64,
        (done, total): (u64, u64),
    ) -> Result<(), Failure> {
        // Images share layers: another download may have fetched this one meanwhile.
        let incoming = self.cache.receive(sha256);
        let Some(mut incoming) = incoming.map_err(Failure::Permanent)? else {
            return Ok(());
        };
        if incoming.bytes() > size {
            incoming.restart().map_err(Failure::Permanent)?;
        }
        let resumed = incoming.bytes();
        let digest = Digest::from(sha256);
        if !incoming.is(&digest) {
            self.runtime.block_on(async {
                let offset = incoming.bytes();
                let pull =
                    self.client
                        .pull_blob_stream_partial(&self.image, descriptor, offset, None);
                let stream = match pull.await.map_err(failure)? {
                    BlobResponse::Partial(stream) => stream,
                    BlobResponse::Full(stream) => {
                        incoming.restart().map_err(Failure::Permanent)?;
                        stream
                    }
                };
                self.progress.set(done + incoming.bytes(), Some(total));
                self.receive(stream, size, &mut incoming).await
            })?;
        }
        match incoming.finish(sha256.as_str(), Some(&digest)) {
            Ok(_) => Ok(()),
            Err(error) if resumed > 0 => Err(Failure::Transient(error, Duration::ZERO)),
            Err(error) => Err(Failure::Permanent(error)),
        }
    }

    async fn receive(
        &self,
        mut stream: SizedStream,
        size: u64,
        incoming: &mut Incoming<'_>,
    ) -> Result<(), Failure> {
        while let Some(chunk) = stream.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                // `Incoming::finish` verifies the digest, too, and keeps the file for inspection.
                Err(error) if is_mismatch(&error) => break,
                Err(error) => {
                    return Err(Failure::Transient(http::root_cause(&error), Duration::ZERO));
                }
            };
            if incoming.bytes() + chunk.len() as u64 > size {
                incoming.restart().map_err(Failure::Permanent)?;
                return Err(Failure::Permanent(anyhow!(
                    "the registry sends more than the {size} bytes that the manifest announces"
                )));
            }
            incoming
                .write(&chunk)
                .map_err(|error| Failure::Permanent(error.into()))?;
            self.progress.advance(chunk.len() as u64);
        }
        if incoming.bytes() < size {
            let error = anyhow!("the body ended after {} of {size} bytes", incoming.bytes());
            return Err(Failure::Transient(error, Duration::ZERO));
        }
        Ok(())
    }
}

fn is_mismatch(error: &std::io::Error) -> bool {
    let inner = error.get_ref();
    inner.is_some_and(<dyn std::error::Error + Send + Sync>::is::<DigestError>)
}

/// Only errors of the network and of busy servers are worth another try.
fn failure(error: OciDistributionError) -> Failure {
    match error {
        OciDistributionError::RequestError(error) => http::unsent(error),
        OciDistributionError::ServerError { code, .. }
            if code >= 500 || matches!(code, 408 | 429) =>
        {
            Failure::Transient(anyhow!("answers {code}"), Duration::ZERO)
        }
        // The server's own text is left out: it may be a whole web page.
        OciDistributionError::ServerError { code, url, .. } => {
            Failure::Permanent(anyhow!("{url} answers {code}"))
        }
        error => Failure::Permanent(error.into()),
    }
}
