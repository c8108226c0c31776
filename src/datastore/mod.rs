//! The server of Calico's data: a node with Calico's certificate reaches Calico's part of etcd's keys (API v2)
//! here, and nothing else of etcd.
//!
//! etcd itself cannot limit a node to these keys: whoever has a certificate that etcd accepts may read and
//! write everything, also the secrets of Kubernetes. `docs/security.md` compares the other ways.

use std::net::{IpAddr, TcpListener};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{self, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ipnet::Ipv4Net;
use percent_encoding::percent_decode_str;
use rustls::{ClientConfig, ServerConfig};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use url::Url;

use self::addresses::Pods;
use self::writes::Write;
use crate::components::CALICO_CERTIFICATE;
use crate::pki::inspect;
use crate::sys::door::{self, Door, Limits, Place};
use crate::sys::notify;

mod addresses;
mod writes;

/// The part of etcd's keys that Calico 2.6 uses (libcalico-go, `lib/backend/model`).
const KEYS: &str = "/v2/keys/calico";
/// The health endpoint of etcd. Nodes see here whether the member of this master is healthy.
const HEALTH: &str = "/health";
/// How long a client may take to send the head of its next request, or the body.
const REQUEST: Duration = Duration::from_secs(60);
/// How long etcd may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long etcd may take to begin its answer. It begins the answer to a watch at once.
const ANSWER: Duration = Duration::from_secs(20);
/// The longest body of a request, in bytes: the longest value, with three bytes for each.
const MAX_BODY: usize = 128 * 1024;
/// How many bytes an address may write at once, and then per second. etcd's API v2 has no quota: it keeps all
/// values in memory.
const WRITTEN: NonZeroU32 = NonZeroU32::new(4 * 1024 * 1024).unwrap();
const WRITTEN_EACH_SECOND: NonZeroU32 = NonZeroU32::new(64 * 1024).unwrap();
/// What a request counts in addition to its body, in bytes: etcd keeps its key, too.
const KEY: u32 = 256;
/// The limits for clients. A node has about ten connections, and more while pods start: each start of a pod
/// takes some. A client has done its part after the TLS handshake.
const LIMITS: Limits = Limits {
    open: 16_384,
    of_an_address: 128,
    burst: NonZeroU32::new(512).unwrap(),
    each_second: NonZeroU32::new(64).unwrap(),
    patience: Duration::from_secs(10),
};
/// How much of a refused path is logged, in characters.
const SHOWN: usize = 200;
/// etcd's codes `EcodeUnauthorized`, `EcodeInvalidForm` and `EcodeRaftInternal`.
const UNAUTHORIZED: u32 = 110;
const INVALID_FORM: u32 = 210;
const RAFT_INTERNAL: u32 = 300;

/// The etcd behind this server.
#[derive(Clone)]
struct Etcd {
    url: Url,
    client: reqwest::Client,
    /// The ranges of pods.
    pods: Arc<[Ipv4Net]>,
    /// What each address has written.
    written: Arc<DefaultKeyedRateLimiter<IpAddr>>,
}

impl Etcd {
    /// The URL for a request. `None` if its path would not be sent as it came: a URL takes `\\` for `/` and
    /// resolves `..`, so the path that was checked would not be the one that etcd gets.
    fn url_of(&self, request: &Request) -> Option<Url> {
        let asked = request.uri();
        let mut url = self.url.clone();
        url.set_path(asked.path());
        url.set_query(asked.query());
        (url.path() == asked.path()).then_some(url)
    }

    /// Whether a client at this address may write `bytes` more now.
    fn may_write(&self, address: IpAddr, bytes: usize) -> bool {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).saturating_add(KEY);
        let Some(bytes) = NonZeroU32::new(bytes) else {
            return true;
        };
        matches!(self.written.check_key_n(&address, bytes), Ok(Ok(())))
    }
}

/// Serves nodes at `listener`, without end, with the keys of the etcd at `url`. Pods have addresses in the ranges
/// `pods` only.
pub fn run(
    listener: TcpListener,
    server: ServerConfig,
    url: &Url,
    client: ClientConfig,
    pods: &[Ipv4Net],
) -> Result<()> {
    let etcd = Etcd {
        url: url.clone(),
        client: reqwest::Client::builder()
            .tls_backend_preconfigured(client)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .build()
            .context("cannot make a client of etcd")?,
        pods: pods.into(),
        written: Arc::new(RateLimiter::keyed(
            Quota::per_second(WRITTEN_EACH_SECOND).allow_burst(WRITTEN),
        )),
    };
    listener.set_nonblocking(true)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(serve(listener, server, etcd))
}

async fn serve(listener: TcpListener, server: ServerConfig, etcd: Etcd) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let router = Router::new().fallback(answer).with_state(etcd);
    let door = Door::new(LIMITS);
    log::info!("listening at {}", listener.local_addr()?);
    notify::ready();
    loop {
        let (stream, guest) = door.next(&listener).await;
        let (address, place) = (guest.address.ip(), guest.place.clone());
        guest.spawn(connection(
            stream,
            place,
            address,
            acceptor.clone(),
            router.clone(),
        ));
    }
}

async fn connection(
    stream: TcpStream,
    place: Place,
    address: IpAddr,
    acceptor: TlsAcceptor,
    router: Router,
) -> Result<()> {
    // Watches need low latency.
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    place.settle();
    let certificates = stream.get_ref().1.peer_certificates();
    let shown = certificates.and_then(|chain| chain.first());
    let shown = inspect::inspect_der(shown.context("no certificate")?)?;
    let client = Client {
        address,
        is_calico: shown.common_name == CALICO_CERTIFICATE,
    };
    door::answer(stream, router.layer(axum::Extension(client)), REQUEST, true).await
}

/// The client of a connection.
#[derive(Clone, Copy)]
struct Client {
    address: IpAddr,
    /// Whether it has Calico's certificate. Any certificate of the cluster passes the handshake.
    is_calico: bool,
}

async fn answer(
    State(etcd): State<Etcd>,
    axum::Extension(client): axum::Extension<Client>,
    request: Request,
) -> Response {
    let url = etcd.url_of(&request);
    let allowed = url.filter(|url| client.is_calico && is_allowed(request.method(), url.path()));
    let Some(url) = allowed else {
        let why = "only Calico's keys are here";
        log_refusal(client, request.method(), request.uri().path(), why);
        return refused(StatusCode::FORBIDDEN, UNAUTHORIZED, why);
    };
    let (parts, body) = request.into_parts();
    let Ok(Ok(body)) = timeout(REQUEST, to_bytes(body, MAX_BODY)).await else {
        let why = "the body is too long, or took too long";
        return refused(StatusCode::BAD_REQUEST, INVALID_FORM, why);
    };
    if let Some(why) = refused_write(&parts, &url, &body, &etcd.pods) {
        log_refusal(client, &parts.method, url.path(), why);
        return refused(StatusCode::FORBIDDEN, UNAUTHORIZED, why);
    }
    if is_write(&parts.method) && !etcd.may_write(client.address, body.len()) {
        let why = "this address writes too much";
        log_refusal(client, &parts.method, url.path(), why);
        return refused(StatusCode::SERVICE_UNAVAILABLE, RAFT_INTERNAL, why);
    }
    match forward(&etcd, &parts, url, body).await {
        Ok(response) => response,
        Err(error) => {
            log::warn!("etcd does not answer: {error:#}");
            // Clients of etcd ask the next master then.
            let why = "etcd does not answer";
            refused(StatusCode::SERVICE_UNAVAILABLE, RAFT_INTERNAL, why)
        }
    }
}

fn log_refusal(client: Client, method: &Method, path: &str, why: &str) {
    let path: String = path.chars().take(SHOWN).collect();
    log::warn!(
        "refused {method} {} of {}: {why}",
        path.escape_debug(),
        client.address
    );
}

fn is_write(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD)
}

/// Why a request may not change what it would; `None` if it may, or if it changes nothing.
fn refused_write(parts: &Parts, url: &Url, body: &Bytes, pods: &[Ipv4Net]) -> Option<&'static str> {
    if !is_write(&parts.method) {
        return None;
    }
    let below = url.path().strip_prefix(KEYS).unwrap_or_default();
    let Ok(path) = percent_decode_str(below).decode_utf8() else {
        return Some("the key is not UTF-8");
    };
    let kind = parts.headers.get(header::CONTENT_TYPE);
    let write = Write {
        method: &parts.method,
        path: &path,
        query: url.query().unwrap_or_default(),
        content_type: kind.map(HeaderValue::as_bytes),
        body,
        pods: &Pods(pods),
    };
    write.refusal()
}

/// A refusal in etcd's form.
fn refused(status: StatusCode, code: u32, why: &str) -> Response {
    (status, Json(json!({ "errorCode": code, "message": why }))).into_response()
}

/// Whether a node may send such a request to etcd.
fn is_allowed(method: &Method, path: &str) -> bool {
    let methods = [
        &Method::GET,
        &Method::HEAD,
        &Method::PUT,
        &Method::POST,
        &Method::DELETE,
    ];
    (method == Method::GET && path == HEALTH) || (methods.contains(&method) && is_calicos(path))
}

/// Whether the path names [`KEYS`] or a key below, however etcd reads it.
fn is_calicos(path: &str) -> bool {
    let Some(below) = path.strip_prefix(KEYS) else {
        return false;
    };
    // etcd decodes the path once, and then resolves `..`. Calico's keys have no `\\`, which some take for `/`.
    let Ok(below) = percent_decode_str(below).decode_utf8() else {
        return false;
    };
    (below.is_empty() || below.starts_with('/'))
        && !below.contains('\\')
        && !below.split('/').any(|part| part == "..")
}

async fn forward(etcd: &Etcd, parts: &Parts, url: Url, body: Bytes) -> Result<Response> {
    let mut forwarded = etcd.client.request(parts.method.clone(), url).body(body);
    if let Some(kind) = parts.headers.get(header::CONTENT_TYPE) {
        forwarded = forwarded.header(header::CONTENT_TYPE, kind);
    }
    let response = timeout(ANSWER, forwarded.send()).await;
    let response = http::Response::from(response.context("no answer in time")??);
    let (mut parts, body) = response.into_parts();
    // These are about the connection to etcd.
    for name in [header::CONNECTION, header::TRANSFER_ENCODING] {
        parts.headers.remove(name);
    }
    Ok(Response::from_parts(parts, Body::new(body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_calicos_keys_are_reached() {
        for path in [
            "/v2/keys/calico",
            "/v2/keys/calico/",
            "/v2/keys/calico/v1/host/server01/bird_ip",
            "/v2/keys/calico/v1/host/a/workload/k8s/b.c%252fd/endpoint/eth0",
            "/v2/keys/calico//v1",
        ] {
            assert!(is_allowed(&Method::PUT, path), "{path}");
        }
        for path in [
            "/",
            "/v2/keys",
            "/v2/keys/",
            "/v2/keys/calico2",
            "/v2/keys/calico%2f..%2fappliance",
            "/v2/keys/calico/../appliance",
            "/v2/keys/calico/%2e%2e/appliance",
            "/v2/keys/calico/%2E./appliance",
            "/v2/keys/calico/%ff",
            "/v2/keys/calico/..\\appliance",
            "/v2/keys/calico\\..\\appliance",
            "/v2/keys/calico/%2e%2e\\appliance",
            "/v2/keys/calico/..%5cappliance",
            "/v2/keys/calico/a\\b",
            "/v2/keys//calico",
            "/V2/keys/calico",
            "/v2/keys/appliance/tokens",
            "/v2/members",
            "/v2/auth/users",
            "/v2/stats/self",
            "/v3/kv/range",
            "/v3alpha/kv/range",
            "/etcdserverpb.KV/Range",
            "/debug/vars",
            "/metrics",
            "/config/local/log",
        ] {
            for method in [Method::GET, Method::PUT, Method::POST, Method::DELETE] {
                assert!(!is_allowed(&method, path), "{method} {path}");
            }
        }
        assert!(is_allowed(&Method::GET, HEALTH));
        assert!(!is_allowed(&Method::POST, HEALTH));
        assert!(!is_allowed(&Method::CONNECT, "/v2/keys/calico"));
    }
}
