//! The cluster's certificate authority, certificates and key pairs: compares the request with what
//! the node has, and makes what is missing. All in memory.

use core::net::IpAddr;

pub mod account;
mod authority;
pub mod bytes;
pub mod encryption;
mod held;
pub mod inspect;
pub mod issue;
pub mod key;
mod random;
mod resolve;
mod secret;
pub mod signature;
pub mod token;

pub use authority::authority_alone;
pub use held::{Held, hold, is_due};
pub use resolve::resolve;
pub use secret::Secret;

/// The files a node already has.
pub trait Existing {
    /// The bytes of the file at the absolute `path`; `None` if there is none.
    fn read(&self, path: &str) -> anyhow::Result<Option<Vec<u8>>>;
}

/// All keys and certificates that a node needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PkiRequest {
    /// The cluster's certificate authority.
    pub authority: AuthorityRequest,
    /// The authority of etcd, on a master.
    pub etcd: Option<AuthorityRequest>,
    /// The certificates that they issue.
    pub certificates: Vec<CertificateRequest>,
    /// The key pair that signs and verifies the tokens of service accounts.
    pub service_account: KeyPairRequest,
}

/// The certificate authority that a node needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityRequest {
    /// The name of its certificate: `ca` or `etcd-ca`.
    pub name: &'static str,
    /// Its common name.
    pub common_name: String,
    /// Its certificate's path. Its key is beside it, with `-key.pem` for `.pem`.
    pub path: String,
    /// The operator's own one, which is used if there is none yet.
    pub given: Option<GivenAuthority>,
}

/// The operator's own authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenAuthority {
    /// Where its certificates come from, in words.
    pub place: String,
    /// Its certificates in PEM, that of the issuing authority first, the root last.
    pub certificates: String,
    /// Where its key comes from, in words.
    pub key_place: String,
    /// The key of the issuing authority, in PEM.
    pub key: Secret,
    /// Whether roots of other authorities may be behind its own: those of a cluster that replaces its authority.
    pub may_have_others: bool,
}

/// A key pair without a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPairRequest {
    /// The private key's path.
    pub private: String,
    /// The public key's path.
    pub public: String,
    /// The pair of other masters, which this one shares.
    pub given: Option<GivenPair>,
}

/// A key pair that another master sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenPair {
    /// The private key in PEM.
    pub private: Secret,
    /// All public keys (PEM) that verify tokens; `None` if it is the one of the private key alone.
    pub public: Option<String>,
}

/// A certificate that this node needs. It says neither how it is stored, nor when it was made.
/// Pure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    /// The name people and checks use, such as `etcd`.
    pub name: &'static str,
    /// The certificate's path. Its key is beside it: `/etc/kubernetes/ca/etcd/etcd.pem` has the key
    /// `/etc/kubernetes/ca/etcd/etcd-key.pem`.
    pub path: String,
    /// The subject's common name, which is the user in Kubernetes.
    pub common_name: String,
    /// The subject's organization, which is the group in Kubernetes.
    pub organization: String,
    /// Subject alternative names of type DNS.
    pub dns_names: Vec<String>,
    /// Subject alternative names of type IP address.
    pub ip_addresses: Vec<IpAddr>,
    /// Its purpose.
    pub usage: Usage,
    /// The authority that issues it.
    pub issuer: IssuedBy,
}

/// The authority that issues a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssuedBy {
    /// The cluster's.
    Cluster,
    /// That of etcd, on masters. etcd accepts no certificate of another one.
    Etcd,
}

/// The purpose of a certificate (RFC 5280, 4.2.1.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// For a client.
    Client,
    /// For a server.
    Server,
    /// Both.
    Both,
}

impl Usage {
    /// Whether a client may use it.
    pub fn is_client(self) -> bool {
        self != Usage::Server
    }

    /// Whether a server may use it.
    pub fn is_server(self) -> bool {
        self != Usage::Client
    }
}

/// All keys and certificates of a node, the existing and the new ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pki {
    /// The cluster's certificate authority.
    pub authority: Issued,
    /// The authority of etcd, on a master.
    pub etcd: Option<Issued>,
    /// The certificates they issued, in the order of the request.
    pub certificates: Vec<Issued>,
    /// The key pair of service accounts, on masters.
    pub service_account: Option<KeyPair>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The name of the request.
    pub name: String,
    /// The path of the certificate.
    pub certificate_path: String,
    /// The certificate in PEM.
    pub certificate_pem: String,
    /// The path of its key.
    pub key_path: String,
    /// Its key in PEM; `None` for an authority whose key is on another node.
    pub key_pem: Option<Secret>,
    /// Why the certificate is new; `None` if it existed and is usable.
    pub reason: Option<String>,
}

/// A key pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// The path of the private key.
    pub private_path: String,
    /// The private key in PEM.
    pub private_pem: Secret,
    /// The path of the public key.
    pub public_path: String,
    /// The public key in PEM; while a rotation replaces the pair, that of the other pair too.
    pub public_pem: String,
}

impl Pki {
    /// The authorities' own certificates and all they issued.
    pub fn issued(&self) -> impl Iterator<Item = &Issued> {
        std::iter::once(&self.authority)
            .chain(&self.etcd)
            .chain(&self.certificates)
    }

    /// The certificate of that name.
    pub fn named(&self, name: &str) -> Option<&Issued> {
        self.issued().find(|issued| issued.name == name)
    }
}
