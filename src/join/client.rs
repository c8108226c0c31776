//! The worker's side: gets its certificates from a master that proves that it knows the token.

use core::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use reqwest::StatusCode;
use reqwest::blocking::Client;
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use time::{Duration as Span, OffsetDateTime};

use super::late::GRACE;
use super::message::{
    CertificateSigningRequest, Certificates, FOLLOW, HELLO, Hello, JOIN, JOIN_AGAIN, Join,
    MAX_ANSWER, RENEW, Reason, Refusal, SERVICE_NAME, TRUST, Trusted, Welcome,
};
use super::proof::{Asked, Transcript};
use super::sealed::{self, Half, MasterKeys};
use super::trust::FirstSeen;
use super::turns::NotReached;
use crate::formats;
use crate::nodespec::Ipip;
use crate::nodespec::token::{Bytes32, Token};
use crate::pki::{Held, inspect};
use crate::sys::clock::{self, moment};
use crate::sys::http;
use crate::sys::retry::{Failure, permanent, transient};

/// How long the master may take to answer a request.
pub(super) const ANSWER: Duration = Duration::from_secs(20);
/// How long to wait before the next attempt if another machine has this node's name.
const NAME_TAKEN: Duration = Duration::from_secs(20);
/// How far the clocks of worker and master may be apart.
const MOST_APART: Span = Span::minutes(5);

/// A worker that joins, and the master that it joins.
pub struct Worker<'a> {
    /// The node's name.
    pub name: &'a str,
    /// The node's address.
    pub address: Ipv4Addr,
    /// The UUID of its machine, if it knows one.
    pub machine: Option<&'a str>,
    /// The master's address.
    pub master: Ipv4Addr,
    /// The port of its join service.
    pub port: u16,
    /// The CA certificates (PEM) that it trusts, if it joined before.
    pub trusted: Option<&'a str>,
}

/// The messages of both sides before the proofs, and the certificate that the master showed.
struct Exchanged {
    hello: Hello,
    welcome: Welcome,
    seen: Vec<u8>,
}

/// The data that a further master gets.
#[derive(Debug)]
pub struct JoinedMaster {
    /// The CA certificates of the cluster, in PEM.
    pub authority: String,
    /// The keys that all masters share.
    pub keys: MasterKeys,
    /// When the cluster uses tunnels, if the master says so.
    pub ipip: Option<Ipip>,
}

/// The data that a worker gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The CA certificates of the cluster, in PEM.
    pub authority: String,
    /// Its certificates in PEM, in the order of its requests.
    pub certificates: Vec<String>,
    /// When the cluster uses tunnels, if the master says so. It does when the node joins.
    pub ipip: Option<Ipip>,
}

impl Worker<'_> {
    /// Runs the exchange once. After a transient failure, another attempt may succeed. After a
    /// permanent one, the operator has to act first.
    pub fn join(&self, token: &Token, held: &[Held<'_>]) -> Result<Joined, Failure> {
        let (exchange, answer) = self.exchange(token, held, None)?;
        let welcome = exchange.welcome;
        let now = OffsetDateTime::now_utc();
        let is_clock = (now - welcome.time).abs() > MOST_APART;
        checked(held, welcome.authority, answer).map_err(|error| match is_clock {
            // The clock may still be corrected.
            true => transient(anyhow!("{error:#}: {}", clocks(now, welcome.time))),
            false => permanent(error),
        })
    }

    /// Runs the exchange once as a further master, which is identified by `held`. Failures are the
    /// same as for [`Worker::join`].
    pub fn join_as_master(
        &self,
        token: &Token,
        held: &[Held<'_>],
    ) -> Result<JoinedMaster, Failure> {
        let own = Half::new().map_err(permanent)?;
        let (exchange, answer) = self.exchange(token, held, Some(own.public))?;
        let sealed = answer.master.ok_or_else(|| {
            permanent(anyhow!(
                "{self} sent no keys of masters, although a master asked; the appliance there may \
                     be of an older version: see `appliance version` on both"
            ))
        })?;
        let opened = sealed::Exchange {
            worker_nonce: &exchange.hello.nonce,
            master_nonce: &exchange.welcome.nonce,
            token_key: &token.worker_key(),
        }
        .open(&sealed, own);
        let keys = opened.with_context(|| format!("cannot open the keys that {self} sent"));
        Ok(JoinedMaster {
            authority: exchange.welcome.authority,
            keys: keys.map_err(permanent)?,
            ipip: answer.ipip,
        })
    }

    /// Asks whether the master would let this node join with the token. Nothing is used up.
    pub fn knock(&self, token: &Token) -> Result<(), Failure> {
        self.greet(token).map(drop)
    }

    /// The first half of the exchange: the master proves that it knows the token.
    fn greet(&self, token: &Token) -> Result<(Client, Exchanged), Failure> {
        let (client, first_seen) = unknown_master().map_err(permanent)?;
        let hello = Hello {
            token_id: token.id().clone(),
            node_name: self.name.to_owned(),
            node_address: self.address,
            nonce: Bytes32::random().map_err(permanent)?,
            trusts: self.trusted.is_some(),
        };
        let welcome: Welcome = self.ask(&client, HELLO, &hello)?;
        let exchanged = Exchanged {
            hello,
            welcome,
            seen: first_seen.seen().unwrap_or_default(),
        };
        let (hello, welcome) = (&exchanged.hello, &exchanged.welcome);
        if !token.accepts(&self.transcript(token, &exchanged), &welcome.proof) {
            return Err(permanent(anyhow!(
                "{self} does not prove that it knows token {}: either its copy of the token has a \
                 different secret, or another machine intercepts the connection; this node sent it \
                 no secret. Compare the tokens in both user-data, or make a new one on the master: \
                 `appliance token create`",
                token.id()
            )));
        }
        self.check_authority(&hello.nonce, welcome)?;
        let now = OffsetDateTime::now_utc();
        if (now - welcome.time).abs() > MOST_APART {
            log::warn!("{self}: {}", clocks(now, welcome.time));
        }
        Ok((client, exchanged))
    }

    fn transcript<'t>(&'t self, token: &'t Token, exchanged: &'t Exchanged) -> Transcript<'t> {
        Transcript {
            token: token.id(),
            node_name: self.name,
            node_address: self.address,
            worker_nonce: &exchanged.hello.nonce,
            master_nonce: &exchanged.welcome.nonce,
            authority: &exchanged.welcome.authority,
            server_certificate: &exchanged.seen,
        }
    }

    fn exchange(
        &self,
        token: &Token,
        held: &[Held<'_>],
        master: Option<Bytes32>,
    ) -> Result<(Exchanged, Certificates), Failure> {
        let (client, exchanged) = self.greet(token)?;
        let requests = signing_requests(held).map_err(permanent)?;
        let machine = self.machine();
        let asked = Asked {
            requests: &requests,
            master: master.as_ref(),
            machine: machine.as_ref(),
        };
        let join = Join {
            session: exchanged.welcome.session,
            proof: token.prove(&self.transcript(token, &exchanged), &asked),
            requests,
            master,
            machine,
        };
        let answer = self.ask(&client, JOIN, &join)?;
        Ok((exchanged, answer))
    }

    /// SHA-256 of the UUID of its machine.
    pub(super) fn machine(&self) -> Option<Bytes32> {
        let uuid = self.machine?;
        Some(Bytes32(Sha256::digest(uuid).into()))
    }

    /// Refuses a master with a different CA. A rebuilt master may know the token, but it is not the
    /// master of this node's cluster. Everyone with the token can answer like a master: so this node takes another CA
    /// beside its own only if its own signed it, for the `nonce` that this node sent.
    fn check_authority(&self, nonce: &Bytes32, welcome: &Welcome) -> Result<(), Failure> {
        let described = describe(&welcome.authority).map_err(permanent)?;
        let is_another = |trusted: &&str| !shares_authority(trusted, &welcome.authority);
        if let Some(trusted) = self.trusted.filter(is_another) {
            return Err(permanent(anyhow!(
                "{self} has another certificate authority ({described}) than the one this node \
                 trusts ({}): this master was rebuilt, or it belongs to another cluster. To leave \
                 the old cluster and join this one, move /etc/kubernetes/ca away: `mv \
                 /etc/kubernetes/ca /etc/kubernetes/ca.old`, then run `appliance install`",
                describe(trusted).unwrap_or_default()
            )));
        }
        if let Some(trusted) = self.trusted.filter(|own| *own != welcome.authority) {
            let sent = welcome.signature.clone().map(|signature| Trusted {
                authority: welcome.authority.clone(),
                signature,
            });
            let sent = sent.context("it did not sign the authorities that it sent; compare `appliance version` here and there");
            let accepted = sent.and_then(|sent| sent.accepted(trusted, self.name, nonce));
            accepted.map_err(|error| permanent(error.context(self.to_string())))?;
        }
        let info = inspect::inspect(welcome.authority.as_bytes()).map_err(permanent)?;
        let now = OffsetDateTime::now_utc();
        if now < info.not_before {
            // The clock may still be corrected, for example by chrony.
            return Err(transient(anyhow!(
                "the certificate authority of {self} is not yet valid: {}",
                clocks(now, welcome.time)
            )));
        }
        if now > info.not_after {
            return Err(permanent(anyhow!(
                "the certificate authority of {self} has expired: {}",
                clocks(now, welcome.time)
            )));
        }
        Ok(())
    }

    pub(super) fn ask<T: DeserializeOwned>(
        &self,
        client: &Client,
        path: &str,
        question: &impl Serialize,
    ) -> Result<T, Failure> {
        let url = match path {
            RENEW | TRUST | FOLLOW => format!("https://{SERVICE_NAME}:{}{path}", self.port + 1),
            _ => format!("https://{}:{}{path}", self.master, self.port),
        };
        let body = serde_json::to_vec(question).map_err(permanent)?;
        let response = client
            .post(url)
            .header("content-type", "application/json")
            .body(body)
            .send()
            .map_err(|error| self.unreachable(path, &error))?;
        let status = response.status();
        let answer = read(response).map_err(|error| transient(error.context(self.to_string())))?;
        if status == StatusCode::OK {
            let answer = serde_json::from_slice(&answer);
            return answer.map_err(|_| {
                permanent(anyhow!(
                    "{self} does not answer like a join service; check the addresses of the \
                     masters and the port `join.port` in the settings, and compare `appliance version` there and here: \
                     this is appliance {}",
                    formats::PROGRAM
                ))
            });
        }
        match serde_json::from_slice::<Refusal>(&answer) {
            Ok(refusal) => Err(self.refused(&refusal)),
            Err(_) => Err(transient(anyhow!("{self} answers {status}"))),
        }
    }

    fn unreachable(&self, path: &str, error: &reqwest::Error) -> Failure {
        let cause = http::root_cause(error);
        if http::is_expired(error) {
            return transient(anyhow!(
                "{self} takes the certificate of this node for expired: it ended more than {} days ago, \
                 or one of both clocks is wrong: this machine's clock says {}; {}. To join again, make a \
                 token on a master: `appliance token create`",
                GRACE.whole_days(),
                moment(OffsetDateTime::now_utc()),
                clock::CORRECT
            ));
        }
        if let Some(about_time) = http::refused_for_time(error) {
            return transient(anyhow!("{self}: {about_time}"));
        }
        if http::is_tls_refusal(error) && matches!(path, RENEW | TRUST | FOLLOW) {
            return permanent(anyhow!(
                "{self} and this node do not trust each other's certificates ({cause}): the cluster replaced its \
                 authorities while this node was off, or another machine has the master's address; {JOIN_AGAIN}"
            ));
        }
        if http::is_tls_refusal(error) {
            return transient(anyhow!(
                "{self}: {cause}. If a different machine answers there now than a moment ago, two \
                 machines use this address"
            ));
        }
        transient(NotReached(format!("cannot reach {self}: {cause}")))
    }

    fn refused(&self, refusal: &Refusal) -> Failure {
        let text: String = refusal.error.chars().take(500).collect();
        let error = anyhow!("{self} refuses: {}", text.escape_debug());
        match refusal.reason {
            Reason::UnsupportedVersion => permanent(error.context(format!(
                "this node runs appliance {}; its masters need that version or a newer one",
                formats::PROGRAM
            ))),
            Reason::NameTaken => Failure::Transient(error, NAME_TAKEN),
            reason if reason.is_transient() => transient(error),
            _ => permanent(error),
        }
    }
}

impl std::fmt::Display for Worker<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the master at {}:{}", self.master, self.port)
    }
}

/// What the two clocks say, and what to do.
fn clocks(own: OffsetDateTime, masters: OffsetDateTime) -> String {
    format!(
        "this machine's clock says {}, the master's clock says {}; {}",
        moment(own),
        moment(masters),
        clock::CORRECT
    )
}

/// A client for a master whose certificate cannot be verified yet.
fn unknown_master() -> Result<(Client, Arc<FirstSeen>)> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let first_seen = Arc::new(FirstSeen::new(provider.clone()));
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(first_seen.clone())
        .with_no_client_auth();
    Ok((http::client_of(tls, ANSWER)?, first_seen))
}

fn read(response: reqwest::blocking::Response) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut answer = Vec::new();
    response.take(MAX_ANSWER + 1).read_to_end(&mut answer)?;
    ensure!(
        answer.len() as u64 <= MAX_ANSWER,
        "the answer is longer than {MAX_ANSWER} bytes"
    );
    Ok(answer)
}

pub(super) fn signing_requests(held: &[Held<'_>]) -> Result<Vec<CertificateSigningRequest>> {
    let request = |held: &Held<'_>| {
        Ok(CertificateSigningRequest {
            name: held.request.name.to_owned(),
            csr: held.signing_request()?,
        })
    };
    held.iter().map(request).collect()
}

/// Verifies the master's certificates against the requests.
pub(super) fn checked(
    held: &[Held<'_>],
    authority: String,
    answer: Certificates,
) -> Result<Joined> {
    let given = answer.certificates;
    ensure!(
        given.len() == held.len(),
        "the master sent {} certificates for {} requests",
        given.len(),
        held.len()
    );
    for (held, certificate) in held.iter().zip(&given) {
        held.check(&certificate.pem, &authority, OffsetDateTime::now_utc())?;
    }
    Ok(Joined {
        ipip: answer.ipip,
        authority,
        certificates: given
            .into_iter()
            .map(|certificate| certificate.pem)
            .collect(),
    })
}

/// Whether both files have an authority in common, as while a cluster replaces its own.
pub fn shares_authority(one: &str, other: &str) -> bool {
    let read = |pem: &str| inspect::certificates(pem).unwrap_or_default();
    let other = read(other);
    let mut own = read(one).into_iter().map(|(pem, _)| pem);
    own.any(|pem| other.iter().any(|(known, _)| *known == pem))
}

/// A short description of a CA, to tell it from others.
fn describe(pem: &str) -> Result<String> {
    let info =
        inspect::inspect(pem.as_bytes()).context("the certificate of the certificate authority")?;
    let digest = hex::encode(Sha256::digest(pem.trim()));
    Ok(format!(
        "SHA-256 {}…, made on {}",
        &digest[..16],
        info.not_before.date()
    ))
}
