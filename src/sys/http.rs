//! HTTP clients: for this node's own servers, with its certificates, and for other servers.

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

/// The timeout for a connection to another server.
pub const CONNECT: Duration = Duration::from_secs(20);
/// How long another server may send nothing.
pub const STALL: Duration = Duration::from_secs(60);
/// The name of this program in requests.
pub const USER_AGENT: &str = concat!("appliance/", env!("CARGO_PKG_VERSION"));
const MAX_REDIRECTS: usize = 10;

/// A client certificate and its private key, both in PEM.
pub struct Identity<'a> {
    /// The certificate.
    pub certificate: &'a [u8],
    /// The private key.
    pub key: &'a [u8],
}

/// A client that trusts only the certificate authorities in `authorities` (PEM), presents
/// `identity` to a server that requests it, uses no proxy, follows no redirect, and gives up
/// after `timeout`.
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
        .context("cannot make an HTTP client")
}

/// Gets `url`. Any answer other than 2xx is an error with its root cause.
pub fn get(client: &Client, url: &str) -> Result<()> {
    send(client.get(url)).map(drop)
}

/// Sends a request. Any answer other than 2xx is an error with its root cause.
pub fn send(request: RequestBuilder) -> Result<Response> {
    let response = request.send().map_err(|error| root_cause(&error))?;
    let status = response.status();
    anyhow::ensure!(status.is_success(), "answers {status}");
    Ok(response)
}

/// The root cause of an error: the outer errors only repeat the address.
pub fn root_cause(error: &(dyn std::error::Error + 'static)) -> anyhow::Error {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    anyhow!("{cause}")
}

/// The failure of a request without an answer. Only errors of the network are worth another try.
#[expect(clippy::needless_pass_by_value, reason = "the form `map_err` wants")]
pub fn unsent(error: reqwest::Error) -> Failure {
    if error.is_redirect() || error.is_builder() || is_tls_refusal(&error) {
        return permanent(root_cause(&error));
    }
    transient(root_cause(&error))
}

/// The failure of a request with an error as the answer. 408, 429 and 5xx are worth another try, after
/// the server's `Retry-After` (in seconds; a date is not supported).
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

/// Whether the answer is a web page, as from a captive portal, and not a file.
pub fn is_web_page(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("text/html"))
}

/// Whether the server's certificate or its version of TLS was refused: another try would fail, too.
pub fn is_tls_refusal(error: &(dyn std::error::Error + 'static)) -> bool {
    // The sources of an I/O error do not include the error inside it.
    let hidden = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>()
        || hidden.is_some_and(|hidden| is_tls_refusal(hidden))
        || error.source().is_some_and(is_tls_refusal)
}

/// A client for other servers: trusts the system's certificate authorities, uses the proxies of the
/// environment, follows no redirect from https to http, and gives up on a server that sends nothing
/// for [`STALL`].
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
            return attempt.error("redirects too often");
        }
        attempt.follow()
    });
    Client::builder()
        .redirect(redirects)
        .connect_timeout(CONNECT)
        .timeout(STALL)
        .user_agent(USER_AGENT)
        .build()
        .context("cannot make an HTTP client")
}

/// Makes ring the default cryptography of this process, for libraries that do not choose.
pub fn use_ring() {
    // This fails only if a default was set before, and that was ring, too.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
