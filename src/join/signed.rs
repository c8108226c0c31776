//! What a node signs when it renews, and what a master signs about the authorities.
//!
//! The HTTPS service verifies the TLS connection, and it is on the network. The signer does not take its word for who
//! sends a request: the node signs it with the key of its certificate. The node does not take its word for the
//! authorities: the signer signs them with the key of the authority.

use anyhow::{Context, Result, ensure};
use rcgen::KeyPair;
use time::{Duration, OffsetDateTime};

use super::message::{CertificateSigningRequest, Reason, Refusal, Renew, Trust, Trusted};
use super::proof::Fields;
use crate::nodespec::token::Bytes32;
use crate::paths;
use crate::pki::inspect;
use crate::pki::signature::Signature;
use crate::sys::clock::{self, moment};

/// How old a signed request may be. Certificates allow for clocks that differ by as much. Who sends a request again
/// gets certificates for the same keys.
const MOST_APART: Duration = Duration::days(1);
/// How many authorities a node takes at once: a rotation adds one.
const MOST_NEW: usize = 1;

/// A request that a node signs with the key of its certificate kubelet-client.
pub trait Signed {
    /// The bytes that it signs.
    fn text(&self) -> Vec<u8>;
    /// When it was signed, by the clock of the node.
    fn time(&self) -> OffsetDateTime;
    /// The signature.
    fn signature(&self) -> &Signature;
}

impl Signed for Renew {
    fn text(&self) -> Vec<u8> {
        renewal(&self.requests, self.machine.as_ref(), self.time)
    }

    fn time(&self) -> OffsetDateTime {
        self.time
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }
}

impl Signed for Trust {
    fn text(&self) -> Vec<u8> {
        question(self.taken.as_deref(), &self.nonce, self.time)
    }

    fn time(&self) -> OffsetDateTime {
        self.time
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }
}

impl Renew {
    /// A request for renewal, signed with the key of the node's certificate kubelet-client. `machine` is SHA-256 of the
    /// UUID of its machine.
    pub fn signed(
        key: &KeyPair,
        requests: Vec<CertificateSigningRequest>,
        machine: Option<Bytes32>,
        time: OffsetDateTime,
    ) -> Result<Renew> {
        let signature = Signature::of(key, &renewal(&requests, machine.as_ref(), time))?;
        Ok(Renew {
            requests,
            machine,
            time,
            signature,
        })
    }
}

impl Trust {
    /// A question about the authorities, signed with the key of the node's certificate kubelet-client. `taken` is
    /// SHA-256 of the file that it has taken, in hexadecimal.
    pub fn signed(key: &KeyPair, taken: Option<String>, time: OffsetDateTime) -> Result<Trust> {
        let nonce = Bytes32::random()?;
        let signature = Signature::of(key, &question(taken.as_deref(), &nonce, time))?;
        Ok(Trust {
            taken,
            nonce,
            time,
            signature,
        })
    }
}

impl Trusted {
    /// The answer to the node `name`, which sent `nonce`, signed with the key of the issuing authority.
    pub fn signed(
        key: &KeyPair,
        authority: String,
        name: &str,
        nonce: &Bytes32,
    ) -> Result<Trusted> {
        let signature = Signature::of(key, &answer(&authority, name, nonce))?;
        Ok(Trusted {
            authority,
            signature,
        })
    }

    /// The authorities (PEM), if the node `name`, which trusts `own` and sent `nonce`, may take them instead.
    ///
    /// The newest authority that the node trusts must have signed them. So nobody adds an authority, or brings an older
    /// one back, with the key of a server, or with a copy of the key that a rotation replaces.
    ///
    /// # Errors
    /// Not signed so, or more than one new authority.
    pub fn accepted(self, own: &str, name: &str, nonce: &Bytes32) -> Result<String> {
        if self.authority == own {
            return Ok(self.authority);
        }
        let text = answer(&self.authority, name, nonce);
        let newest = inspect::newest(own).context("the authorities of this node")?;
        let is_signed = |(_, info): &inspect::Read| self.signature.is_by(&info.public_key, &text);
        ensure!(
            newest.iter().any(is_signed),
            "the authorities that it sent are not signed by the newest authority that this node trusts; this node keeps \
             its own. Perhaps it missed a rotation, or the master was rebuilt: compare `appliance certs show` here and there. \
             To join again: run `appliance token create` on the master, put the token into {} here (`join: {{token: \
             TOKEN}}`), and run `mv /etc/kubernetes/ca /etc/kubernetes/ca.old && appliance install`",
            paths::CONFIG
        );
        let known = inspect::certificates(own)?;
        let sent = inspect::certificates(&self.authority)?;
        let is_new = |(pem, _): &&inspect::Read| !known.iter().any(|(known, _)| known == pem);
        let new: Vec<_> = sent.iter().filter(is_new).collect();
        // One with a chain of certificates above it counts once.
        let is_top = |own: &&&inspect::Read| {
            let above = |other: &&&inspect::Read| {
                other.0 != own.0
                    && inspect::is_signed_by(own.0.as_bytes(), other.0.as_bytes()).unwrap_or(false)
            };
            !new.iter().any(|other| above(&other))
        };
        let (new, all) = (new.iter().filter(is_top).count(), sent.len());
        ensure!(
            all > 0 && new <= MOST_NEW,
            "it sent {all} authorities, {new} of them new; a rotation adds one at a time. This node keeps its own; see \
             `appliance certs show` here and on the master"
        );
        Ok(self.authority)
    }
}

/// Checks that the node with this certificate (DER) signed the request, not long ago.
pub fn check(
    certificate: &[u8],
    request: &impl Signed,
    now: OffsetDateTime,
) -> Result<Result<(), Refusal>> {
    let key = inspect::inspect_der(certificate)?.public_key;
    if !request.signature().is_by(&key, &request.text()) {
        let why = "the request is not signed with the key of the node's certificate kubelet-client";
        return Ok(Err(Refusal::new(Reason::NotYours, why)));
    }
    if (now - request.time()).abs() > MOST_APART {
        let why = format!(
            "the request is from {}, and the master's clock says {}; {}",
            moment(request.time()),
            moment(now),
            clock::CORRECT
        );
        return Ok(Err(Refusal::new(Reason::Unavailable, why)));
    }
    Ok(Ok(()))
}

fn renewal(
    requests: &[CertificateSigningRequest],
    machine: Option<&Bytes32>,
    time: OffsetDateTime,
) -> Vec<u8> {
    let mut fields = Fields::new("appliance renewal v1");
    fields.add(&nanoseconds(time));
    fields.add(machine.map_or(&[], |machine| &machine.0));
    for request in requests {
        fields.add(request.name.as_bytes());
        fields.add(request.csr.as_bytes());
    }
    fields.bytes()
}

fn question(taken: Option<&str>, nonce: &Bytes32, time: OffsetDateTime) -> Vec<u8> {
    let mut fields = Fields::new("appliance trust v1");
    fields.add(&nanoseconds(time));
    fields.add(&nonce.0);
    fields.add(taken.unwrap_or_default().as_bytes());
    fields.bytes()
}

fn answer(authority: &str, name: &str, nonce: &Bytes32) -> Vec<u8> {
    let mut fields = Fields::new("appliance authorities v1");
    fields.add(name.as_bytes());
    fields.add(&nonce.0);
    fields.add(authority.as_bytes());
    fields.bytes()
}

fn nanoseconds(time: OffsetDateTime) -> [u8; 16] {
    time.unix_timestamp_nanos().to_be_bytes()
}
