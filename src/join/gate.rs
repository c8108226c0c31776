//! Who is let in. Every decision of the join service is made here, in the process that has the
//! authority's key; nothing here speaks to the network.

use core::net::{IpAddr, Ipv4Addr};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::Result;
use rcgen::KeyPair;
use time::{Duration, OffsetDateTime};

use super::csr::{self, Allowed, Checked};
use super::message::{
    CertificateSigningRequest, Certificates, Hello, Join, Reason, Refusal, Renew, Welcome,
};
use super::nodes::{AskCluster, Nodes, may_have};
use super::proof::{Asked, Transcript};
use super::sealed::{Exchange, MasterKeys, Sealed};
use super::tokens::Tokens;
use crate::nodespec::network::dns_name;
use crate::nodespec::token::{Bytes32, KEY_BYTES, TokenId, Verifier};
use crate::pki::inspect;
use crate::records::names::NodeNames;
use crate::records::nodes::NodeRecord;

/// How long an exchange may take from the first word to the last.
const SESSION: Duration = Duration::minutes(2);
/// How many exchanges may be under way. The oldest gives way: whoever opens many and finishes
/// none must not keep others out.
const MOST_SESSIONS: usize = 4096;

/// What does not change while the gate is open.
pub struct Cluster {
    /// The authorities' certificates in PEM, the issuing one first.
    pub authority: String,
    /// The issuing authority's key.
    pub key: KeyPair,
    /// What another master is given.
    pub master_keys: MasterKeys,
    /// Which names and addresses are whose.
    pub names: NodeNames,
}

/// Where a request came from, as the HTTPS service saw it.
pub struct Asker<'a> {
    /// The other end of the connection.
    pub address: IpAddr,
    /// The certificate the service showed in this connection, in DER.
    pub server_certificate: &'a [u8],
}

struct Session {
    hello: Hello,
    nonce: Bytes32,
    server_certificate: Vec<u8>,
    verifier: Verifier,
}

/// Who is asked whether a machine is still there.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// Whether the cluster has a node of that name.
    pub node: &'a AskCluster<'a>,
    /// Whether the master of that name is there.
    pub master: &'a AskCluster<'a>,
}

/// Lets workers and masters in, or does not.
pub struct Gate<'a> {
    cluster: Cluster,
    tokens: Tokens,
    nodes: Nodes,
    ask: Ask<'a>,
    sessions: BTreeMap<Bytes32, Session>,
    /// What began within the time of a session, the oldest first, ended or not.
    begun: VecDeque<Begun>,
    /// The workers' nonces of these.
    nonces: BTreeSet<Bytes32>,
}

struct Begun {
    session: Bytes32,
    nonce: Bytes32,
    at: OffsetDateTime,
}

/// What came of a request: an answer, or a refusal to tell. An error is the master's own trouble.
pub type Decision<T> = Result<Result<T, Refusal>>;

/// Leaves a function whose outcome is an [`Decision`] with a refusal.
macro_rules! allowed {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(refusal) => return Ok(Err(refusal)),
        }
    };
}

impl<'a> Gate<'a> {
    /// A gate to `cluster`.
    pub fn new(cluster: Cluster, tokens: Tokens, nodes: Nodes, ask: Ask<'a>) -> Gate<'a> {
        Gate {
            cluster,
            tokens,
            nodes,
            ask,
            sessions: BTreeMap::new(),
            begun: VecDeque::new(),
            nonces: BTreeSet::new(),
        }
    }

    /// Whether anybody could join at `now`.
    pub fn is_needed(&self, now: OffsetDateTime) -> Result<bool> {
        self.tokens.any_live(now)
    }

    /// What it lets nodes into.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Begins an exchange: proves to know the token, if it is known.
    pub fn hello(
        &mut self,
        asker: &Asker<'_>,
        hello: Hello,
        now: OffsetDateTime,
    ) -> Decision<Welcome> {
        allowed!(self.check_name(asker, &hello.node_name, hello.node_address));
        let token = allowed!(self.tokens.usable(&hello.token_id, now)?);
        self.forget_old(now);
        if !self.nonces.insert(hello.nonce) {
            let why = "the nonce was used before";
            return Ok(Err(Refusal::new(Reason::BadRequest, why)));
        }
        let (session, nonce) = (Bytes32::random()?, Bytes32::random()?);
        let said = Session {
            hello,
            nonce,
            server_certificate: asker.server_certificate.to_vec(),
            verifier: token.verifier,
        };
        let welcome = Welcome {
            session,
            nonce,
            authority: self.cluster.authority.clone(),
            proof: said
                .verifier
                .prove(&said.transcript(&self.cluster.authority)),
            time: now,
        };
        self.begun.push_back(Begun {
            session,
            nonce: said.hello.nonce,
            at: now,
        });
        self.sessions.insert(session, said);
        Ok(Ok(welcome))
    }

    /// Ends an exchange: issues the certificates to whoever proves to know the token.
    pub fn join(
        &mut self,
        asker: &Asker<'_>,
        join: &Join,
        now: OffsetDateTime,
    ) -> Decision<Certificates> {
        self.forget_old(now);
        // Whatever comes of it, no session serves twice.
        let Some(session) = self.sessions.remove(&join.session) else {
            let why = "there is no such exchange, or it took too long; begin another";
            return Ok(Err(Refusal::new(Reason::UnknownSession, why)));
        };
        let hello = &session.hello;
        let transcript = session.transcript(&self.cluster.authority);
        let same_connection = session.server_certificate == asker.server_certificate;
        let asked = Asked {
            requests: &join.requests,
            master: join.master.as_ref(),
        };
        let accepted = session.verifier.accepts(&transcript, &asked, &join.proof);
        let Some(token_key) = accepted.filter(|_| same_connection) else {
            let why = format!(
                "the proof does not fit the token {}: its secret is another",
                hello.token_id
            );
            return Ok(Err(Refusal::new(Reason::WrongProof, why)));
        };
        allowed!(self.check_name(asker, &hello.node_name, hello.node_address));
        allowed!(self.check_kind(&hello.node_name, join.master.is_some()));
        let (name, address) = (&hello.node_name, hello.node_address);
        let (may_ask_for, ask) = match join.master {
            Some(_) => (Allowed::master(name, address), self.ask.master),
            None => (Allowed::worker(name, address), self.ask.node),
        };
        let checked = allowed!(csr::check(&join.requests, &may_ask_for));
        let record = self.nodes.all()?.remove(&hello.node_name);
        let again = record
            .as_ref()
            .is_some_and(|record| record.key == checked.key);
        allowed!(may_have(
            name,
            record.as_ref(),
            &checked.key,
            address,
            now,
            ask
        ));
        allowed!(self.tokens.spend(&hello.token_id, now, again)?);
        let given = match &join.master {
            Some(theirs) => Certificates {
                certificates: vec![],
                master: Some(session.seal(&self.cluster.master_keys, &token_key, theirs)?),
            },
            None => self.issue(&checked, now)?,
        };
        self.note(name, address, &hello.token_id, &checked, now)?;
        Ok(Ok(given))
    }

    /// Issues the certificates of a node again that shows one it has, in DER.
    pub fn renew(
        &mut self,
        asker: &Asker<'_>,
        certificate: &[u8],
        renew: &Renew,
        now: OffsetDateTime,
    ) -> Decision<Certificates> {
        let not_yours = |why: String| Ok(Err(Refusal::new(Reason::NotYours, why)));
        let shown = inspect::inspect_der(certificate)?;
        let signed = inspect::is_der_signed_by(certificate, self.cluster.authority.as_bytes())?;
        let name = shown.common_name.strip_prefix("system:node:");
        let (Some(name), true) = (
            name.filter(|_| shown.organization == "system:nodes"),
            signed,
        ) else {
            return not_yours(
                "a node renews with the certificate kubelet-client it has".to_owned(),
            );
        };
        if shown.not_after < now {
            return not_yours(format!(
                "the certificate of {name} has expired: join again with a token"
            ));
        }
        let Some(record) = self.nodes.all()?.remove(name) else {
            return not_yours(format!("{name} did not join here: join again with a token"));
        };
        if record.key != inspect::fingerprint(&shown) {
            return not_yours(format!(
                "another machine has the name {name} since {}",
                record.seen.date()
            ));
        }
        allowed!(self.check_name(asker, name, record.address));
        let checked = allowed!(csr::check(
            &renew.requests,
            &Allowed::worker(name, record.address)
        ));
        if checked.key != record.key {
            return not_yours(format!(
                "the certificate kubelet-client of {name} keeps its key"
            ));
        }
        let certificates = self.issue(&checked, now)?;
        self.note(name, record.address, &record.token, &checked, now)?;
        Ok(Ok(certificates))
    }

    fn issue(&self, checked: &Checked, now: OffsetDateTime) -> Result<Certificates> {
        let certificates = checked.issue(&self.cluster.authority, &self.cluster.key, now)?;
        Ok(Certificates {
            certificates,
            master: None,
        })
    }

    fn note(
        &self,
        name: &str,
        address: Ipv4Addr,
        token: &TokenId,
        checked: &Checked,
        now: OffsetDateTime,
    ) -> Result<()> {
        let record = NodeRecord {
            address,
            key: checked.key.clone(),
            token: token.clone(),
            seen: now,
        };
        self.nodes.note(name, &record)
    }

    /// Whether the asker may have that name and that address at all.
    fn check_name(&self, asker: &Asker<'_>, name: &str, address: Ipv4Addr) -> Result<(), Refusal> {
        if dns_name(name).is_err() {
            return Err(Refusal::new(Reason::BadRequest, "the name is no DNS name"));
        }
        let not_yours = |why: String| Err(Refusal::new(Reason::NotYours, why));
        if asker.address != IpAddr::V4(address) {
            return not_yours(format!(
                "{name} says that its address is {address}, but it comes from {}; give it the \
                 setting `address`",
                asker.address
            ));
        }
        let known = &self.cluster.names;
        if name == known.name {
            return not_yours(format!(
                "{name} is the master's own name; give the worker another"
            ));
        }
        if address == known.address {
            return not_yours(format!("{address} is the master's own address"));
        }
        match known.address_of(name) {
            Some(known) if known != address => not_yours(format!(
                "{name} has the address {known} in the inventory or in `hosts`, not {address}"
            )),
            _ => Ok(()),
        }
    }

    /// A master's name is a master's alone, and only these may have what masters share.
    fn check_kind(&self, name: &str, is_master: bool) -> Result<(), Refusal> {
        let why = match (is_master, self.cluster.names.is_master(name)) {
            (true, false) => {
                "is none of the cluster's masters, as this master's settings name them"
            }
            (false, true) => "is a master's name; give the worker another",
            _ => return Ok(()),
        };
        Err(Refusal::new(Reason::NotYours, format!("{name} {why}")))
    }

    /// Drops the sessions whose time is over, and the oldest where there are too many.
    fn forget_old(&mut self, now: OffsetDateTime) {
        while let Some(oldest) = self.begun.front() {
            if now - oldest.at < SESSION && self.begun.len() < MOST_SESSIONS {
                break;
            }
            self.sessions.remove(&oldest.session);
            self.nonces.remove(&oldest.nonce);
            self.begun.pop_front();
        }
    }
}

impl Session {
    fn seal(
        &self,
        keys: &MasterKeys,
        token_key: &[u8; KEY_BYTES],
        theirs: &Bytes32,
    ) -> Result<Sealed> {
        let exchange = Exchange {
            worker_nonce: &self.hello.nonce,
            master_nonce: &self.nonce,
            token_key,
        };
        exchange.seal(keys, theirs)
    }

    fn transcript<'s>(&'s self, authority: &'s str) -> Transcript<'s> {
        Transcript {
            token: &self.hello.token_id,
            node_name: &self.hello.node_name,
            node_address: self.hello.node_address,
            worker_nonce: &self.hello.nonce,
            master_nonce: &self.nonce,
            authority,
            server_certificate: &self.server_certificate,
        }
    }
}

/// What a log line says of the certificates asked for.
pub fn names(requests: &[CertificateSigningRequest]) -> String {
    let names: Vec<&str> = requests
        .iter()
        .map(|request| request.name.as_str())
        .collect();
    names
        .join(",")
        .chars()
        .take(100)
        .collect::<String>()
        .escape_debug()
        .to_string()
}
