//! HTTP clients: for this node's own servers, with its certificates, and for other servers.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use reqwest::StatusCode;
use reqwest::blocking::{Client, ClientBuilder, RequestBuilder, Response};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, ClientConfig};
use time::OffsetDateTime;

use super::clock;
use super::retry::{Failure, permanent, transient};
use super::tls::{self, Identity};

/// The timeout for a connection to another server.
pub const CONNECT: Duration = Duration::from_secs(20);
/// How long another server may send nothing.
pub const STALL: Duration = Duration::from_secs(60);
/// The name of this program in requests.
pub const USER_AGENT: &str = concat!("appliance/", env!("CARGO_PKG_VERSION"));
const MAX_REDIRECTS: usize = 10;
/// The environment variables that name a proxy.
pub const PROXIES: [&str; 6] = [
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// A client that trusts only the certificate authorities in `authorities` (PEM), presents
/// `identity` to a server that requests it, uses no proxy, follows no redirect, and gives up
/// after `timeout`.
pub fn client(
    authorities: &[u8],
    identity: Option<&Identity<'_>>,
    timeout: Duration,
) -> Result<Client> {
    client_of(tls::client(authorities, identity)?, timeout)
}

/// Like [`client`], but it reaches the server called `name` at this address, whatever its name resolves to. The
/// certificate of the server must have the name. The port is that of the URL.
pub fn client_at(
    authorities: &[u8],
    identity: &Identity<'_>,
    timeout: Duration,
    (name, address): (&str, SocketAddr),
) -> Result<Client> {
    let tls = tls::client(authorities, Some(identity))?;
    made(strict(tls, timeout).resolve(name, address))
}

/// Like [`client`], with a TLS configuration of the caller's own.
pub fn client_of(tls: ClientConfig, timeout: Duration) -> Result<Client> {
    made(strict(tls, timeout))
}

fn strict(tls: ClientConfig, timeout: Duration) -> ClientBuilder {
    Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(Policy::none())
        .timeout(timeout)
}

fn made(builder: ClientBuilder) -> Result<Client> {
    builder.build().context("cannot make an HTTP client")
}

/// A client of the server at the socket at `path`, which uses no proxy, follows no redirect, and gives up after `timeout`.
pub fn client_of_socket(path: &Path, timeout: Duration) -> Result<Client> {
    // Without TLS at the socket, no authority is trusted.
    made(strict(tls::client(&[], None)?, timeout).unix_socket(path))
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
    if let Some(refusal) = tls_refusal(&error) {
        return permanent(anyhow!("{}", explained(refusal)));
    }
    if error.is_redirect() || error.is_builder() {
        return permanent(root_cause(&error));
    }
    if error.is_connect() {
        return transient(Unreachable::because(&error));
    }
    transient(root_cause(&error))
}

/// Whether no known authority issued the certificate of the server.
pub fn is_of_unknown_authority(error: &reqwest::Error) -> bool {
    use rustls::CertificateError::UnknownIssuer;
    tls_refusal(error) == Some(&rustls::Error::InvalidCertificate(UnknownIssuer))
}

/// A server to which no connection can be made.
#[derive(Debug)]
pub struct Unreachable(String);

impl Unreachable {
    fn because(error: &reqwest::Error) -> Unreachable {
        let cause = root_cause(error).to_string();
        // The resolver's own words do not say what was looked for.
        let is_about_a_name = cause.starts_with("no records found for Query");
        Unreachable(match is_about_a_name {
            true => "the name of the server is not known here".to_owned(),
            false => cause,
        })
    }
}

impl std::error::Error for Unreachable {}

impl fmt::Display for Unreachable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proxy = PROXIES.iter().find(|name| std::env::var_os(name).is_some());
        write!(formatter, "cannot connect: {}", self.0)?;
        match proxy {
            Some(name) => write!(
                formatter,
                " (the proxy of {name} is used; check it, and NO_PROXY)"
            ),
            None => Ok(()),
        }
    }
}

/// Why the server's certificate was refused, and what to do. A wrong clock and a proxy that reads along
/// are the usual causes.
fn explained(refusal: &rustls::Error) -> String {
    use rustls::CertificateError::UnknownIssuer;
    if let Some(said) = about_time(refusal) {
        return said;
    }
    let rustls::Error::InvalidCertificate(problem) = refusal else {
        return format!("TLS: {refusal}");
    };
    match problem {
        UnknownIssuer => "its certificate is not from a known authority; perhaps a proxy or a login page \
                          answers in its place; if your network's proxy reads along, add the proxy's CA \
                          with `update-ca-certificates`, or set SSL_CERT_FILE"
            .to_owned(),
        problem => format!("its certificate is refused: {problem}"),
    }
}

/// What the clocks say, if one of both sides does not take the other's certificate because of the time.
pub fn refused_for_time(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    tls_refusal(error).and_then(about_time)
}

fn about_time(refusal: &rustls::Error) -> Option<String> {
    use rustls::CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    let said = match refusal {
        rustls::Error::InvalidCertificate(NotValidYetContext { not_before, .. }) => format!(
            "its certificate is not valid yet: its own clock says {} or later",
            at(*not_before)
        ),
        rustls::Error::InvalidCertificate(NotValidYet) => {
            "its certificate is not valid yet".to_owned()
        }
        rustls::Error::InvalidCertificate(ExpiredContext { not_after, .. }) => {
            format!("its certificate has expired on {}", at(*not_after))
        }
        rustls::Error::InvalidCertificate(Expired) => "its certificate has expired".to_owned(),
        _ => return None,
    };
    let own = clock::moment(OffsetDateTime::now_utc());
    Some(format!(
        "{said}; this machine's clock says {own}; {}",
        clock::CORRECT
    ))
}

/// A time in a certificate.
fn at(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).ok();
    let time = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    time.map_or_else(|| "an unknown time".to_owned(), clock::moment)
}

/// The failure of a request with an error as the answer. 408, 429 and 5xx are worth another try, after
/// the server's `Retry-After` (in seconds; a date is not supported).
pub fn refused(status: StatusCode, headers: &HeaderMap) -> Failure {
    let error = match status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => anyhow!(
            "answers {status}: the proxy wants a user; set \
             HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT, and HTTP_PROXY for mirrors without TLS"
        ),
        _ if is_web_page(headers) => anyhow!(
            "answers {status} with a web page, perhaps from a proxy; check HTTPS_PROXY and NO_PROXY"
        ),
        _ => anyhow!("answers {status}"),
    };
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
    tls_refusal(error).is_some()
}

/// Whether the server refuses the certificate of this client because it has expired.
pub fn is_expired(error: &(dyn std::error::Error + 'static)) -> bool {
    let expired = rustls::Error::AlertReceived(AlertDescription::CertificateExpired);
    tls_refusal(error) == Some(&expired)
}

fn tls_refusal<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    // The sources of an I/O error do not include the error inside it.
    let hidden = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref);
    error
        .downcast_ref::<rustls::Error>()
        .or_else(|| hidden.and_then(|hidden| tls_refusal(hidden)))
        .or_else(|| error.source().and_then(tls_refusal))
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
            let error = format!(
                "redirects to {}, which is not encrypted; perhaps a login page of this network answers \
                 in its place; log in with a browser first",
                attempt.url()
            );
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

/// Like [`public_client`], but it follows no redirect. With `authorities` (PEM), it trusts only those.
pub fn direct_client(authorities: Option<&[u8]>) -> Result<Client> {
    use_ring();
    let builder = Client::builder();
    let builder = match authorities {
        Some(authorities) => builder.tls_backend_preconfigured(tls::client(authorities, None)?),
        None => builder,
    };
    let builder = builder
        .redirect(Policy::none())
        .connect_timeout(CONNECT)
        .timeout(STALL)
        .user_agent(USER_AGENT);
    made(builder)
}

/// Makes ring the default cryptography of this process, for libraries that do not choose.
pub fn use_ring() {
    // This fails only if a default was set before, and that was ring, too.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
