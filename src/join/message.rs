//! The messages between worker and master: JSON over HTTPS. `docs/join.md` describes the exchange.
//! All data from the network is read into these types; unknown fields are refused.

use core::net::Ipv4Addr;
use core::ops::Not;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::sealed::Sealed;
use crate::nodespec::Ipip;
use crate::nodespec::token::{Bytes32, TokenId};
use crate::pki::signature::Signature;

// The version of the protocol is in each path: `formats::JOIN.number`.
/// The path at which a worker begins an exchange.
pub const HELLO: &str = "/v1/hello";
/// The path at which it proves that it has the token, and requests certificates.
pub const JOIN: &str = "/v1/join";
/// The path at which a node renews its certificates. It authenticates with its present one.
pub const RENEW: &str = "/v1/renew";

/// The path at which a node asks which authorities the cluster trusts, and tells which ones it has taken.
pub const TRUST: &str = "/v1/trust";

/// The path at which a node asks whether it is its turn to upgrade.
pub const FOLLOW: &str = "/v1/upgrade";

/// The path at which it gets a part of the appliance: SHA-256 of the appliance and the first byte follow.
pub const PROGRAM: &str = "/v1/program";

/// The only name in the server certificate of the join service. It is not a name or an address of the master: so the
/// service cannot pass for another server of the cluster, nor another server for the service.
pub const SERVICE_NAME: &str = "appliance-join";

/// The longest request, in bytes. A worker's requests take some 3 KiB.
pub const MAX_REQUEST: usize = 64 * 1024;
/// The longest answer, in bytes: certificates, each possibly with the CA certificates above it.
pub const MAX_ANSWER: u64 = 256 * 1024;

/// A worker's first message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hello {
    /// The ID of its token.
    pub token_id: TokenId,
    /// The node name it requests.
    pub node_name: String,
    /// The address at which it is reached.
    pub node_address: Ipv4Addr,
    /// Its random bytes.
    pub nonce: Bytes32,
    /// Whether it trusts authorities already: then it takes others only with their signature.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub trusts: bool,
}

/// The master's answer to [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Welcome {
    /// The identifier of the exchange.
    pub session: Bytes32,
    /// The master's random bytes.
    pub nonce: Bytes32,
    /// The CA certificates of the cluster in PEM, the issuing CA first.
    pub authority: String,
    /// For a node that trusts authorities: the signature over the present ones, as in [`Trusted`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// The proof that it knows the token.
    pub proof: Bytes32,
    /// The time of its clock.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
}

/// One requested certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateSigningRequest {
    /// The name of the node's certificate, such as `kubelet`.
    pub name: String,
    /// The request (PKCS#10), in PEM.
    pub csr: String,
}

/// The worker's proof and its requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The identifier of its exchange.
    pub session: Bytes32,
    /// The proof that it knows the token.
    pub proof: Bytes32,
    /// The certificates it requests.
    pub requests: Vec<CertificateSigningRequest>,
    /// From a further master: the public key (X25519) for which to seal the keys that masters
    /// share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<Bytes32>,
    /// SHA-256 of the UUID of its machine, if it knows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Bytes32>,
}

/// A node's request to renew its certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    /// The certificates it requests.
    pub requests: Vec<CertificateSigningRequest>,
    /// SHA-256 of the UUID of its machine, if it knows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Bytes32>,
    /// The time of its clock.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// The signature over all of this, with the key of its certificate kubelet-client.
    pub signature: Signature,
}

/// A node's question which authorities the cluster trusts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// SHA-256 of the file with the authorities that it has taken whole: all its services and certificates are as
    /// the file says. In hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<String>,
    /// Its random bytes: the answer is for this question only.
    pub nonce: Bytes32,
    /// The time of its clock.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// The signature over all of this, with the key of its certificate kubelet-client.
    pub signature: Signature,
}

/// The answer to [`Trust`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trusted {
    /// The authorities in PEM, the issuing one first.
    pub authority: String,
    /// The signature over them, the name of the node and its random bytes, with the key of the issuing authority.
    pub signature: Signature,
}

/// One issued certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The name in the request.
    pub name: String,
    /// The certificate, and the CA certificates between it and the root, in PEM.
    pub pem: String,
}

/// The answer to [`Join`] and [`Renew`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificates {
    /// One certificate for each request of a worker, in the same order. A master issues its own.
    pub certificates: Vec<Certificate>,
    /// For a further master: the keys that all masters share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<Sealed>,
    /// For a node that joins: when the cluster uses tunnels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipip: Option<Ipip>,
}

/// The reason of a refusal, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The request is invalid.
    BadRequest,
    /// The master does not know this token.
    UnknownToken,
    /// The token has expired.
    ExpiredToken,
    /// An operator revoked the token.
    RevokedToken,
    /// The token was used as often as it may be.
    UsedUpToken,
    /// The proof is wrong.
    WrongProof,
    /// The exchange does not exist, or is over.
    UnknownSession,
    /// The sender may not use this name or address.
    NotYours,
    /// Another machine uses the name.
    NameTaken,
    /// A requested certificate is not allowed.
    BadCertificateRequest,
    /// The sender makes too many requests.
    TooManyRequests,
    /// The master cannot answer now.
    Unavailable,
    /// The master does not speak this version of the protocol.
    UnsupportedVersion,
    /// A reason that only newer masters know.
    #[serde(other)]
    Other,
}

/// How a node that no master accepts any longer joins again. Its present keys and certificates are kept.
pub const JOIN_AGAIN: &str = "to join again, make a token on a master (`appliance token create`), put it into \
     /etc/appliance/config.yaml on this node (`join: {token: TOKEN}`), and run this here: `mv /etc/kubernetes/ca \
     /etc/kubernetes/ca.old && appliance install`";

impl Reason {
    /// The HTTP status of a refusal with this reason.
    pub fn status(self) -> u16 {
        match self {
            Reason::BadRequest | Reason::BadCertificateRequest | Reason::Other => 400,
            Reason::UnsupportedVersion => 404,
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

    /// Whether the same request may succeed later.
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

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// The reason, for programs.
    pub reason: Reason,
    /// The reason and the next step, for the operator.
    pub error: String,
}

impl Refusal {
    /// A refusal with this reason and text.
    pub fn new(reason: Reason, error: impl Into<String>) -> Refusal {
        Refusal {
            reason,
            error: error.into(),
        }
    }
}
