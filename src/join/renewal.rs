//! The worker's side of a renewal, and of the question which authorities the cluster trusts.

use std::net::SocketAddr;

use reqwest::blocking::Client;
use time::OffsetDateTime;

use super::client::{ANSWER, Joined, Worker, checked, signing_requests};
use super::message::{RENEW, Renew, SERVICE_NAME, TRUST, Trust, Trusted};
use crate::pki::{Held, key};
use crate::sys::http;
use crate::sys::retry::{Failure, permanent};
use crate::sys::tls::Identity;

impl Worker<'_> {
    /// Requests all certificates again. It authenticates with the certificate in `identity`.
    pub fn renew(&self, identity: &Identity<'_>, held: &[Held<'_>]) -> Result<Joined, Failure> {
        let authority = self.trusted.unwrap_or_default();
        let client = self.known_master(identity)?;
        let requests = signing_requests(held).map_err(permanent)?;
        let key = key::read(identity.key).map_err(permanent)?;
        let now = OffsetDateTime::now_utc();
        let renew = Renew::signed(&key, requests, self.machine(), now).map_err(permanent)?;
        let answer = self.ask(&client, RENEW, &renew)?;
        checked(held, authority.to_owned(), answer).map_err(permanent)
    }

    /// Asks which authorities (PEM) the cluster trusts, and tells which ones this node has taken: `taken` is SHA-256
    /// of the file. It authenticates with the certificate in `identity`. Fails if this node may not take the
    /// authorities: see [`Trusted::accepted`].
    pub fn trust(&self, identity: &Identity<'_>, taken: Option<&str>) -> Result<String, Failure> {
        let client = self.known_master(identity)?;
        let key = key::read(identity.key).map_err(permanent)?;
        let taken = taken.map(str::to_owned);
        let question = Trust::signed(&key, taken, OffsetDateTime::now_utc()).map_err(permanent)?;
        let trusted: Trusted = self.ask(&client, TRUST, &question)?;
        let own = self.trusted.unwrap_or_default();
        let accepted = trusted.accepted(own, self.name, &question.nonce);
        accepted.map_err(|error| permanent(error.context(self.to_string())))
    }

    /// A client that connects to the master's address, and expects the name of the service in its certificate: no other
    /// server of the cluster has that name.
    pub(super) fn known_master(&self, identity: &Identity<'_>) -> Result<Client, Failure> {
        let authority = self.trusted.unwrap_or_default();
        let address = SocketAddr::from((self.master, self.port + 1));
        http::client_at(
            authority.as_bytes(),
            identity,
            ANSWER,
            (SERVICE_NAME, address),
        )
        .map_err(permanent)
    }
}
