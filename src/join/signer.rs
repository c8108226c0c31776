//! The process with the CA's key. It answers questions of the HTTPS service on a local socket, one
//! per connection, one after the other.

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::unistd::{User, chown};
use rcgen::CertificateSigningRequestParams;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::follow::{Follow, Offered};
use super::gate::{Asker, Decision, Gate};
use super::message::{
    CertificateSigningRequest, Certificates, Hello, Join, Refusal, Renew, SERVICE_NAME, Trust,
    Trusted, Welcome,
};
use crate::pki::bytes::Base64;
use crate::pki::issue::Signer;
use crate::pki::{CertificateRequest, IssuedBy, Usage, inspect};
use crate::sys::notify;

/// The longest question and answer, in bytes.
pub const MAX_MESSAGE: u64 = 1024 * 1024;
/// How long the other side may take to send its whole question, and to receive the whole answer. The HTTPS service waits
/// 20 seconds for an answer: others get theirs although one is slow.
const PATIENCE: Duration = Duration::from_secs(5);

/// A question of the HTTPS service.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Question {
    /// Whether any token is valid.
    IsNeeded,
    /// A request (PKCS#10, PEM) for the server certificate of the service.
    Serve(String),
    /// A message from the network.
    From(Visit),
}

/// A message from the network, with its sender.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Visit {
    /// The address at the other end of the connection.
    pub address: IpAddr,
    /// The server certificate in this connection.
    pub server_certificate: Base64,
    /// The message.
    pub message: Message,
}

/// A message of a worker or a node.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// Begins an exchange.
    Hello(Hello),
    /// Ends an exchange.
    Join(Join),
    /// Renews certificates. The node authenticates with its present one.
    Renew(Base64, Renew),
    /// Asks which authorities the cluster trusts. The node authenticates in the same way.
    Trust(Base64, Trust),
    /// Asks whether it is its turn to upgrade. The node authenticates in the same way.
    Follow(Base64, Follow),
}

/// An answer of the signer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Whether any token is valid.
    IsNeeded(bool),
    /// The server certificate, in PEM.
    Serve(String),
    /// The answer to the first message.
    Welcome(Welcome),
    /// Certificates.
    Certificates(Certificates),
    /// The authorities that the cluster trusts.
    Trusted(Trusted),
    /// What the node is to run.
    Offered(Offered),
    /// A refusal.
    Refused(Refusal),
    /// A problem of the master itself, which is in its journal.
    Failed,
}

/// Listens at `socket`, which only `user` may open, and answers without end.
pub fn serve(socket: &Path, user: Option<&str>, gate: &mut Gate<'_>) -> Result<()> {
    let place = || format!("cannot listen at {}", socket.display());
    if let Err(error) = fs::remove_file(socket)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error).with_context(place);
    }
    let listener = UnixListener::bind(socket).with_context(place)?;
    fs::set_permissions(socket, Permissions::from_mode(0o600)).with_context(place)?;
    if let Some(name) = user {
        let user = User::from_name(name)?.with_context(|| {
            format!("there is no user {name}; run `appliance install`, which creates it")
        })?;
        chown(socket, Some(user.uid), None).with_context(place)?;
    }
    log::info!("ready to sign for the join service");
    notify::ready();
    for connection in listener.incoming() {
        let handled = connection
            .map_err(Into::into)
            .and_then(|stream| handle(&stream, gate));
        if let Err(error) = handled {
            log::warn!("cannot answer a question of the join service: {error:#}");
        }
    }
    Ok(())
}

/// A connection whose reads and writes end [`PATIENCE`] after its beginning, however the other side spreads the bytes.
struct Hurried<'a> {
    stream: &'a UnixStream,
    until: Instant,
}

impl Hurried<'_> {
    fn new(stream: &UnixStream) -> Hurried<'_> {
        let until = Instant::now() + PATIENCE;
        Hurried { stream, until }
    }

    fn left(&self) -> std::io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(ErrorKind::TimedOut.into()),
            false => Ok(Some(left)),
        }
    }
}

impl Read for Hurried<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Hurried<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

fn handle(stream: &UnixStream, gate: &mut Gate<'_>) -> Result<()> {
    let mut text = Vec::new();
    let asked = Hurried::new(stream);
    asked.take(MAX_MESSAGE).read_to_end(&mut text)?;
    let question = serde_json::from_slice(&text).context("the question is not valid JSON")?;
    let answer = answer(gate, question, OffsetDateTime::now_utc()).unwrap_or_else(|error| {
        log::error!("{error:#}");
        Answer::Failed
    });
    Hurried::new(stream).write_all(&serde_json::to_vec(&answer)?)?;
    Ok(stream.shutdown(Shutdown::Write)?)
}

/// The answer to a question at `now`. An error is a problem of the master itself.
pub fn answer(gate: &mut Gate<'_>, question: Question, now: OffsetDateTime) -> Result<Answer> {
    match question {
        Question::IsNeeded => Ok(Answer::IsNeeded(gate.is_needed(now)?)),
        Question::Serve(csr) => Ok(Answer::Serve(server_certificate(gate, &csr, now)?)),
        Question::From(visit) => {
            check_server_certificate(gate, &visit.server_certificate.0)?;
            let asker = Asker {
                address: visit.address,
                server_certificate: &visit.server_certificate.0,
            };
            receive(gate, &asker, visit.message, now)
        }
    }
}

fn receive(
    gate: &mut Gate<'_>,
    asker: &Asker<'_>,
    message: Message,
    now: OffsetDateTime,
) -> Result<Answer> {
    let from = asker.address;
    match message {
        Message::Hello(hello) => {
            let what = format!("hello from {from} with token {}", hello.token_id);
            audited(&what, gate.hello(asker, hello, now), Answer::Welcome)
        }
        Message::Join(join) => {
            let (who, names) = (gate.who(&join.session), names(&join.requests));
            let what = format!("join from {from} {who} for {names}");
            audited(&what, gate.join(asker, &join, now), Answer::Certificates)
        }
        Message::Renew(certificate, renew) => {
            let what = format!("renewal from {from} of {}", names(&renew.requests));
            let outcome = gate.renew(asker, &certificate.0, &renew, now);
            audited(&what, outcome, Answer::Certificates)
        }
        Message::Trust(certificate, trust) => {
            let what = format!("question from {from} about the authorities");
            let outcome = gate.trust(asker, &certificate.0, &trust, now);
            audited(&what, outcome, Answer::Trusted)
        }
        Message::Follow(certificate, follow) => {
            let what = format!("question from {from} about an upgrade");
            // Every node asks every minute.
            let is_of_note = follow.report.is_some();
            match gate.follow(asker, &certificate.0, follow, now)? {
                Ok(offered) if !is_of_note && offered.offer.is_none() => {
                    Ok(Answer::Offered(offered))
                }
                outcome => audited(&what, Ok(outcome), Answer::Offered),
            }
        }
    }
}

/// The names of the requested certificates, for a log line.
fn names(requests: &[CertificateSigningRequest]) -> String {
    let names: Vec<&str> = requests
        .iter()
        .map(|request| request.name.as_str())
        .collect();
    let names: String = names.join(",").chars().take(100).collect();
    names.escape_debug().to_string()
}

/// Writes the audit line of a request: who sent it, and the result.
fn audited<T>(what: &str, outcome: Decision<T>, answer: fn(T) -> Answer) -> Result<Answer> {
    Ok(match outcome? {
        Ok(value) => {
            log::info!("audit: {what}: allowed");
            answer(value)
        }
        Err(refusal) => {
            log::warn!("audit: {what}: refused: {}", refusal.error);
            Answer::Refused(refusal)
        }
    })
}

fn server_certificate(gate: &Gate<'_>, csr: &str, now: OffsetDateTime) -> Result<String> {
    let cluster = gate.cluster();
    let key = CertificateSigningRequestParams::from_pem(csr)?.public_key;
    let request = CertificateRequest {
        name: SERVICE_NAME,
        path: String::new(),
        common_name: SERVICE_NAME.to_owned(),
        organization: "k8s".to_owned(),
        dns_names: vec![SERVICE_NAME.to_owned()],
        ip_addresses: vec![],
        usage: Usage::Server,
        issuer: IssuedBy::Cluster,
    };
    let signer = Signer::new(&cluster.authority, &cluster.key)?;
    signer.certificate(&request, &key, now)
}

/// Checks that the certificate that the proofs cover is the certificate of the service.
fn check_server_certificate(gate: &Gate<'_>, der: &[u8]) -> Result<()> {
    let authorities = &gate.cluster().authority;
    let info = inspect::inspect_der(der)?;
    ensure!(
        info.common_name == SERVICE_NAME && inspect::is_der_signed_by_any(der, authorities)?,
        "the join service uses a certificate that was not issued for it"
    );
    Ok(())
}
