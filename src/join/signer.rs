//! The process that has the authority's key. It takes questions from the HTTPS service on a local
//! socket, one a connection, and answers them in turn.

use std::fs::{self, Permissions};
use std::io::{BufReader, Read, Write};
use std::net::{IpAddr, Shutdown};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use nix::unistd::{User, chown};
use rcgen::CertificateSigningRequestParams;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::gate::{Asker, Decision, Gate, names};
use super::message::{Certificates, Hello, Join, Refusal, Renew, Welcome};
use crate::pki::issue::{self, Signer};
use crate::pki::{CertificateRequest, Usage, inspect};

/// The longest question and answer, in bytes.
pub const MAX_MESSAGE: u64 = 1024 * 1024;
/// How long the other side may keep it waiting.
const PATIENCE: Duration = Duration::from_secs(10);
/// The name in the HTTPS service's own certificate.
const SERVICE_NAME: &str = "appliance-join";

/// Bytes that travel as base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Der(pub Vec<u8>);

impl TryFrom<String> for Der {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Der, base64::DecodeError> {
        BASE64.decode(text).map(Der)
    }
}

impl From<Der> for String {
    fn from(der: Der) -> String {
        BASE64.encode(der.0)
    }
}

/// What the HTTPS service asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Question {
    /// Whether any token can be used.
    IsNeeded,
    /// For a certificate to serve with: a request (PKCS#10, PEM).
    Serve(String),
    /// To pass on what came from the network.
    From(Visit),
}

/// What came from the network.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Visit {
    /// The other end of the connection.
    pub address: IpAddr,
    /// The certificate the service showed in it.
    pub server_certificate: Der,
    /// What was said.
    pub message: Message,
}

/// What a worker or a node says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// Begins an exchange.
    Hello(Hello),
    /// Ends it.
    Join(Join),
    /// Asks for certificates again, showing one.
    Renew(Der, Renew),
}

/// What the signer answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Whether any token can be used.
    IsNeeded(bool),
    /// A certificate to serve with, in PEM.
    Serve(String),
    /// The answer to a first word.
    Welcome(Welcome),
    /// Certificates.
    Certificates(Certificates),
    /// Why not.
    Refused(Refusal),
    /// The master's own trouble; its journal says which.
    Failed,
}

/// Listens at `socket` for the user `user` alone, and answers for ever.
pub fn serve(socket: &Path, user: Option<&str>, gate: &mut Gate<'_>) -> Result<()> {
    let place = || format!("listen at {}", socket.display());
    if let Err(error) = fs::remove_file(socket)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error).with_context(place);
    }
    let listener = UnixListener::bind(socket).with_context(place)?;
    fs::set_permissions(socket, Permissions::from_mode(0o600)).with_context(place)?;
    if let Some(name) = user {
        let user = User::from_name(name)?.with_context(|| format!("there is no user {name}"))?;
        chown(socket, Some(user.uid), None).with_context(place)?;
    }
    log::info!("ready to sign for the join service");
    for connection in listener.incoming() {
        let handled = connection
            .map_err(Into::into)
            .and_then(|stream| handle(&stream, gate));
        if let Err(error) = handled {
            log::warn!("a question could not be answered: {error:#}");
        }
    }
    Ok(())
}

fn handle(stream: &UnixStream, gate: &mut Gate<'_>) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut text = Vec::new();
    BufReader::new(stream)
        .take(MAX_MESSAGE)
        .read_to_end(&mut text)?;
    let question = serde_json::from_slice(&text).context("the question")?;
    let answer = answer(gate, question, OffsetDateTime::now_utc()).unwrap_or_else(|error| {
        log::error!("{error:#}");
        Answer::Failed
    });
    let mut stream = stream;
    stream.write_all(&serde_json::to_vec(&answer)?)?;
    Ok(stream.shutdown(Shutdown::Write)?)
}

/// The answer to a question at `now`. An error is the master's own trouble.
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
            let what = format!("join from {from} for {}", names(&join.requests));
            audited(&what, gate.join(asker, &join, now), Answer::Certificates)
        }
        Message::Renew(certificate, renew) => {
            let what = format!("renewal from {from} of {}", names(&renew.requests));
            let outcome = gate.renew(asker, &certificate.0, &renew, now);
            audited(&what, outcome, Answer::Certificates)
        }
    }
}

/// Writes the line by which an operator learns later who came and what became of it.
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
        dns_names: vec![cluster.names.name.clone()],
        ip_addresses: vec![IpAddr::V4(cluster.names.address)],
        usage: Usage::Server,
    };
    let signer = Signer::new(&cluster.authority, &cluster.key)?;
    signer.certificate(&request, &key, now, issue::LIFETIME)
}

/// The certificate that the proofs cover has to be the service's own.
fn check_server_certificate(gate: &Gate<'_>, der: &[u8]) -> Result<()> {
    let authority = gate.cluster().authority.as_bytes();
    let info = inspect::inspect_der(der)?;
    ensure!(
        info.common_name == SERVICE_NAME && inspect::is_der_signed_by(der, authority)?,
        "the service shows a certificate that was not made for it"
    );
    Ok(())
}
