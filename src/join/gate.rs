//! Decides who may join. The process with the CA's key makes every decision of the join service
//! here. This code has no access to the network.

use core::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use rcgen::KeyPair;
use time::OffsetDateTime;

use super::csr::{self, Allowed, Checked};
use super::follow::{Follow, Offer, Offered};
use super::followers::{Followers, Taken};
use super::late::GRACE;
use super::message::{
    Certificates, Hello, JOIN_AGAIN, Join, Reason, Refusal, Renew, Trust, Trusted, Welcome,
};
use super::nodes::{Applicant, AskCluster, Nodes, copy};
use super::proof::Asked;
use super::rollout::Rollouts;
use super::sealed::MasterKeys;
use super::sessions::{Session, Sessions};
use super::signed;
use super::tokens::Tokens;
use crate::nodespec::network::node_name;
use crate::nodespec::token::{Bytes32, TokenId};
use crate::pki::inspect;
use crate::records::names::NodeNames;
use crate::records::nodes::NodeRecord;

/// The longest part of a name in a log line, in characters.
const MOST_SHOWN: usize = 100;
/// The length of a SHA-256 in hexadecimal.
const MOST_DIGEST: usize = 64;

/// The constant facts about the cluster.
pub struct Cluster {
    /// The CA certificates in PEM, the issuing CA first.
    pub authority: String,
    /// The key of the issuing CA.
    pub key: KeyPair,
    /// The keys that another master gets.
    pub master_keys: MasterKeys,
    /// The names and addresses in the settings.
    pub names: NodeNames,
}

/// The sender of a request, as the HTTPS service saw it.
pub struct Asker<'a> {
    /// The address at the other end of the connection.
    pub address: IpAddr,
    /// The server certificate in this connection, in DER.
    pub server_certificate: &'a [u8],
}

/// How to find out whether a machine is still up.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// Whether the cluster has a node of this name.
    pub node: &'a AskCluster<'a>,
    /// Whether the master of this name is up.
    pub master: &'a AskCluster<'a>,
}

/// Accepts or refuses workers and masters.
pub struct Gate<'a> {
    cluster: Cluster,
    tokens: Tokens,
    nodes: Nodes,
    followers: Option<Followers>,
    rollouts: Option<Rollouts>,
    ask: Ask<'a>,
    sessions: Sessions,
}

/// The result of a request: an answer, or a refusal for the sender. An error is a problem of the
/// master itself.
pub type Decision<T> = Result<Result<T, Refusal>>;

/// Returns the allowed value. On a refusal, returns it from the calling function, whose result is a
/// [`Decision`].
macro_rules! allowed {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(refusal) => return Ok(Err(refusal)),
        }
    };
}

impl<'a> Gate<'a> {
    /// A gate for `cluster`.
    pub fn new(cluster: Cluster, tokens: Tokens, nodes: Nodes, ask: Ask<'a>) -> Gate<'a> {
        Gate {
            cluster,
            tokens,
            nodes,
            followers: None,
            rollouts: None,
            ask,
            sessions: Sessions::default(),
        }
    }

    /// The same gate, which keeps in `followers` which authorities nodes have taken.
    #[must_use]
    pub fn keeping(self, followers: Followers) -> Gate<'a> {
        Gate {
            followers: Some(followers),
            ..self
        }
    }

    /// The same gate, which tells nodes when it is their turn to upgrade.
    #[must_use]
    pub fn offering(self, rollouts: Rollouts) -> Gate<'a> {
        Gate {
            rollouts: Some(rollouts),
            ..self
        }
    }

    /// Whether any token allows a node to join at `now`.
    pub fn is_needed(&self, now: OffsetDateTime) -> Result<bool> {
        self.tokens.any_live(now)
    }

    /// The cluster that nodes join.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Begins an exchange: if the master knows the token, it proves that.
    pub fn hello(
        &mut self,
        asker: &Asker<'_>,
        hello: Hello,
        now: OffsetDateTime,
    ) -> Decision<Welcome> {
        allowed!(self.check_name(asker, &hello.node_name, hello.node_address));
        let token = allowed!(self.tokens.usable(&hello.token_id, now)?);
        if self.sessions.knows(&hello.nonce, now) {
            let why = "the nonce was used before; begin a new exchange";
            return Ok(Err(Refusal::new(Reason::BadRequest, why)));
        }
        let (session, nonce) = (Bytes32::random()?, Bytes32::random()?);
        let signature = match hello.trusts {
            true => Some(self.trusted(&hello.node_name, &hello.nonce)?.signature),
            false => None,
        };
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
            signature,
            proof: said
                .verifier
                .prove(&said.transcript(&self.cluster.authority)),
            time: now,
        };
        self.sessions.begin(session, said, asker.address, now);
        Ok(Ok(welcome))
    }

    /// Who began an exchange, and with which token, for a log line.
    pub fn who(&self, session: &Bytes32) -> String {
        match self.sessions.get(session) {
            Some(Session { hello, .. }) => {
                let name: String = hello.node_name.chars().take(MOST_SHOWN).collect();
                format!("of {} with token {}", name.escape_debug(), hello.token_id)
            }
            None => "without an exchange".to_owned(),
        }
    }

    /// Ends an exchange: issues the certificates if the sender proves that it knows the token.
    pub fn join(
        &mut self,
        asker: &Asker<'_>,
        join: &Join,
        now: OffsetDateTime,
    ) -> Decision<Certificates> {
        let Some(session) = self.sessions.end(&join.session, now) else {
            let why = "this exchange does not exist, or took too long; begin a new exchange";
            return Ok(Err(Refusal::new(Reason::UnknownSession, why)));
        };
        let hello = &session.hello;
        let transcript = session.transcript(&self.cluster.authority);
        let same_connection = session.server_certificate == asker.server_certificate;
        let asked = Asked {
            requests: &join.requests,
            master: join.master.as_ref(),
            machine: join.machine.as_ref(),
        };
        let accepted = session.verifier.accepts(&transcript, &asked, &join.proof);
        let Some(token_key) = accepted.filter(|_| same_connection) else {
            let why = format!(
                "the proof does not match token {}: the secret of the token is different on the \
                 master",
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
        let all = self.nodes.all()?;
        let again = all
            .get(name)
            .is_some_and(|record| record.key == checked.key);
        let machine = Applicant {
            key: &checked.key,
            address,
            machine: join.machine,
        };
        allowed!(machine.may_have(name, &all, now, ask));
        allowed!(machine.may_have_address(name, &all, now, self.ask.node));
        allowed!(self.tokens.spend(&hello.token_id, now, again)?);
        let given = match &join.master {
            Some(theirs) => Certificates {
                certificates: vec![],
                master: Some(session.seal(&self.cluster.master_keys, &token_key, theirs)?),
                ipip: None,
            },
            None => self.issue(&checked, now)?,
        };
        self.note(name, &machine, all.get(name), &hello.token_id, now)?;
        Ok(Ok(Certificates {
            ipip: self.cluster.names.ipip,
            ..given
        }))
    }

    /// Renews the certificates of a node, which authenticates with one of them (`certificate`,
    /// DER).
    pub fn renew(
        &mut self,
        asker: &Asker<'_>,
        certificate: &[u8],
        renew: &Renew,
        now: OffsetDateTime,
    ) -> Decision<Certificates> {
        allowed!(signed::check(certificate, renew, now)?);
        let who = self.identified(asker, certificate, Some(renew), now)?;
        let (name, record) = &allowed!(who);
        let checked = allowed!(csr::check(
            &renew.requests,
            &Allowed::worker(name, record.address)
        ));
        if checked.key != record.key {
            let why = format!("the renewed certificate kubelet-client of {name} must keep its key");
            return Ok(Err(Refusal::new(Reason::NotYours, why)));
        }
        let certificates = self.issue(&checked, now)?;
        let machine = Applicant {
            key: &checked.key,
            address: record.address,
            machine: renew.machine,
        };
        self.note(name, &machine, Some(record), &record.token, now)?;
        Ok(Ok(certificates))
    }

    /// Tells a node which authorities the cluster trusts, and keeps which ones it has taken. It
    /// authenticates with `certificate` (DER), as in [`Gate::renew`].
    pub fn trust(
        &mut self,
        asker: &Asker<'_>,
        certificate: &[u8],
        trust: &Trust,
        now: OffsetDateTime,
    ) -> Decision<Trusted> {
        allowed!(signed::check(certificate, trust, now)?);
        let (name, record) = allowed!(self.identified(asker, certificate, None, now)?);
        if let Some((followers, digest)) = self.followers.as_ref().zip(trust.taken.as_ref()) {
            let taken = Taken {
                digest: digest.chars().take(MOST_DIGEST).collect(),
                key: record.key,
                seen: now,
            };
            followers.note(&name, &taken)?;
        }
        Ok(Ok(self.trusted(&name, &trust.nonce)?))
    }

    /// Tells a node whether it is its turn to upgrade, and keeps what it reports. It authenticates with `certificate`
    /// (DER), as in [`Gate::renew`].
    pub fn follow(
        &mut self,
        asker: &Asker<'_>,
        certificate: &[u8],
        follow: Follow,
        now: OffsetDateTime,
    ) -> Decision<Offered> {
        allowed!(signed::check(certificate, &follow, now)?);
        let (name, _) = allowed!(self.identified(asker, certificate, None, now)?);
        let mut offer = None;
        if let Some(rollouts) = &self.rollouts {
            if let Some(report) = follow.report {
                rollouts.report(&name, &report.program, report.stage, report.said, now)?;
            }
            offer = rollouts.offer(&name)?.as_ref().map(Offer::from);
        }
        Ok(Ok(Offered::signed(
            &self.cluster.key,
            offer,
            &name,
            &follow.nonce,
        )?))
    }

    /// The authorities of the cluster, signed for the node `name`, which sent `nonce`.
    fn trusted(&self, name: &str, nonce: &Bytes32) -> Result<Trusted> {
        let Cluster { key, authority, .. } = &self.cluster;
        Trusted::signed(key, authority.clone(), name, nonce)
    }

    /// The node that authenticates with its certificate kubelet-client (`certificate`, DER), and its
    /// record. A `renew` must not come from a copy of the node's machine.
    fn identified(
        &self,
        asker: &Asker<'_>,
        certificate: &[u8],
        renew: Option<&Renew>,
        now: OffsetDateTime,
    ) -> Decision<(String, NodeRecord)> {
        let not_yours = |why: String| Ok(Err(Refusal::new(Reason::NotYours, why)));
        let shown = inspect::inspect_der(certificate)?;
        let signed = inspect::is_der_signed_by_any(certificate, &self.cluster.authority)?;
        let name = shown.common_name.strip_prefix("system:node:");
        let (Some(name), true) = (
            name.filter(|_| shown.organization == "system:nodes"),
            signed,
        ) else {
            return not_yours(
                "renewal needs the certificate kubelet-client of a node of this cluster".to_owned(),
            );
        };
        if now - shown.not_after > GRACE {
            return not_yours(format!(
                "the certificate of {name} expired on {}, more than {} days ago; join again with a \
                 token: `appliance token create` on a master makes one",
                shown.not_after.date(),
                GRACE.whole_days()
            ));
        }
        let Some(record) = self.nodes.all()?.remove(name) else {
            return not_yours(format!(
                "{name} did not join here, or its name was released; {JOIN_AGAIN}"
            ));
        };
        if record.key != inspect::fingerprint(&shown) {
            return not_yours(format!(
                "another machine has the name {name} since {}; give this machine another name",
                record.seen.date()
            ));
        }
        if let (Some(renew), IpAddr::V4(address)) = (renew, asker.address)
            && (Applicant {
                key: &record.key,
                address,
                machine: renew.machine,
            })
            .is_copy_of(&record)
        {
            return Ok(Err(copy(name, &record)));
        }
        allowed!(self.check_name(asker, name, record.address));
        // Masters issue their own certificates.
        allowed!(self.check_kind(name, false));
        Ok(Ok((name.to_owned(), record)))
    }

    fn issue(&self, checked: &Checked, now: OffsetDateTime) -> Result<Certificates> {
        let certificates = checked.issue(&self.cluster.authority, &self.cluster.key, now)?;
        Ok(Certificates {
            certificates,
            master: None,
            ipip: None,
        })
    }

    /// Records that `machine` has the name now. A UUID that it told before (`known`) stays if it tells none.
    fn note(
        &self,
        name: &str,
        machine: &Applicant<'_>,
        known: Option<&NodeRecord>,
        token: &TokenId,
        now: OffsetDateTime,
    ) -> Result<()> {
        let known = known.filter(|record| record.key == machine.key);
        let record = NodeRecord {
            address: machine.address,
            key: machine.key.to_owned(),
            machine: machine.machine.or(known.and_then(|record| record.machine)),
            token: token.clone(),
            seen: now,
        };
        self.nodes.note(name, &record)
    }

    /// Checks whether the sender may use this name and address at all.
    fn check_name(&self, asker: &Asker<'_>, name: &str, address: Ipv4Addr) -> Result<(), Refusal> {
        // A node sends its name as it stands in certificates. Another spelling of it could pass a comparison.
        let why = match node_name(name) {
            Ok(same) if same == name => None,
            Ok(_) => Some("expected it in lower case and without a dot at its end".to_owned()),
            Err(why) => Some(why),
        };
        if let Some(why) = why {
            let why = format!("the name of the node is refused: {why}");
            return Err(Refusal::new(Reason::BadRequest, why));
        }
        let not_yours = |why: String| Err(Refusal::new(Reason::NotYours, why));
        if asker.address != IpAddr::V4(address) {
            return not_yours(format!(
                "{name} says that its address is {address}, but its connection comes from {}; set \
                 `address` in the settings of {name} to the address that the master sees",
                asker.address
            ));
        }
        let known = &self.cluster.names;
        if name == known.name {
            return not_yours(format!(
                "{name} is the name of the master; give the worker another name"
            ));
        }
        if address == known.address {
            return not_yours(format!(
                "{address} is the address of the master; give the worker another address"
            ));
        }
        // The kubelet's certificate has this name and address, and clients of the API server trust its CA.
        let is_master = known.is_master(name);
        if !is_master && known.is_api_server(name) {
            return not_yours(format!(
                "{name} is a name of the API server; give the worker another name"
            ));
        }
        let is_own = address.is_loopback() && !known.address.is_loopback();
        if is_own || !is_master && known.is_at_api_server(address) {
            return not_yours(format!(
                "{address} is an address of the API server; give the worker another address"
            ));
        }
        match known.address_of(name) {
            Some(known) if known != address => not_yours(format!(
                "the master's settings (`inventory` or `hosts`) give {name} the address {known}, \
                 not {address}; correct them on the master, or the address of {name}"
            )),
            _ => Ok(()),
        }
    }

    /// Only a master in the settings may use a master's name, and get the keys that masters share.
    fn check_kind(&self, name: &str, is_master: bool) -> Result<(), Refusal> {
        let why = match (is_master, self.cluster.names.is_master(name)) {
            (true, false) => {
                "is none of the cluster's masters in the settings of this master; add it to \
                 `masters` there, or install it as a worker"
            }
            (false, true) => "is the name of a master; give the worker another name",
            _ => return Ok(()),
        };
        Err(Refusal::new(Reason::NotYours, format!("{name} {why}")))
    }
}
