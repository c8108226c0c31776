//! The exchanges that have begun, and how many there may be.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::Result;
use time::{Duration, OffsetDateTime};

use super::message::Hello;
use super::proof::Transcript;
use super::sealed::{Exchange, MasterKeys, Sealed};
use crate::nodespec::token::{Bytes32, KEY_BYTES, Verifier};

/// How long an exchange may take in total.
const SESSION: Duration = Duration::minutes(2);
/// How many exchanges may have begun within that time.
const MOST_SESSIONS: usize = 4096;

/// An exchange that has begun.
pub(super) struct Session {
    /// The worker's message.
    pub(super) hello: Hello,
    /// The master's random bytes.
    pub(super) nonce: Bytes32,
    /// The server certificate of the connection, in DER.
    pub(super) server_certificate: Vec<u8>,
    /// What verifies the token.
    pub(super) verifier: Verifier,
}

impl Session {
    /// The keys of masters, sealed for the public key `theirs`.
    pub(super) fn seal(
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

    /// What both sides know before the proofs.
    pub(super) fn transcript<'s>(&'s self, authority: &'s str) -> Transcript<'s> {
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

/// The open exchanges, and what is remembered of those that ended.
#[derive(Default)]
pub(super) struct Sessions {
    open: BTreeMap<Bytes32, Session>,
    /// The exchanges that began within the time of a session, ended or not. The oldest comes first.
    begun: VecDeque<Begun>,
    /// The workers' nonces of these exchanges.
    nonces: BTreeSet<Bytes32>,
}

struct Begun {
    session: Bytes32,
    nonce: Bytes32,
    from: IpAddr,
    at: OffsetDateTime,
}

impl Sessions {
    /// The exchange `id`, if it is open.
    pub(super) fn get(&self, id: &Bytes32) -> Option<&Session> {
        self.open.get(id)
    }

    /// Ends the exchange `id`: it is used only once, whatever the result. `None` if it is not open at `now`.
    pub(super) fn end(&mut self, id: &Bytes32, now: OffsetDateTime) -> Option<Session> {
        self.forget_old(now);
        self.open.remove(id)
    }

    /// Whether a worker's random bytes were used before, in an exchange that is remembered.
    pub(super) fn knows(&mut self, nonce: &Bytes32, now: OffsetDateTime) -> bool {
        self.forget_old(now);
        self.nonces.contains(nonce)
    }

    /// Begins an exchange of a client at the address `from`.
    pub(super) fn begin(
        &mut self,
        id: Bytes32,
        session: Session,
        from: IpAddr,
        now: OffsetDateTime,
    ) {
        while self.begun.len() >= MOST_SESSIONS {
            self.make_room();
        }
        let nonce = session.hello.nonce;
        self.nonces.insert(nonce);
        self.begun.push_back(Begun {
            session: id,
            nonce,
            from,
            at: now,
        });
        self.open.insert(id, session);
    }

    fn forget_old(&mut self, now: OffsetDateTime) {
        while self
            .begun
            .front()
            .is_some_and(|oldest| now - oldest.at >= SESSION)
        {
            self.drop_at(0);
        }
    }

    /// Drops the oldest exchange of the address with the most of them: who knows a token's identifier and begins
    /// exchanges without end from a few addresses drops his own ones.
    fn make_room(&mut self) {
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for begun in &self.begun {
            *counts.entry(begun.from).or_default() += 1;
        }
        let most = counts.values().max();
        let mut all = self.begun.iter();
        let oldest = all.position(|begun| counts.get(&begun.from) == most);
        self.drop_at(oldest.unwrap_or_default());
    }

    fn drop_at(&mut self, index: usize) {
        if let Some(dropped) = self.begun.remove(index) {
            self.open.remove(&dropped.session);
            self.nonces.remove(&dropped.nonce);
        }
    }
}
