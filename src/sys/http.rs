//! HTTP: asking this node's own servers with its certificates, and asking servers elsewhere.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::retry::{Failure, permanent, transient};

/// How long a server elsewhere may take to be reached.
pub const CONNECT: Duration = Duration::from_secs(20);
/// How long a server elsewhere may say nothing.
pub const STALL: Duration = Duration::from_secs(60);
/// What this program calls itself.
pub const USER_AGENT: &str = concat!("appliance/", env!("CARGO_PKG_VERSION"));
const MAX_REDIRECTS: usize = 10;

/// A certificate to show, and its private key, both in PEM.
pub struct Identity<'a> {
    /// The certificate.
    pub certificate: &'a [u8],
    /// The private key.
    pub key: &'a [u8],
}

/// A client that trusts only the certificate authorities in `authorities` (PEM), shows
/// `identity` where a server asks for it, uses no proxy, follows no redirect, and gives
/// up after `timeout`.
pub fn client(
    authorities: &[u8],
    identity: Option<&Identity<'_>>,
    timeout: Duration,
) -> Result<Client> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let tls = match identity {
        Some(identity) => {
            let chain = CertificateDer::pem_slice_iter(identity.certificate)
                .collect::<Result<Vec<_>, _>>()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(identity.key)?)?
        }
        None => builder.with_no_client_auth(),
    };
    client_of(tls, timeout)
}

/// Like [`client`], with a TLS configuration of the caller's own.
pub fn client_of(tls: ClientConfig, timeout: Duration) -> Result<Client> {
    Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(Policy::none())
        .timeout(timeout)
        .build()
        .context("make an HTTP client")
}

/// Gets `url`; anything but an answer of 2xx is an error that says what went wrong at the root.
pub fn get(client: &Client, url: &str) -> Result<()> {
    send(client.get(url)).map(drop)
}

/// Sends a request; anything but an answer of 2xx is an error that says what went wrong at the root.
pub fn send(request: RequestBuilder) -> Result<Response> {
    let response = request.send().map_err(|error| root_cause(&error))?;
    let status = response.status();
    anyhow::ensure!(status.is_success(), "answers {status}");
    Ok(response)
}

/// What went wrong at the root: the outer errors only repeat the address.
pub fn root_cause(error: &(dyn std::error::Error + 'static)) -> anyhow::Error {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    anyhow!("{cause}")
}

/// No answer: only what the network did is worth another try.
#[expect(clippy::needless_pass_by_value, reason = "the form `map_err` wants")]
pub fn unsent(error: reqwest::Error) -> Failure {
    if error.is_redirect() || error.is_builder() || is_tls_refusal(&error) {
        return permanent(root_cause(&error));
    }
    transient(root_cause(&error))
}

/// An answer that is no success: 408, 429 and 5xx are worth another try, after what the server's
/// `Retry-After` says (in seconds; a date is not understood).
pub fn refused(status: StatusCode, headers: &HeaderMap) -> Failure {
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

/// Whether a page for people came, as from a captive portal, and not a file.
pub fn is_web_page(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("text/html"))
}

/// Whether the server's certificate, or the way it speaks TLS, was refused: it will be again.
pub fn is_tls_refusal(error: &(dyn std::error::Error + 'static)) -> bool {
    // An I/O error hides the error it is made of from its sources.
    let hidden = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>()
        || hidden.is_some_and(|hidden| is_tls_refusal(hidden))
        || error.source().is_some_and(is_tls_refusal)
}

/// A client for servers elsewhere: trusts the system's certificate authorities, takes proxies
/// from the environment, never goes from https to http, and gives up on a server that says
/// nothing for [`STALL`].
pub fn public_client() -> Result<Client> {
    use_ring();
    let redirects = Policy::custom(|attempt| {
        let was_safe = attempt
            .previous()
            .last()
            .is_some_and(|url| url.scheme() == "https");
        if was_safe && attempt.url().scheme() != "https" {
            let error = format!("redirects to {}, which is not encrypted", attempt.url());
            return attempt.error(error);
        }
        if attempt.previous().len() > MAX_REDIRECTS {
            return attempt.error("redirects without end");
        }
        attempt.follow()
    });
    Client::builder()
        .redirect(redirects)
        .connect_timeout(CONNECT)
        .timeout(STALL)
        .user_agent(USER_AGENT)
        .build()
        .context("make an HTTP client")
}

/// Makes ring the process's choice where a library is not told one.
pub fn use_ring() {
    // It fails only where a choice was made before, and that was this one.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
