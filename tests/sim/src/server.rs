//! An HTTP/1.1 server with or without TLS. Its handler is plain blocking code.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::thread;

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio_rustls::TlsAcceptor;

/// The largest body a client may send.
const BODY_LIMIT: usize = 1 << 20;

/// One request.
pub struct Request {
    /// `GET`, `PUT`, …
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query, without the question mark.
    pub query: String,
    /// The content type of the body, without parameters.
    pub content_type: String,
    /// The bearer token, if the request has one.
    pub bearer: Option<String>,
    /// The client's certificate, verified against the client CA.
    pub certificate: Option<CertificateDer<'static>>,
    /// The body.
    pub body: Vec<u8>,
}

#[cfg(test)]
impl Request {
    /// A request without certificate, token and body.
    pub fn test(method: &str, path: &str, query: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            content_type: String::new(),
            bearer: None,
            certificate: None,
            body: Vec::new(),
        }
    }
}

/// One answer.
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The content type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
    /// Writes the rest of the body, for as long as it has more.
    pub rest: Option<Rest>,
}

/// Writes a body piece by piece, in a thread of its own.
pub type Rest = Box<dyn FnOnce(Sink) + Send>;

/// Where to write a body.
pub struct Sink(UnboundedSender<Bytes>);

impl Sink {
    /// Sends a piece of the body. Returns whether the client still reads.
    pub fn send(&self, piece: Vec<u8>) -> bool {
        self.0.send(piece.into()).is_ok()
    }

    /// Whether the client still reads.
    pub fn is_open(&self) -> bool {
        !self.0.is_closed()
    }
}

/// A body that arrives piece by piece.
struct Pieces(UnboundedReceiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(task)
            .map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

impl Response {
    /// JSON documents, one a line, for as long as `rest` writes them.
    pub fn lines(rest: Rest) -> Self {
        Self {
            status: 200,
            content_type: "application/json",
            body: Vec::new(),
            rest: Some(rest),
        }
    }

    /// A plain text.
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: text.into().into_bytes(),
            rest: None,
        }
    }

    /// A JSON document.
    pub fn json(status: u16, value: &Value) -> Self {
        Self {
            status,
            content_type: "application/json",
            body: value.to_string().into_bytes(),
            rest: None,
        }
    }
}

/// A handler of requests.
pub type Handler = Arc<dyn Fn(Request) -> Response + Send + Sync>;

/// The threads that serve; the same for all sockets of a program.
pub struct Server {
    runtime: Runtime,
}

impl Server {
    /// Starts the threads.
    ///
    /// # Errors The system does not allow them.
    pub fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_io()
            .build()?;
        Ok(Self { runtime })
    }

    /// Listens on `address`. Returns once connections are accepted.
    ///
    /// # Errors
    /// An address that cannot be bound.
    pub fn listen(
        &self,
        address: SocketAddr,
        tls: Option<ServerConfig>,
        handler: Handler,
    ) -> Result<()> {
        let socket = TcpListener::bind(address).with_context(|| format!("listen on {address}"))?;
        socket.set_nonblocking(true)?;
        let _inside = self.runtime.enter();
        let socket = tokio::net::TcpListener::from_std(socket)?;
        let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        self.runtime.spawn(accept(socket, tls, handler));
        eprintln!("serving on {address}");
        Ok(())
    }
}

async fn accept(socket: tokio::net::TcpListener, tls: Option<TlsAcceptor>, handler: Handler) {
    loop {
        let Ok((stream, peer)) = socket.accept().await else {
            // Out of file descriptors: wait for open connections to end.
            tokio::task::yield_now().await;
            continue;
        };
        let (tls, handler) = (tls.clone(), handler.clone());
        tokio::spawn(async move {
            let Some(tls) = tls else {
                return serve(stream, None, handler).await;
            };
            match tls.accept(stream).await {
                Ok(stream) => {
                    let shown = stream.get_ref().1.peer_certificates();
                    let certificate = shown.and_then(|chain| chain.first().cloned());
                    serve(stream, certificate.map(CertificateDer::into_owned), handler).await;
                }
                Err(error) => eprintln!("TLS handshake error from {peer}: {error}"),
            }
        });
    }
}

async fn serve<S>(stream: S, certificate: Option<CertificateDer<'static>>, handler: Handler)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (handler, certificate) = (handler.clone(), certificate.clone());
        async move { Ok::<_, Infallible>(encode(answer(request, certificate, handler).await)) }
    });
    // A client may close its connection.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    request: hyper::Request<Incoming>,
    certificate: Option<CertificateDer<'static>>,
    handler: Handler,
) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await else {
        return Response::text(413, "the body is too large or incomplete\n");
    };
    let header = |name| {
        let value = head.headers.get(name)?;
        value.to_str().ok()
    };
    let bearer = header("authorization")
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(str::to_owned);
    let content_type = header("content-type").unwrap_or_default();
    let content_type = content_type.split(';').next().unwrap_or_default();
    let request = Request {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        content_type: content_type.trim().to_owned(),
        bearer,
        certificate,
        body: body.to_bytes().to_vec(),
    };
    tokio::task::spawn_blocking(move || handler(request))
        .await
        .unwrap_or_else(|_| Response::text(500, "the handler failed\n"))
}

fn encode(response: Response) -> hyper::Response<Either<Full<Bytes>, Pieces>> {
    let body = match response.rest {
        None => Either::Left(Full::new(Bytes::from(response.body))),
        Some(rest) => {
            let (sender, receiver) = mpsc::unbounded_channel();
            thread::spawn(move || rest(Sink(sender)));
            Either::Right(Pieces(receiver))
        }
    };
    let mut encoded = hyper::Response::new(body);
    *encoded.status_mut() = hyper::StatusCode::from_u16(response.status)
        .unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    encoded.headers_mut().insert(
        "content-type",
        hyper::header::HeaderValue::from_static(response.content_type),
    );
    encoded
}

/// A handler that answers only `path`, with the result of `answer`.
pub fn only(path: &'static str, answer: impl Fn() -> Response + Send + Sync + 'static) -> Handler {
    Arc::new(move |request| {
        if request.path == path {
            answer()
        } else {
            Response::text(404, "404 page not found\n")
        }
    })
}
