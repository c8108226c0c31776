//! One file over HTTP: resumed where it was cut, tried again where that can help.

use std::cell::Cell;
use std::io::Read;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use backon::{BlockingRetryable, ExponentialBuilder};
use reqwest::blocking::{Client, Response};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, RANGE, RETRY_AFTER};
use reqwest::{StatusCode, Url};

use crate::bundle::cache::{Cache, Incoming};
use crate::sys::digest::Sha256;
use crate::sys::http;
use crate::sys::progress::Progress;

/// How often one file is asked for before its failure is told.
const ATTEMPTS: usize = 6;
/// The longest a server's `Retry-After` is honoured.
const MAX_PAUSE: Duration = Duration::from_secs(120);
/// More than any artifact has, in bytes, where the lock does not know.
const MAX_SIZE: u64 = 4 * 1024 * 1024 * 1024;
const CHUNK: usize = 256 * 1024;

/// What a file has to be, as far as that is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected<'a> {
    /// Its digest.
    pub sha256: Option<&'a Sha256>,
    /// Its bytes.
    pub size: Option<u64>,
}

/// Why an attempt failed.
#[derive(Debug)]
pub enum Failure {
    /// Another attempt may succeed, after at least so long.
    Transient(anyhow::Error, Duration),
    /// No other attempt will.
    Permanent(anyhow::Error),
}

impl Failure {
    /// The error, for whoever gives up.
    pub fn into_error(self) -> anyhow::Error {
        match self {
            Failure::Transient(error, _) | Failure::Permanent(error) => error,
        }
    }
}

fn transient(error: impl Into<anyhow::Error>) -> Failure {
    Failure::Transient(error.into(), Duration::ZERO)
}

fn permanent(error: impl Into<anyhow::Error>) -> Failure {
    Failure::Permanent(error.into())
}

/// Runs `attempt` until it succeeds, fails for good, or has had its chances; `what` is named
/// in the line that tells of another try.
pub fn retried<T>(what: &str, attempt: impl FnMut() -> Result<T, Failure>) -> Result<T> {
    let asked_for = Rc::new(Cell::new(Duration::ZERO));
    let pause = Rc::clone(&asked_for);
    let backoff = ExponentialBuilder::new()
        .with_jitter()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(30))
        .with_max_times(ATTEMPTS - 1);
    attempt
        .retry(backoff)
        .sleep(move |delay: Duration| std::thread::sleep(delay.max(pause.get())))
        .when(|failure| matches!(failure, Failure::Transient(..)))
        .notify(|failure, _| {
            if let Failure::Transient(error, after) = failure {
                asked_for.set((*after).min(MAX_PAUSE));
                log::warn!("{what}: {error:#}; trying again");
            }
        })
        .call()
        .map_err(Failure::into_error)
}

/// Downloads files.
pub struct Downloader {
    client: Client,
}

impl Downloader {
    /// One that takes proxies from the environment and trusts the system's authorities.
    pub fn new() -> Result<Downloader> {
        Ok(Downloader {
            client: http::public_client()?,
        })
    }

    /// Brings the file at `url` into the cache and tells its digest. What an earlier run left of
    /// it is gone on with.
    pub fn fetch(
        &self,
        url: &Url,
        expected: Expected<'_>,
        cache: &Cache,
        progress: &dyn Progress,
    ) -> Result<Sha256> {
        let attempt = || self.attempt(url, expected, cache, progress);
        retried(url.as_str(), attempt).with_context(|| url.to_string())
    }

    fn attempt(
        &self,
        url: &Url,
        expected: Expected<'_>,
        cache: &Cache,
        progress: &dyn Progress,
    ) -> Result<Sha256, Failure> {
        let incoming = match expected.sha256 {
            Some(sha256) => match cache.receive(sha256).map_err(permanent)? {
                Some(incoming) => Ok(incoming),
                // Another run has fetched it meanwhile.
                None => return Ok(sha256.clone()),
            },
            None => cache.receive_unverified(url.as_str()),
        };
        let mut incoming = incoming.map_err(permanent)?;
        if expected.size.is_some_and(|size| incoming.bytes() > size) {
            incoming.restart().map_err(permanent)?;
        }
        let resumed = incoming.bytes();
        if !expected.sha256.is_some_and(|sha256| incoming.is(sha256)) {
            let response = self.ask(url, &mut incoming)?;
            receive(response, expected, &mut incoming, progress)?;
        }
        let name = url.path().rsplit('/').next().unwrap_or_default();
        match incoming.finish(name, expected.sha256) {
            Ok(sha256) => Ok(sha256),
            // The part may have been of another file: once more from its beginning.
            Err(error) if resumed > 0 => Err(transient(error)),
            Err(error) => Err(permanent(error)),
        }
    }

    /// Asks for what is missing; a server that sends all of it has it taken from the start.
    fn ask(&self, url: &Url, incoming: &mut Incoming<'_>) -> Result<Response, Failure> {
        let mut request = self.client.get(url.clone());
        if incoming.bytes() > 0 {
            request = request.header(RANGE, format!("bytes={}-", incoming.bytes()));
        }
        let response = request.send().map_err(unsent)?;
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
                "answers with another range than was asked for"
            )));
        }
        if status == StatusCode::RANGE_NOT_SATISFIABLE && incoming.bytes() > 0 {
            incoming.restart().map_err(permanent)?;
            return Err(transient(anyhow!("has less than was there before")));
        }
        if !status.is_success() {
            return Err(refused(status, headers));
        }
        let is_page = |value: &str| value.starts_with("text/html");
        if headers
            .get(CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .is_some_and(is_page)
        {
            return Err(permanent(anyhow!(
                "answers with a web page and not with the file; is a login page or a proxy in the way? \
                 (proxies are taken from HTTPS_PROXY and NO_PROXY; --mirror asks elsewhere)"
            )));
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
                "sends more than the {limit} bytes it should have"
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

/// No answer: only what the network did is worth another try.
#[expect(clippy::needless_pass_by_value, reason = "the form `map_err` wants")]
pub fn unsent(error: reqwest::Error) -> Failure {
    if error.is_redirect() || error.is_builder() || http::is_tls_refusal(&error) {
        return permanent(http::root_cause(&error));
    }
    transient(http::root_cause(&error))
}

fn refused(status: StatusCode, headers: &HeaderMap) -> Failure {
    let error = anyhow!("answers {status}");
    let again = status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
        );
    if !again {
        return Failure::Permanent(error);
    }
    let seconds = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    Failure::Transient(error, Duration::from_secs(seconds.unwrap_or(0)))
}
