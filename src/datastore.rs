//! The server of Calico's data: a node with Calico's certificate reaches Calico's part of etcd's keys (API v2)
//! here, and nothing else of etcd.
//!
//! etcd itself cannot limit a node to these keys: whoever has a certificate that etcd accepts may read and
//! write everything, also the secrets of Kubernetes. `docs/security.md` compares the other ways.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{self, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use governor::{Quota, RateLimiter};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use percent_encoding::percent_decode_str;
use rustls::{ClientConfig, ServerConfig};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use url::Url;

use crate::components::CALICO_CERTIFICATE;
use crate::pki::inspect;

/// The part of etcd's keys that Calico 2.6 uses (libcalico-go, `lib/backend/model`).
const KEYS: &str = "/v2/keys/calico";
/// The health endpoint of etcd. Nodes see here whether the member of this master is healthy.
const HEALTH: &str = "/health";
/// How long a client may take for the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client may take to send the head of its next request, or the body.
const REQUEST: Duration = Duration::from_secs(60);
/// How long etcd may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long etcd may take to begin its answer. It begins the answer to a watch at once.
const ANSWER: Duration = Duration::from_secs(20);
/// The longest body of a request, in bytes. Calico's longest value, a block of addresses, has some 10 KiB.
const MAX_BODY: usize = 256 * 1024;
/// How many connections may be open at a time.
const MOST_CONNECTIONS: usize = 16_384;
/// How many of them may be of one address. A node has about ten, and more while pods start.
const MOST_OF_AN_ADDRESS: usize = 128;
/// How many connections an address may open at once, and then per second. Each start of a pod takes some.
const BURST: NonZeroU32 = NonZeroU32::new(512).unwrap();
const EACH_SECOND: NonZeroU32 = NonZeroU32::new(64).unwrap();
/// How often old addresses are dropped.
const HOUSEKEEPING: Duration = Duration::from_secs(60);
/// How long to wait if no connection can be accepted because file descriptors are used up.
const PAUSE: Duration = Duration::from_millis(100);
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
}

/// Serves nodes at `listener`, without end, with the keys of the etcd at `url`.
pub fn run(
    listener: TcpListener,
    server: ServerConfig,
    url: &Url,
    client: ClientConfig,
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
    let room = Room::default();
    let connections = RateLimiter::keyed(Quota::per_second(EACH_SECOND).allow_burst(BURST));
    let mut looked = Instant::now();
    log::info!("listening at {}", listener.local_addr()?);
    loop {
        if looked.elapsed() >= HOUSEKEEPING {
            looked = Instant::now();
            connections.retain_recent();
        }
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                log::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if connections.check_key(&address.ip()).is_err() {
            continue;
        }
        let Some(permit) = room.enter(address.ip()) else {
            continue;
        };
        let connection = connection(stream, address, acceptor.clone(), router.clone());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                log::debug!("{address}: {error:#}");
            }
            drop(permit);
        });
    }
}

/// Counts the connections that are open, by the address of the client.
#[derive(Clone, Default)]
struct Room(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// One connection in the count.
struct Permit {
    room: Room,
    address: IpAddr,
}

impl Room {
    /// Counts a connection until its permit is dropped. `None` if there are too many.
    fn enter(&self, address: IpAddr) -> Option<Permit> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = open.get(&address).copied().unwrap_or_default();
        if own >= MOST_OF_AN_ADDRESS || open.values().sum::<usize>() >= MOST_CONNECTIONS {
            return None;
        }
        open.insert(address, own + 1);
        let room = self.clone();
        Some(Permit { room, address })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.room.0.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&self.address) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(open.remove(&self.address)),
        }
    }
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    router: Router,
) -> Result<()> {
    // Watches need low latency.
    stream.set_nodelay(true)?;
    let stream = timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    let certificates = stream.get_ref().1.peer_certificates();
    let shown = certificates.and_then(|chain| chain.first());
    let shown = inspect::inspect_der(shown.context("no certificate")?)?;
    let client = Client {
        address: address.ip(),
        is_calico: shown.common_name == CALICO_CERTIFICATE,
    };
    let service = TowerToHyperService::new(router.layer(axum::Extension(client)));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST)
        .serve_connection(TokioIo::new(stream), service)
        .await?;
    Ok(())
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
        let path: String = request.uri().path().chars().take(SHOWN).collect();
        log::warn!(
            "{} asked for {} {}, which is not allowed here",
            client.address,
            request.method(),
            path.escape_debug()
        );
        let why = "only Calico's keys are here";
        return refused(StatusCode::FORBIDDEN, UNAUTHORIZED, why);
    };
    let (parts, body) = request.into_parts();
    let Ok(Ok(body)) = timeout(REQUEST, to_bytes(body, MAX_BODY)).await else {
        let why = "the body is too long, or took too long";
        return refused(StatusCode::BAD_REQUEST, INVALID_FORM, why);
    };
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
