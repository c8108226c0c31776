//! A small JSON client over HTTP and TLS. Hosts are IP addresses: a static program cannot use glibc
//! to resolve names.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::blocking::Response;
use reqwest::{Method, Url};
use rustls::ClientConfig;
use serde_json::Value;

/// How long one request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(9);

/// How long a connection may take, for requests that only need a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// The query for a list from the API server's cache.
pub const ANY_VERSION: &str = "resourceVersion=0";

/// A client of one server; clones share its connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::blocking::Client,
    base: Url,
    token: Option<String>,
}

/// The answer of a server.
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON, if the request succeeded.
    ///
    /// # Errors Any status other than 2xx, or a body that is not JSON.
    pub fn json(&self) -> Result<Value> {
        if !(200..300).contains(&self.status) {
            bail!("answered {}: {}", self.status, self.text().trim());
        }
        serde_json::from_slice(&self.body).context("the answer is not JSON")
    }
}

impl Client {
    /// A client of the server at `base`, which may speak TLS, with a bearer token.
    ///
    /// # Errors
    /// A URL whose host is neither an IP address nor localhost.
    pub fn new(base: &str, tls: ClientConfig, token: Option<String>) -> Result<Self> {
        let base = parse(base)?;
        // Port 0 means the port of the URL.
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let http = reqwest::blocking::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .resolve("localhost", loopback)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(REQUEST_LIMIT)
            .build()?;
        Ok(Self { http, base, token })
    }

    /// A client without TLS, for servers on this machine.
    ///
    /// # Errors
    /// As for [`Client::new`].
    pub fn plain(base: &str) -> Result<Self> {
        Self::new(base, crate::tls::client(None, None)?, None)
    }

    /// The server's `host:port`.
    pub fn place(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        let port = self.base.port_or_known_default().unwrap_or_default();
        format!("{host}:{port}")
    }

    /// Checks whether the server accepts connections; sends no request.
    ///
    /// # Errors It does not.
    pub fn connect(&self) -> Result<()> {
        let address = self.place().replace("localhost", "127.0.0.1");
        let address = address.parse().context(address)?;
        TcpStream::connect_timeout(&address, CONNECT_LIMIT)?;
        Ok(())
    }

    /// Gets `path`.
    ///
    /// # Errors Only if no answer comes; a refusal is a [`Reply`].
    pub fn get(&self, path: &str) -> Result<Reply> {
        self.send(Method::GET, path, None)
    }

    /// The objects of the list at `path`, from the API server's cache: enough for a program that
    /// asks again and again.
    ///
    /// # Errors The API does not answer or refuses.
    pub fn list(&self, path: &str) -> Result<Vec<Value>> {
        let sign = if path.contains('?') { '&' } else { '?' };
        let reply = self.get(&format!("{path}{sign}{ANY_VERSION}"))?;
        let mut list = reply.json().with_context(|| path.to_owned())?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }

    /// Posts JSON to `path`.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub fn post(&self, path: &str, body: &Value) -> Result<Reply> {
        self.send(
            Method::POST,
            path,
            Some(("application/json", body.to_string())),
        )
    }

    /// Puts JSON to `path`.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub fn put(&self, path: &str, body: &Value) -> Result<Reply> {
        self.send(
            Method::PUT,
            path,
            Some(("application/json", body.to_string())),
        )
    }

    /// Sends a merge patch for the object at `path`.
    ///
    /// # Errors As for [`Client::get`].
    pub fn patch(&self, path: &str, body: &Value) -> Result<Reply> {
        let kind = "application/merge-patch+json";
        self.send(Method::PATCH, path, Some((kind, body.to_string())))
    }

    /// Deletes the object at `path`.
    ///
    /// # Errors As for [`Client::get`].
    pub fn delete(&self, path: &str) -> Result<Reply> {
        self.send(Method::DELETE, path, None)
    }

    /// Puts an already encoded form to `path`.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub fn put_form(&self, path: &str, form: String) -> Result<Reply> {
        self.send(
            Method::PUT,
            path,
            Some(("application/x-www-form-urlencoded", form)),
        )
    }

    /// Posts JSON to `path`, for an answer that is read while it arrives. A read fails if nothing
    /// arrives for as long as a request may take.
    ///
    /// # Errors No answer, or any status other than 2xx.
    pub fn stream(&self, path: &str, body: &Value) -> Result<impl Read + use<>> {
        let body = Some(("application/json", body.to_string()));
        let reply = self.begin(Method::POST, path, body)?;
        Ok(reply.error_for_status()?)
    }

    fn send(&self, method: Method, path: &str, body: Option<(&str, String)>) -> Result<Reply> {
        let reply = self.begin(method, path, body)?;
        Ok(Reply {
            status: reply.status().as_u16(),
            body: reply.bytes()?.to_vec(),
        })
    }

    fn begin(&self, method: Method, path: &str, body: Option<(&str, String)>) -> Result<Response> {
        let url = self.base.join(path)?;
        let mut request = self.http.request(method, url.clone());
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some((form, body)) = body {
            request = request.header("content-type", form).body(body);
        }
        request.send().with_context(|| url.to_string())
    }
}

fn parse(base: &str) -> Result<Url> {
    let url = Url::parse(base).with_context(|| format!("{base:?} is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        bail!("{base:?}: expected http:// or https://");
    }
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if host != "localhost" && bare.parse::<IpAddr>().is_err() {
        bail!("{base:?}: the stand-ins resolve no names; give an IP address");
    }
    Ok(url)
}
