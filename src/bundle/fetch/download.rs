//! Downloads one file over HTTP. Resumes an interrupted download, and retries if that can help.

use std::io::Read;

use anyhow::{Context, Result, anyhow};
use reqwest::blocking::{Client, Response};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use reqwest::{StatusCode, Url};

use crate::bundle::cache::{Cache, Incoming};
use crate::digest::Digest;
use crate::sys::http;
use crate::sys::progress::Progress;
use crate::sys::retry::{Failure, Schedule, permanent, retried, transient};

/// The maximum size of an artifact, in bytes, if the lock has no size.
const MAX_SIZE: u64 = 4 * 1024 * 1024 * 1024;
const CHUNK: usize = 256 * 1024;
const WEB_PAGE: &str = "answers with a web page instead of the file, perhaps from a login page or a proxy; \
                        check HTTPS_PROXY and NO_PROXY, or use another server with `--mirror HOST=URL`";

/// The expected digest and size of a file, as far as they are known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected<'a> {
    /// Its digest.
    pub digest: Option<&'a Digest>,
    /// Its bytes.
    pub size: Option<u64>,
}

/// Downloads files.
pub struct Downloader {
    client: Client,
}

impl Downloader {
    /// Uses the proxies of the environment and trusts the system's certificate authorities.
    pub fn new() -> Result<Downloader> {
        Ok(Downloader {
            client: http::public_client()?,
        })
    }

    /// Downloads the file at `url` into the cache and returns its digest. Resumes what an earlier run
    /// began.
    pub fn fetch(
        &self,
        url: &Url,
        expected: Expected<'_>,
        cache: &Cache,
        schedule: Schedule,
        progress: &dyn Progress,
    ) -> Result<Digest> {
        let attempt = || self.attempt(url, expected, cache, progress);
        retried(url.as_str(), schedule, attempt)
            .map_err(Failure::into_error)
            .with_context(|| url.to_string())
    }

    /// Asks for the size of the file at `url` in bytes, without the file. `None` if the server does not
    /// say.
    pub fn size(&self, url: &Url) -> Result<Option<u64>> {
        let response = self.client.head(url.clone()).send();
        let response = response.map_err(|error| http::unsent(error).into_error())?;
        let (status, headers) = (response.status(), response.headers());
        if !status.is_success() {
            return Err(http::refused(status, headers).into_error());
        }
        if http::is_web_page(headers) {
            return Err(anyhow!(WEB_PAGE));
        }
        let size = headers.get(CONTENT_LENGTH);
        Ok(size.and_then(|value| value.to_str().ok()?.parse().ok()))
    }

    fn attempt(
        &self,
        url: &Url,
        expected: Expected<'_>,
        cache: &Cache,
        progress: &dyn Progress,
    ) -> Result<Digest, Failure> {
        let incoming = match expected.digest {
            Some(digest) => match cache.receive(digest).map_err(permanent)? {
                Some(incoming) => Ok(incoming),
                // Another run has fetched it meanwhile.
                None => return Ok(digest.clone()),
            },
            None => cache.receive_unverified(url.as_str()),
        };
        let mut incoming = incoming.map_err(permanent)?;
        if expected.size.is_some_and(|size| incoming.bytes() > size) {
            incoming.restart().map_err(permanent)?;
        }
        let resumed = incoming.bytes();
        if !expected.digest.is_some_and(|digest| incoming.is(digest)) {
            let response = self.ask(url, &mut incoming)?;
            receive(response, expected, &mut incoming, progress)?;
        }
        if resumed > 0 && !expected.digest.is_some_and(|digest| incoming.is(digest)) {
            incoming.restart().map_err(permanent)?;
            return Err(transient(anyhow!(
                "the {resumed} bytes that an interrupted run left were of another file, or were damaged when it was \
                 interrupted"
            )));
        }
        let name = url.path().rsplit('/').next().unwrap_or_default();
        incoming.finish(name, expected.digest).map_err(permanent)
    }

    /// Requests the missing bytes. If the server sends the whole file, the download starts again.
    fn ask(&self, url: &Url, incoming: &mut Incoming<'_>) -> Result<Response, Failure> {
        let mut request = self.client.get(url.clone());
        if incoming.bytes() > 0 {
            request = request.header(RANGE, format!("bytes={}-", incoming.bytes()));
        }
        let response = request.send().map_err(http::unsent)?;
        let (status, headers) = (response.status(), response.headers());
        if status == StatusCode::PARTIAL_CONTENT {
            let start = format!("bytes {}-", incoming.bytes());
            let range = headers
                .get(CONTENT_RANGE)
                .and_then(|value| value.to_str().ok());
            if range.is_some_and(|range| range.starts_with(&start)) {
                return Ok(response);
            }
            incoming.restart().map_err(permanent)?;
            return Err(transient(anyhow!(
                "answers with another range than the requested one"
            )));
        }
        if status == StatusCode::RANGE_NOT_SATISFIABLE && incoming.bytes() > 0 {
            incoming.restart().map_err(permanent)?;
            return Err(transient(anyhow!(
                "the file is shorter than the part that was downloaded before"
            )));
        }
        if !status.is_success() {
            return Err(http::refused(status, headers));
        }
        if http::is_web_page(headers) {
            return Err(permanent(anyhow!(WEB_PAGE)));
        }
        incoming.restart().map_err(permanent)?;
        Ok(response)
    }
}

fn receive(
    mut response: Response,
    expected: Expected<'_>,
    incoming: &mut Incoming<'_>,
    progress: &dyn Progress,
) -> Result<(), Failure> {
    let total = response
        .content_length()
        .map(|left| incoming.bytes() + left);
    progress.set(incoming.bytes(), expected.size.or(total));
    let limit = expected.size.unwrap_or(MAX_SIZE);
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = response.read(&mut chunk).map_err(|error| {
            transient(anyhow!(error).context(format!(
                "the connection ended after {} bytes",
                incoming.bytes()
            )))
        })?;
        if count == 0 {
            break;
        }
        if incoming.bytes() + count as u64 > limit {
            incoming.restart().map_err(permanent)?;
            return Err(permanent(anyhow!(
                "sends more than the expected {limit} bytes"
            )));
        }
        incoming.write(&chunk[..count]).map_err(permanent)?;
        progress.advance(count as u64);
    }
    match expected.size {
        Some(size) if incoming.bytes() < size => Err(transient(anyhow!(
            "the body ended after {} of {size} bytes",
            incoming.bytes()
        ))),
        _ => Ok(()),
    }
}
