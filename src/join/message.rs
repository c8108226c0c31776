//! What the worker and the master tell each other: JSON over HTTPS. `docs/join.md` describes the
//! exchange. Whatever comes from the network is read into these types, and no field more.

use core::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::sealed::Sealed;
use crate::nodespec::token::{Bytes32, TokenId};

/// Where a worker begins an exchange.
pub const HELLO: &str = "/v1/hello";
/// Where it proves to have the token and asks for certificates.
pub const JOIN: &str = "/v1/join";
/// Where a node asks for its certificates again, showing one it has.
pub const RENEW: &str = "/v1/renew";

/// The longest request, in bytes. A worker's requests take some 3 KiB.
pub const MAX_REQUEST: usize = 64 * 1024;
/// The longest answer, in bytes: certificates, each perhaps with those of its authorities.
pub const MAX_ANSWER: u64 = 256 * 1024;

/// A worker's first word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hello {
    /// The token it knows.
    pub token_id: TokenId,
    /// The name it asks for.
    pub node_name: String,
    /// The address it is reached by.
    pub node_address: Ipv4Addr,
    /// Random bytes of its own.
    pub nonce: Bytes32,
}

/// The master's answer to [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Welcome {
    /// Names the exchange.
    pub session: Bytes32,
    /// Random bytes of the master's own.
    pub nonce: Bytes32,
    /// The cluster's authorities, the issuing one first, in PEM.
    pub authority: String,
    /// That it knows the token.
    pub proof: Bytes32,
    /// The time by its clock.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
}

/// One certificate asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateSigningRequest {
    /// Which of the node's certificates, such as `kubelet`.
    pub name: String,
    /// The request (PKCS#10), in PEM.
    pub csr: String,
}

/// The worker's proof, and what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The exchange it belongs to.
    pub session: Bytes32,
    /// That it knows the token.
    pub proof: Bytes32,
    /// The certificates it asks for.
    pub requests: Vec<CertificateSigningRequest>,
    /// Of a machine that is to be a master too: what the keys that masters share are to be sealed
    /// for (X25519).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<Bytes32>,
}

/// What a node asks for whose certificates come to their end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    /// The certificates it asks for.
    pub requests: Vec<CertificateSigningRequest>,
}

/// One certificate issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The name it was asked for by.
    pub name: String,
    /// The certificate, and those of the authorities between it and the root, in PEM.
    pub pem: String,
}

/// The answer to [`Join`] and [`Renew`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificates {
    /// One for each request of a worker, in the same order. A master issues its own.
    pub certificates: Vec<Certificate>,
    /// For a machine that is to be a master too: the keys that all masters have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<Sealed>,
}

/// Why something is refused, in a word a program understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It cannot be read, or holds what no worker sends.
    BadRequest,
    /// The master knows no such token.
    UnknownToken,
    /// The token's time is over.
    ExpiredToken,
    /// An operator revoked the token.
    RevokedToken,
    /// As many workers have joined with it as may.
    UsedUpToken,
    /// The proof is wrong.
    WrongProof,
    /// There is no such exchange, or it is over.
    UnknownSession,
    /// The name or address is not the asker's to have.
    NotYours,
    /// Another machine has the name, and is not gone.
    NameTaken,
    /// A certificate asked for may not be had.
    BadCertificateRequest,
    /// It asks too often.
    TooManyRequests,
    /// The master cannot answer now.
    Unavailable,
}

impl Reason {
    /// The HTTP status that goes with it.
    pub fn status(self) -> u16 {
        match self {
            Reason::BadRequest | Reason::BadCertificateRequest => 400,
            Reason::UnknownToken
            | Reason::ExpiredToken
            | Reason::RevokedToken
            | Reason::UsedUpToken
            | Reason::WrongProof
            | Reason::NotYours => 403,
            Reason::UnknownSession => 410,
            Reason::NameTaken => 409,
            Reason::TooManyRequests => 429,
            Reason::Unavailable => 503,
        }
    }

    /// Whether the same may be asked again, later.
    pub fn is_transient(self) -> bool {
        matches!(
            self,
            Reason::UnknownSession
                | Reason::NameTaken
                | Reason::TooManyRequests
                | Reason::Unavailable
        )
    }
}

/// The answer where something is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// Why, for programs.
    pub reason: Reason,
    /// Why, and what to do, for people.
    pub error: String,
}

impl Refusal {
    /// A refusal for `reason`, told as `error`.
    pub fn new(reason: Reason, error: impl Into<String>) -> Refusal {
        Refusal {
            reason,
            error: error.into(),
        }
    }
}
