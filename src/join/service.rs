//! The HTTPS service for joining: it reads requests from the network, enforces limits, and forwards
//! them to the signer. It runs as a separate user and has no secrets.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path as UrlPath, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use rcgen::CertificateParams;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use super::late;
use super::message::{FOLLOW, HELLO, JOIN, MAX_REQUEST, PROGRAM, RENEW, Reason, Refusal, TRUST};
use super::program::Program;
use super::signer::{Answer, MAX_MESSAGE, Message, Question, Visit};
use crate::digest::Sha256;
use crate::formats;
use crate::paths;
use crate::pki::bytes::Base64;
use crate::pki::inspect::{CertificateInfo, inspect_der};
use crate::pki::key;
use crate::sys::door::{self, Door, Limits, Place};
use crate::sys::notify;
use crate::sys::tls::{self, Identity};

/// The limits for clients. A node has one connection at a time; a request each takes a new one. A client has
/// done its part when the service has its whole request.
const LIMITS: Limits = Limits {
    open: 256,
    of_an_address: 16,
    burst: NonZeroU32::new(60).unwrap(),
    each_second: NonZeroU32::new(6).unwrap(),
    patience: Duration::from_secs(10),
};
/// How long a connection may take in total: handshake, request and answer.
const CONNECTION: Duration = Duration::from_secs(30);
/// How long the signer may take to answer.
const SIGNER: Duration = Duration::from_secs(20);
/// How many questions the service asks the signer at a time. Further ones wait in turn: so a renewal waits for
/// a few joins only, however many there are.
const MOST_QUESTIONS: usize = 8;
/// How many requests an address may send at once, and then per second. An exchange takes two. Below the limit
/// for connections, requests beyond this one get an answer with the reason.
const BURST: NonZeroU32 = NonZeroU32::new(20).unwrap();
const EACH_SECOND: NonZeroU32 = NonZeroU32::new(2).unwrap();
/// How often the service checks whether a token is left, and drops old addresses.
const HOUSEKEEPING: Duration = Duration::from_secs(10);

/// How often a service asks for another certificate while its own is not valid: the signer has none while the clock shows
/// a time before the cluster.
const NEXT_CERTIFICATE: Duration = Duration::from_secs(60);

/// What a listener serves.
#[derive(Clone, Debug)]
pub enum Doors {
    /// Workers with a token, as long as a valid token exists.
    Join,
    /// Nodes with a certificate of these CAs (PEM), always.
    Renew(Vec<u8>),
}

struct Shared {
    signer: PathBuf,
    server_certificate: Vec<u8>,
    program: Program,
    limiter: DefaultKeyedRateLimiter<IpAddr>,
    turns: Semaphore,
}

/// The client of a connection.
#[derive(Clone)]
struct Peer {
    address: IpAddr,
    certificate: Option<Vec<u8>>,
    place: Place,
}

/// Serves `doors` at `listener`, and asks the signer at the socket `signer`. Returns when no valid
/// token is left.
pub fn run(listener: std::net::TcpListener, signer: &Path, doors: &Doors) -> Result<()> {
    listener.set_nonblocking(true)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(serve(listener, signer, doors))
}

/// What answers clients, with a certificate of its own.
struct Front {
    shared: Arc<Shared>,
    acceptor: TlsAcceptor,
    router: Router,
    info: CertificateInfo,
}

impl Front {
    /// With a new certificate from the signer.
    async fn new(signer: &Path, doors: &Doors) -> Result<Front> {
        let (certificate, key) = certificate(signer).await?;
        let first = CertificateDer::from_pem_slice(&certificate);
        let first = first.context("the signer sent no certificate")?;
        let shared = Arc::new(Shared {
            signer: signer.to_owned(),
            server_certificate: first.to_vec(),
            program: Program::at(paths::PROGRAM.into()),
            limiter: RateLimiter::keyed(Quota::per_second(EACH_SECOND).allow_burst(BURST)),
            turns: Semaphore::new(MOST_QUESTIONS),
        });
        let identity = Identity {
            certificate: &certificate,
            key: key.as_bytes(),
        };
        let clients = match doors {
            Doors::Join => None,
            Doors::Renew(authorities) => Some(late::clients_of(authorities)?),
        };
        Ok(Front {
            acceptor: TlsAcceptor::from(Arc::new(tls::server(&identity, clients)?)),
            router: router(&shared, doors),
            info: inspect_der(&first)?,
            shared,
        })
    }

    /// Whether clients whose clocks are right accept the certificate at `now`. They do not after the clock of this machine
    /// was set: far forward, or back to a time before the certificate was made.
    fn is_timely(&self, now: OffsetDateTime) -> bool {
        (self.info.not_before..self.info.not_after).contains(&now)
    }
}

async fn serve(listener: std::net::TcpListener, signer: &Path, doors: &Doors) -> Result<()> {
    let mut front = Front::new(signer, doors).await?;
    let listener = TcpListener::from_std(listener)?;
    log::info!("listening at {}", listener.local_addr()?);
    notify::ready();
    let door = Door::new(LIMITS);
    let mut looked = Instant::now();
    let mut asked = Instant::now();
    loop {
        if looked.elapsed() >= HOUSEKEEPING {
            looked = Instant::now();
            front.shared.limiter.retain_recent();
            if matches!(doors, Doors::Join) && !is_needed(signer).await? {
                log::info!("no valid join token is left; make one with `appliance token create`");
                return Ok(());
            }
            if !front.is_timely(OffsetDateTime::now_utc()) && asked.elapsed() >= NEXT_CERTIFICATE {
                asked = Instant::now();
                front = renewed(front, signer, doors).await;
            }
        }
        let Ok((stream, guest)) = timeout(HOUSEKEEPING, door.next(&listener)).await else {
            continue;
        };
        let (address, place) = (guest.address.ip(), guest.place.clone());
        let (acceptor, router) = (front.acceptor.clone(), front.router.clone());
        let connection = connection(stream, place, address, acceptor, router);
        guest.spawn(async { timeout(CONNECTION, connection).await.unwrap_or(Ok(())) });
    }
}

/// With a new certificate; the former one stays while there is none, because the clock is still wrong.
async fn renewed(front: Front, signer: &Path, doors: &Doors) -> Front {
    match Front::new(signer, doors).await {
        Ok(renewed) => {
            log::info!("the clock was set: this service has a new certificate");
            renewed
        }
        Err(why) => {
            log::debug!("this service keeps its certificate: {why:#}");
            front
        }
    }
}

async fn connection(
    stream: TcpStream,
    place: Place,
    address: IpAddr,
    acceptor: TlsAcceptor,
    router: Router,
) -> Result<()> {
    let stream = acceptor.accept(stream).await?;
    let certificates = stream.get_ref().1.peer_certificates();
    let peer = Peer {
        address,
        certificate: certificates.and_then(|chain| chain.first().map(|first| first.to_vec())),
        place,
    };
    door::answer(stream, router.layer(Extension(peer)), CONNECTION, false).await
}

fn router(shared: &Arc<Shared>, doors: &Doors) -> Router {
    let routes = match doors {
        Doors::Join => Router::new()
            .route(HELLO, post(hello))
            .route(JOIN, post(join)),
        Doors::Renew(_) => Router::new()
            .route(RENEW, post(renew))
            .route(TRUST, post(trust))
            .route(FOLLOW, post(follow))
            .route(&format!("{PROGRAM}/{{sha256}}/{{from}}"), get(program)),
    };
    routes
        .fallback(elsewhere)
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .layer(middleware::from_fn_with_state(shared.clone(), limit))
        .with_state(shared.clone())
}

/// Refuses clients that send too many requests, before it reads anything.
async fn limit(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    if shared.limiter.check_key(&peer.address).is_ok() {
        return next.run(request).await;
    }
    let why = "too many requests from this address; wait a few seconds and try again";
    let refusal = refused(Refusal::new(Reason::TooManyRequests, why));
    ([(header::RETRY_AFTER, "5")], refusal).into_response()
}

async fn hello(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Response {
    pass(&shared, &peer, parse(&body).map(Message::Hello)).await
}

async fn join(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Response {
    pass(&shared, &peer, parse(&body).map(Message::Join)).await
}

async fn renew(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Response {
    pass_of_node(&shared, &peer, &body, Message::Renew).await
}

async fn trust(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Response {
    pass_of_node(&shared, &peer, &body, Message::Trust).await
}

async fn follow(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Response {
    pass_of_node(&shared, &peer, &body, Message::Follow).await
}

/// A part of the appliance of this master. Whether a node runs it, the signer of a master decides.
async fn program(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    UrlPath((sha256, from)): UrlPath<(Sha256, u64)>,
) -> Response {
    peer.place.settle();
    let read = spawn_blocking(move || shared.program.part(&sha256, from)).await;
    match read {
        Ok(Ok(Some(bytes))) => bytes.into_response(),
        Ok(Ok(None)) => StatusCode::NOT_FOUND.into_response(),
        Ok(Err(error)) => {
            log::error!("cannot read the appliance of this master: {error}");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Refuses requests of another version of the protocol, with what to do.
async fn elsewhere(Extension(peer): Extension<Peer>, uri: Uri) -> Response {
    peer.place.settle();
    match formats::version_of_path(uri.path()) {
        Some(version) if version != formats::JOIN.number => refused(Refusal::new(
            Reason::UnsupportedVersion,
            format!(
                "this master speaks version {} of the join protocol, and not {version}; nodes and masters with the same \
                 program speak the same: compare `appliance version`, and upgrade the masters first",
                formats::JOIN.number
            ),
        )),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        Refusal::new(
            Reason::BadRequest,
            format!("invalid request: {error}{}", of_newer(&error)),
        )
    })
}

/// What to do if a request is valid JSON, but no message that this master knows.
fn of_newer(error: &serde_json::Error) -> &'static str {
    match error.is_data() {
        true => {
            "; if the program of the node is newer, upgrade the masters first (`appliance version`)"
        }
        false => "",
    }
}

fn refused(refusal: Refusal) -> Response {
    let status = StatusCode::from_u16(refusal.reason.status());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Json(refusal)).into_response()
}

/// Passes on what a node with a certificate asks.
async fn pass_of_node<T: DeserializeOwned>(
    shared: &Shared,
    peer: &Peer,
    body: &[u8],
    message: impl FnOnce(Base64, T) -> Message,
) -> Response {
    // Without a client certificate, the TLS handshake already fails.
    let certificate = Base64(peer.certificate.clone().unwrap_or_default());
    let message = parse(body).map(|request| message(certificate, request));
    pass(shared, peer, message).await
}

async fn pass(shared: &Shared, peer: &Peer, message: Result<Message, Refusal>) -> Response {
    peer.place.settle();
    let message = match message {
        Ok(message) => message,
        Err(refusal) => return refused(refusal),
    };
    let visit = Visit {
        address: peer.address,
        server_certificate: Base64(shared.server_certificate.clone()),
        message,
    };
    // The semaphore is never closed.
    let _turn = shared.turns.acquire().await;
    match ask(&shared.signer, &Question::From(visit)).await {
        Ok(Answer::Welcome(welcome)) => Json(welcome).into_response(),
        Ok(Answer::Certificates(certificates)) => Json(certificates).into_response(),
        Ok(Answer::Trusted(trusted)) => Json(trusted).into_response(),
        Ok(Answer::Offered(offered)) => Json(offered).into_response(),
        Ok(Answer::Refused(refusal)) => refused(refusal),
        other => {
            log::error!("the signer does not answer as expected: {other:?}");
            let why = "the master cannot answer now; see `journalctl -u appliance-join -u \
                       appliance-signer` there";
            refused(Refusal::new(Reason::Unavailable, why))
        }
    }
}

/// Sends one question to the signer.
async fn ask(signer: &Path, question: &Question) -> Result<Answer> {
    let asked = async {
        let mut stream = UnixStream::connect(signer).await?;
        stream.write_all(&serde_json::to_vec(question)?).await?;
        stream.shutdown().await?;
        let mut answer = Vec::new();
        stream.take(MAX_MESSAGE).read_to_end(&mut answer).await?;
        Ok::<_, anyhow::Error>(serde_json::from_slice(&answer)?)
    };
    timeout(SIGNER, asked)
        .await
        .context("the signer does not answer in time")?
        .with_context(|| {
            format!(
                "cannot reach the signer at {}; see `systemctl status appliance-signer`",
                signer.display()
            )
        })
}

async fn is_needed(signer: &Path) -> Result<bool> {
    match ask(signer, &Question::IsNeeded).await? {
        Answer::IsNeeded(needed) => Ok(needed),
        other => bail!("unexpected answer of the signer: {other:?}"),
    }
}

/// A certificate for a new key, which never leaves this process, and the key.
async fn certificate(signer: &Path) -> Result<(Vec<u8>, Zeroizing<String>)> {
    let key = key::generate()?;
    let csr = CertificateParams::default()
        .serialize_request(&key)?
        .pem()?;
    let Answer::Serve(pem) = ask(signer, &Question::Serve(csr)).await? else {
        bail!("the signer sent no certificate");
    };
    Ok((pem.into_bytes(), key.serialize_pem().into()))
}
