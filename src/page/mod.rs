//! The status page of a node: for a browser on this machine, or at the other end of `ssh -L`. It only reads.
//!
//! Every user of the machine reaches 127.0.0.1, and so does every page that a browser on it shows. So the page holds no
//! secret, a request must name this machine (a foreign name that leads to 127.0.0.1 is refused), no other page can
//! read or frame the answers, and the page loads and runs nothing.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::time::timeout;

use self::reading::Reading;
use self::shared::Shared;
use crate::digest::Sha256;
use crate::status::Overall;
use crate::sys::door::{self, Door, Limits, Place};

pub mod nodes;
pub mod reading;
mod shared;
pub mod timeline;
mod view;

/// The limits for clients. All have the same address, 127.0.0.1: a client that makes the server wait goes first.
const LIMITS: Limits = Limits {
    open: 256,
    of_an_address: 256,
    burst: NonZeroU32::new(4096).unwrap(),
    each_second: NonZeroU32::new(1024).unwrap(),
    patience: Duration::from_secs(10),
};
/// How long a connection may take in total. A view waits at most 10 seconds for a reading.
const CONNECTION: Duration = Duration::from_secs(30);
/// The names of this machine, as a browser on it has them, or one at the other end of `ssh -L`. Any port will do: there,
/// it is another one.
const NAMES: [&str; 3] = ["127.0.0.1", "localhost", "[::1]"];

/// What the page shows.
pub struct Source {
    /// Asks the node.
    pub read: Box<dyn Fn() -> Result<Reading> + Send + Sync>,
    /// The document that says why it could not be asked.
    pub failure: fn(&anyhow::Error) -> Value,
}

/// A reading as it is sent.
struct Answers {
    status: StatusCode,
    /// The page that asks again by itself.
    page: String,
    /// The page that does not.
    still: String,
    document: String,
    health: &'static str,
    is_healthy: bool,
}

impl Answers {
    fn of(source: &Source) -> Answers {
        let made = (source.read)().and_then(|reading| Answers::of_reading(&reading));
        made.unwrap_or_else(|error| {
            let page = view::nothing(Some(&format!("{error:#}")));
            Answers::without_reading(source, page.unwrap_or_default(), &error)
        })
    }

    /// The answers while there is no reading, because of `why`.
    fn without_reading(source: &Source, page: String, why: &anyhow::Error) -> Answers {
        Answers {
            status: StatusCode::SERVICE_UNAVAILABLE,
            still: page.clone(),
            page,
            document: format!("{:#}\n", (source.failure)(why)),
            health: "unknown\n",
            is_healthy: false,
        }
    }

    fn of_reading(reading: &Reading) -> Result<Answers> {
        let overall = reading.report.overall;
        Ok(Answers {
            status: StatusCode::OK,
            page: view::page(reading, true)?,
            still: view::page(reading, false)?,
            document: serde_json::to_string_pretty(&reading.report)? + "\n",
            health: match overall {
                Overall::Healthy => "healthy\n",
                Overall::ClusterNotReady => "cluster-not-ready\n",
                Overall::Degraded => "degraded\n",
                Overall::NotInstalled => "not-installed\n",
            },
            is_healthy: overall == Overall::Healthy,
        })
    }
}

struct Server {
    answers: Arc<Shared<Answers>>,
    /// The answers before the first reading, and if the last one is too old.
    nothing: Arc<Answers>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Server {
    async fn answers(&self) -> Arc<Answers> {
        let answers = self.answers.get().await;
        answers.unwrap_or_else(|| self.nothing.clone())
    }
}

/// Serves the page of `source` at `listener` until the process ends.
///
/// # Errors
/// If the listener does not work.
pub fn serve(listener: std::net::TcpListener, source: Source) -> Result<()> {
    let why = anyhow!("the node has not answered yet; ask again");
    let nothing = Answers::without_reading(&source, view::nothing(None)?, &why);
    let server = Arc::new(Server {
        nothing: Arc::new(nothing),
        answers: Shared::new(move || Answers::of(&source)),
        headers: headers()?,
    });
    listener.set_nonblocking(true)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(accept(listener, router(&server)))
}

async fn accept(listener: std::net::TcpListener, router: Router) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let door = Door::new(LIMITS);
    loop {
        let (stream, guest) = door.next(&listener).await;
        let router = router.clone().layer(Extension(guest.place.clone()));
        let connection = door::answer(stream, router, LIMITS.patience, false);
        guest.spawn(async { timeout(CONNECTION, connection).await.unwrap_or(Ok(())) });
    }
}

fn router(server: &Arc<Server>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/status.json", get(document))
        .route("/healthz", get(health))
        .fallback(async || (StatusCode::NOT_FOUND, "there is no such page; see /\n"))
        .layer(middleware::from_fn_with_state(server.clone(), guard))
        .with_state(server.clone())
}

/// The headers of every answer.
fn headers() -> Result<Vec<(HeaderName, HeaderValue)>> {
    let style = Sha256::of(view::style()?.as_bytes());
    let style = STANDARD.encode(hex::decode(style.to_string())?);
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    );
    let policy = HeaderValue::from_str(&policy).context("the policy of the page")?;
    let fixed = HeaderValue::from_static;
    Ok(vec![
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, fixed("no-store")),
        (header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
        (header::REFERRER_POLICY, fixed("no-referrer")),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            fixed("same-origin"),
        ),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            fixed("same-origin"),
        ),
    ])
}

/// Refuses what is no request for this machine's page, and adds the headers to every answer.
async fn guard(
    State(server): State<Arc<Server>>,
    Extension(place): Extension<Place>,
    request: Request,
    next: Next,
) -> Response {
    place.settle();
    let mut response = match refusal(&request) {
        Some(refused) => refused,
        None => next.run(request).await,
    };
    response
        .headers_mut()
        .extend(server.headers.iter().cloned());
    response
}

fn refusal(request: &Request) -> Option<Response> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let is_here = host.is_some_and(is_own) && hosts.next().is_none();
    let target = request.uri().authority();
    if !is_here || !target.is_none_or(|target| is_own(target.as_str())) {
        let why = "this page has no such name; open http://127.0.0.1 with the port of the page\n";
        return Some((StatusCode::MISDIRECTED_REQUEST, why).into_response());
    }
    if [Method::GET, Method::HEAD].contains(request.method()) {
        return None;
    }
    let why = "this page can only be read: use GET or HEAD\n";
    let allowed = [(header::ALLOW, "GET, HEAD")];
    Some((StatusCode::METHOD_NOT_ALLOWED, allowed, why).into_response())
}

/// Whether the name, with or without a port, is one of this machine's.
fn is_own(name: &str) -> bool {
    let Ok(authority) = name.parse::<Authority>() else {
        return false;
    };
    let host = authority.host();
    !name.contains('@') && NAMES.iter().any(|own| own.eq_ignore_ascii_case(host))
}

async fn page(State(server): State<Arc<Server>>, request: Request) -> Response {
    let answers = server.answers().await;
    let page = match request.uri().query() {
        Some("still") => &answers.still,
        _ => &answers.page,
    };
    (answers.status, Html(page.clone())).into_response()
}

async fn document(State(server): State<Arc<Server>>) -> Response {
    let answers = server.answers().await;
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (answers.status, kind, answers.document.clone()).into_response()
}

async fn health(State(server): State<Arc<Server>>) -> Response {
    let answers = server.answers().await;
    let status = match answers.is_healthy {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, answers.health).into_response()
}
