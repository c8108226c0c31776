//! An HTTP server on this machine whose answers a test chooses, good or bad.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method, such as `GET`.
    pub method: String,
    /// The path, or the whole URL if the server is used as a proxy.
    pub target: String,
    /// Headers by their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
    /// The client's address.
    pub peer: Option<IpAddr>,
}

impl Request {
    /// The start of the requested range.
    pub fn range_start(&self) -> Option<usize> {
        let range = self.headers.get("range")?;
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    status: &'static str,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The connection ends after this many bytes of the body.
    cut: Option<usize>,
    /// The connection stays open after the last byte, until the client closes it.
    held: bool,
    /// This many blanks follow the body.
    more: u64,
    /// A fault instead of an answer.
    none: Option<NoAnswer>,
}

/// A fault instead of an answer.
#[derive(Clone, Copy, Debug)]
enum NoAnswer {
    /// The connection stays open until the client closes it.
    Silence,
    /// The connection is closed.
    Drop,
}

impl Answer {
    /// An answer with only a status, such as `404 Not Found`.
    pub fn status(status: &'static str) -> Answer {
        Answer {
            status,
            headers: vec![],
            body: vec![],
            cut: None,
            held: false,
            more: 0,
            none: None,
        }
    }

    /// No answer at all, until the client closes the connection.
    pub fn silent(mut self) -> Answer {
        self.none = Some(NoAnswer::Silence);
        self
    }

    /// No answer at all: the server closes the connection.
    pub fn dropped(mut self) -> Answer {
        self.none = Some(NoAnswer::Drop);
        self
    }

    /// Appends this many blanks to the body.
    pub fn followed_by(mut self, bytes: u64) -> Answer {
        self.more = bytes;
        self
    }

    /// The file, or the requested part of it.
    pub fn file(content: &[u8], request: &Request) -> Answer {
        match request.range_start() {
            Some(start) if start < content.len() => {
                let range = format!("bytes {start}-{}/{}", content.len() - 1, content.len());
                Answer::status("206 Partial Content")
                    .header("Content-Range", &range)
                    .body(&content[start..])
            }
            Some(_) => Answer::status("416 Range Not Satisfiable"),
            None => Answer::status("200 OK").body(content),
        }
    }

    /// Sets the body.
    pub fn body(mut self, body: &[u8]) -> Answer {
        self.body = body.to_vec();
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Closes the connection after this many bytes of the body.
    pub fn cut(mut self, bytes: usize) -> Answer {
        self.cut = Some(bytes);
        self
    }

    /// Sends only this many bytes of the body, and then nothing until the client closes the connection.
    pub fn stalled(mut self, bytes: usize) -> Answer {
        self.cut = Some(bytes);
        self.held = true;
        self
    }

    fn write(&self, stream: &mut (impl Read + Write)) -> std::io::Result<()> {
        match self.none {
            Some(NoAnswer::Silence) => return stream.read(&mut [0]).map(drop),
            Some(NoAnswer::Drop) => return Ok(()),
            None => {}
        }
        let mut head = format!("HTTP/1.1 {}\r\nConnection: close\r\n", self.status);
        head += &format!("Content-Length: {}\r\n", self.body.len() as u64 + self.more);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        stream.write_all(&self.body[..self.cut.unwrap_or(self.body.len())])?;
        std::io::copy(&mut std::io::repeat(b' ').take(self.more), stream)?;
        stream.flush()?;
        match self.held {
            true => stream.read(&mut [0]).map(drop),
            false => Ok(()),
        }
    }
}

/// A server that runs until it is dropped.
pub struct Server {
    address: String,
    asked: Arc<Mutex<Vec<Request>>>,
    ended: Arc<AtomicBool>,
    authority: Option<tempfile::NamedTempFile>,
}

type Handler = dyn Fn(&Request) -> Answer + Send + Sync;

impl Server {
    /// Answers in plain HTTP.
    pub fn start(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Server {
        Server::run(any_port(), Arc::new(handler), None, None)
    }

    /// Answers in plain HTTP where `listener` listens.
    pub fn start_at(
        listener: TcpListener,
        handler: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Server {
        Server::run(listener, Arc::new(handler), None, None)
    }

    /// Answers over TLS, with its own certificate.
    pub fn start_tls(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Server {
        Server::start_tls_valid(1975..4096, handler)
    }

    /// Answers over TLS, with its own certificate, which is valid in these years.
    pub fn start_tls_valid(
        years: Range<i32>,
        handler: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Server {
        let key = KeyPair::generate().unwrap();
        let names = vec!["127.0.0.1".to_owned()];
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.not_before = rcgen::date_time_ymd(years.start, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(years.end, 1, 1);
        let certificate = parameters.self_signed(&key).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(certificate.pem().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        Server::run(
            any_port(),
            Arc::new(handler),
            Some(Arc::new(config)),
            Some(file),
        )
    }

    fn run(
        listener: TcpListener,
        handler: Arc<Handler>,
        tls: Option<Arc<ServerConfig>>,
        authority: Option<tempfile::NamedTempFile>,
    ) -> Server {
        let server = Server {
            address: listener.local_addr().unwrap().to_string(),
            asked: Arc::default(),
            ended: Arc::default(),
            authority,
        };
        let (asked, ended) = (Arc::clone(&server.asked), Arc::clone(&server.ended));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(stream), handler, asked) =
                    (stream, Arc::clone(&handler), Arc::clone(&asked))
                else {
                    continue;
                };
                let tls = tls.clone();
                let peer = stream.peer_addr().ok().map(|peer| peer.ip());
                // In some tests, the client closes the connection in the middle.
                std::thread::spawn(move || match tls {
                    None => drop(serve(stream, peer, &*handler, &asked)),
                    Some(config) => {
                        let connection = ServerConnection::new(config).unwrap();
                        drop(serve(
                            StreamOwned::new(connection, stream),
                            peer,
                            &*handler,
                            &asked,
                        ));
                    }
                });
            }
        });
        server
    }

    /// Its host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its URL.
    pub fn url(&self) -> String {
        let scheme = if self.authority.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", self.address)
    }

    /// The file with the certificate to trust, if the server uses TLS.
    pub fn authority(&self) -> &std::path::Path {
        self.authority.as_ref().unwrap().path()
    }

    /// The requests so far.
    pub fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for connections.
        drop(TcpStream::connect(&self.address));
    }
}

fn any_port() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn serve(
    mut stream: impl Read + Write,
    peer: Option<IpAddr>,
    handler: &Handler,
    asked: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(&mut stream);
    let mut line = || -> std::io::Result<String> {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    };
    let first = line()?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, target) = (words.next(), words.next());
    let mut headers = BTreeMap::new();
    while let Some((name, value)) = line()?.split_once(": ") {
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers
        .get("content-length")
        .and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let request = Request {
        method: method.unwrap_or_default(),
        target: target.unwrap_or_default(),
        headers,
        body,
        peer,
    };
    asked.lock().unwrap().push(request.clone());
    handler(&request).write(&mut stream)
}
