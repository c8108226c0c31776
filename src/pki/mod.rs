//! The cluster's certificate authority, certificates and key pairs.

use std::net::IpAddr;

/// A certificate this node is to have. Pure: says what, not how it is stored or when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    /// The name people and checks use, such as `etcd`.
    pub name: &'static str,
    /// The certificate's path; its key lies beside it: `/etc/kubernetes/ca/etcd/etcd.pem`
    /// goes with `/etc/kubernetes/ca/etcd/etcd-key.pem`.
    pub path: String,
    /// The subject's common name: the user, to Kubernetes.
    pub common_name: String,
    /// The subject's organization: the group, to Kubernetes.
    pub organization: String,
    /// Subject alternative names of type DNS.
    pub dns_names: Vec<String>,
    /// Subject alternative names of type IP address.
    pub ip_addresses: Vec<IpAddr>,
    /// Whether it is for a server as well; every certificate is for a client
    /// (etcd's gateway dials itself with its server certificate).
    pub server: bool,
}
