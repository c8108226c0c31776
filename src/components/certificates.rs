//! The table of a node's certificates: their names, and what each may be used for. Pure.

use core::net::{IpAddr, Ipv4Addr};

use crate::nodespec::network::SubjectAltName;
use crate::nodespec::{NodeSpec, Role, Shape};
use crate::paths;
use crate::pki::{
    AuthorityRequest, CertificateRequest, IssuedBy, KeyPairRequest, PkiRequest, Usage,
};

/// The client certificate with which a kubelet requests its own certificate. It contains the name
/// of its node, so that no node can request the certificate of another.
pub const KUBELET_CLIENT: &str = "kubelet-client";

/// The certificate authority of the cluster.
pub const AUTHORITY: &str = "ca";

/// The certificate authority of etcd.
pub const ETCD_AUTHORITY: &str = "etcd-ca";

/// The certificate of a member of etcd. The other masters recognize a master by its key.
pub const ETCD_CERTIFICATE: &str = "etcd";

/// The certificate with which the API server is a client of etcd.
pub const ETCD_CLIENT: &str = "kube-apiserver-etcd-client";

/// The certificate of the server at which nodes reach Calico's data.
pub const DATASTORE: &str = "calico-datastore";

/// The certificate with which that server is a client of etcd.
pub const DATASTORE_CLIENT: &str = "calico-datastore-etcd-client";

/// The certificate of Calico on each node.
pub const CALICO_CERTIFICATE: &str = "calico";

/// One certificate of a master.
struct Certificate {
    /// Its name, and the name of its directory.
    name: &'static str,
    /// The user in Kubernetes.
    common_name: &'static str,
    /// The group of this user in Kubernetes.
    organization: &'static str,
    /// For a server: its names in addition to the node's name.
    serves: Option<ServerNames>,
    usage: Usage,
    issuer: IssuedBy,
}

/// The names and addresses of a server in addition to those of its node.
type ServerNames = fn(&NodeSpec) -> (Vec<String>, Vec<IpAddr>);

const ETCD_MEMBER: Certificate = Certificate {
    serves: Some(|_| (vec![], vec![])),
    // etcd's gateway connects to etcd with the server certificate.
    usage: Usage::Both,
    ..client_of_etcd(ETCD_CERTIFICATE)
};

const ADMIN: Certificate = Certificate {
    organization: "system:masters",
    ..client("admin", "admin")
};

const MASTER: &[Certificate] = &[
    ETCD_MEMBER,
    client_of_etcd(ETCD_CLIENT),
    client_of_etcd(DATASTORE_CLIENT),
    Certificate {
        serves: Some(|_| (vec![], vec![])),
        usage: Usage::Server,
        ..client(DATASTORE, DATASTORE)
    },
    Certificate {
        serves: Some(api_server_names),
        // kube-apiserver uses its server certificate as a client of kubelets.
        usage: Usage::Both,
        ..client("kubernetes", "kubernetes")
    },
    ADMIN,
    client(CALICO_CERTIFICATE, CALICO_CERTIFICATE),
    client("kube-controller-manager", "system:kube-controller-manager"),
    client("kube-scheduler", "system:kube-scheduler"),
];

/// The client certificate of this name, for this user of the API server.
const fn client(name: &'static str, common_name: &'static str) -> Certificate {
    Certificate {
        name,
        common_name,
        organization: "k8s",
        serves: None,
        usage: Usage::Client,
        issuer: IssuedBy::Cluster,
    }
}

const fn client_of_etcd(name: &'static str) -> Certificate {
    Certificate {
        issuer: IssuedBy::Etcd,
        ..client(name, name)
    }
}

/// The names of the certificates of a node of this role. The authorities come first.
pub fn certificate_names(role: Role) -> Vec<&'static str> {
    let mut names = vec![AUTHORITY];
    if role.is_master() {
        names.push(ETCD_AUTHORITY);
        names.extend(MASTER.iter().map(|certificate| certificate.name));
    }
    if role.is_worker() {
        let own = worker("", Ipv4Addr::UNSPECIFIED);
        names.extend(own.iter().map(|request| request.name));
    }
    without_repeats(names)
}

/// The name of the authority that issues the certificate of this name. An authority is its own.
pub fn authority_of(name: &str) -> &'static str {
    let is_etcds = |certificate: &Certificate| {
        certificate.name == name && certificate.issuer == IssuedBy::Etcd
    };
    match name == ETCD_AUTHORITY || MASTER.iter().any(is_etcds) {
        true => ETCD_AUTHORITY,
        false => AUTHORITY,
    }
}

/// The certificates and key pairs that a master makes for itself; `None` in profile simple, which
/// has none, and on a worker, which gets its certificates when it joins.
pub fn pki_request(spec: &NodeSpec) -> Option<PkiRequest> {
    (spec.tls() && spec.role.is_master()).then(|| PkiRequest {
        authority: cluster_authority(),
        etcd: Some(etcd_authority()),
        certificates: master(spec),
        service_account: service_account(),
    })
}

/// The certificate of the cluster's administrator.
pub fn admin() -> CertificateRequest {
    ADMIN.bearing(vec![], vec![])
}

/// The authority of the cluster.
pub fn cluster_authority() -> AuthorityRequest {
    authority(AUTHORITY, "kubernetes")
}

/// The authority of etcd.
pub fn etcd_authority() -> AuthorityRequest {
    authority(ETCD_AUTHORITY, "etcd")
}

fn authority(name: &'static str, common_name: &str) -> AuthorityRequest {
    AuthorityRequest {
        name,
        common_name: common_name.to_owned(),
        path: paths::certificate(name),
        given: None,
    }
}

/// The key pair that signs and verifies the tokens of service accounts.
pub fn service_account() -> KeyPairRequest {
    KeyPairRequest {
        private: paths::SERVICE_ACCOUNT_PRIVATE.to_owned(),
        public: paths::SERVICE_ACCOUNT_PUBLIC.to_owned(),
        given: None,
    }
}

fn master(spec: &NodeSpec) -> Vec<CertificateRequest> {
    let mut requests: Vec<CertificateRequest> = MASTER
        .iter()
        .map(|certificate| certificate.request(spec))
        .collect();
    if spec.role.is_worker() {
        for request in worker(&spec.name, *spec.address) {
            if requests.iter().all(|other| other.name != request.name) {
                requests.push(request);
            }
        }
    }
    requests
}

/// The certificate of the member of etcd called `name` at `address`.
pub fn etcd_member(name: &str, address: Ipv4Addr) -> CertificateRequest {
    ETCD_MEMBER.served_by(name, address, (vec![], vec![]))
}

/// The certificates of the worker called `name` at `address`. A worker requests exactly these, and
/// a master issues no others to it.
pub fn worker(name: &str, address: Ipv4Addr) -> Vec<CertificateRequest> {
    let client =
        |certificate: &'static str, common_name: String, organization: &str| CertificateRequest {
            name: certificate,
            path: paths::certificate(certificate),
            common_name,
            organization: organization.to_owned(),
            dns_names: vec![],
            ip_addresses: vec![],
            usage: Usage::Client,
            issuer: IssuedBy::Cluster,
        };
    let node = format!("system:node:{name}");
    vec![
        client(KUBELET_CLIENT, node.clone(), "system:nodes"),
        CertificateRequest {
            dns_names: vec![name.to_owned()],
            ip_addresses: vec![IpAddr::V4(address)],
            usage: Usage::Server,
            ..client("kubelet", node, "system:nodes")
        },
        client("kube-proxy", "system:kube-proxy".to_owned(), "k8s"),
        client(CALICO_CERTIFICATE, CALICO_CERTIFICATE.to_owned(), "k8s"),
    ]
}

impl Certificate {
    fn request(&self, spec: &NodeSpec) -> CertificateRequest {
        match self.serves {
            Some(serves) => self.served_by(&spec.name, *spec.address, serves(spec)),
            None => self.bearing(vec![], vec![]),
        }
    }

    /// Adds the names of the node called `name` at `address`, and `more`.
    fn served_by(
        &self,
        name: &str,
        address: Ipv4Addr,
        more: (Vec<String>, Vec<IpAddr>),
    ) -> CertificateRequest {
        let mut dns_names = vec!["localhost".to_owned(), name.to_owned()];
        dns_names.extend(more.0);
        let mut ip_addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(address)];
        ip_addresses.extend(more.1);
        self.bearing(dns_names, ip_addresses)
    }

    fn bearing(&self, dns_names: Vec<String>, ip_addresses: Vec<IpAddr>) -> CertificateRequest {
        CertificateRequest {
            name: self.name,
            path: paths::certificate(self.name),
            common_name: self.common_name.to_owned(),
            organization: self.organization.to_owned(),
            dns_names: without_repeats(dns_names),
            ip_addresses: without_repeats(ip_addresses),
            usage: self.usage,
            issuer: self.issuer,
        }
    }
}

/// The names and addresses of the API server in addition to those of its node: those that pods use, and
/// those that the operator adds, such as a floating IP.
pub fn api_server_names(spec: &NodeSpec) -> (Vec<String>, Vec<IpAddr>) {
    let mut names: Vec<String> = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        .map(str::to_owned)
        .into();
    let labels: Vec<&str> = spec.cluster.domain.split('.').collect();
    for count in 1..=labels.len() {
        names.push(format!(
            "kubernetes.default.svc.{}",
            labels[..count].join(".")
        ));
    }
    let mut addresses = vec![IpAddr::V4(spec.cluster.api_server_ip())];
    addresses.extend(spec.cluster.masters.iter().map(|m| IpAddr::V4(m.address)));
    // Clients may reach the API server at a shared or translated address.
    let others = [&spec.cluster.master, &spec.floating_ip];
    addresses.extend(others.into_iter().flatten().map(|ip| IpAddr::V4(ip.value)));
    for san in &*spec.cluster.api_server_sans {
        match san {
            SubjectAltName::Dns(name) => names.push(name.clone()),
            SubjectAltName::Ip(address) => addresses.push(*address),
        }
    }
    (names, addresses)
}

/// The services, each with the containers that use its certificates, that are restarted when the
/// certificate of this name is renewed.
pub fn restarted_for(name: &str, shape: Shape) -> Vec<&'static str> {
    let services = super::services(shape);
    let uses = |service: &&&super::Service| {
        // The kubeconfig of a component contains the certificate of the same name.
        service.certificates.contains(&name) || service.name == name
    };
    services
        .iter()
        .filter(uses)
        .flat_map(|service| {
            let beside = super::containers_beside(service.name).iter().copied();
            std::iter::once(service.name).chain(beside)
        })
        .collect()
}

/// The first of equal items, in order.
fn without_repeats<T: PartialEq>(items: Vec<T>) -> Vec<T> {
    let mut kept: Vec<T> = Vec::with_capacity(items.len());
    for item in items {
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    kept
}
