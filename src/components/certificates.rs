//! The table of a node's certificates: whose names they bear, and what each may be used for. Pure.

use core::net::{IpAddr, Ipv4Addr};

use crate::nodespec::network::SubjectAltName;
use crate::nodespec::{NodeSpec, Role, Shape};
use crate::paths;
use crate::pki::{AuthorityRequest, CertificateRequest, KeyPairRequest, PkiRequest, Usage};

/// The certificate a kubelet shows when it asks for its own: its node's name is in it, so that
/// nobody can ask for another node's.
pub const KUBELET_CLIENT: &str = "kubelet-client";

/// The certificate of a member of etcd, by whose key a master is known to the others.
pub const ETCD_CERTIFICATE: &str = "etcd";

/// One certificate of a master.
struct Certificate {
    /// Its name, and its directory's.
    name: &'static str,
    /// The user it makes its holder, to Kubernetes.
    common_name: &'static str,
    /// That user's group.
    organization: &'static str,
    /// For a server: its names besides the node's own.
    serves: Option<Names>,
}

/// The names and addresses a server has besides its node's own.
type Names = fn(&NodeSpec) -> (Vec<String>, Vec<IpAddr>);

const ETCD_MEMBER: Certificate = Certificate {
    name: ETCD_CERTIFICATE,
    common_name: "etcd",
    organization: "k8s",
    serves: Some(|_| (vec![], vec![])),
};

const MASTER: &[Certificate] = &[
    ETCD_MEMBER,
    Certificate {
        name: "kubernetes",
        common_name: "kubernetes",
        organization: "k8s",
        serves: Some(api_server_names),
    },
    Certificate {
        name: "admin",
        common_name: "admin",
        organization: "system:masters",
        serves: None,
    },
    Certificate {
        name: "calico",
        common_name: "calico",
        organization: "k8s",
        serves: None,
    },
    Certificate {
        name: "kube-controller-manager",
        common_name: "system:kube-controller-manager",
        organization: "k8s",
        serves: None,
    },
    Certificate {
        name: "kube-scheduler",
        common_name: "system:kube-scheduler",
        organization: "k8s",
        serves: None,
    },
];

/// The names of the certificates of a node of that role, the authority's own first.
pub fn certificate_names(role: Role) -> Vec<&'static str> {
    let mut names = vec!["ca"];
    if role.is_master() {
        names.extend(MASTER.iter().map(|certificate| certificate.name));
    }
    if role.is_worker() {
        let own = worker("", Ipv4Addr::UNSPECIFIED);
        names.extend(own.iter().map(|request| request.name));
    }
    without_repeats(names)
}

/// The certificates and key pairs a master makes for itself; `None` in the profile that has none,
/// and on a worker, which gets its own by joining.
pub fn pki_request(spec: &NodeSpec) -> Option<PkiRequest> {
    (spec.tls() && spec.role.is_master()).then(|| PkiRequest {
        authority: AuthorityRequest {
            common_name: "kubernetes".to_owned(),
            path: paths::CA_CERTIFICATE.to_owned(),
            given: None,
        },
        certificates: master(spec),
        service_account: service_account(),
    })
}

/// The pair that signs and checks service accounts' tokens.
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

/// The certificates of the worker called `name` at `address`. This is what it asks for, and all
/// that a master gives to it.
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
        client("calico", "calico".to_owned(), "k8s"),
    ]
}

impl Certificate {
    fn request(&self, spec: &NodeSpec) -> CertificateRequest {
        match self.serves {
            Some(serves) => self.served_by(&spec.name, *spec.address, serves(spec)),
            None => self.bearing(vec![], vec![]),
        }
    }

    /// With the names of the node called `name` at `address`, and `more`.
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
            // etcd's gateway dials itself with its server certificate, and kube-apiserver shows
            // its own to etcd and to kubelets.
            usage: match self.serves {
                Some(_) => Usage::Both,
                None => Usage::Client,
            },
        }
    }
}

/// What clients call the API server besides the node: what pods know it by, and what the
/// operator adds, such as a floating IP.
fn api_server_names(spec: &NodeSpec) -> (Vec<String>, Vec<IpAddr>) {
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
    // Clients may reach the API server by an address that other machines share or translate.
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

/// The services, each with the containers beside it, that are restarted when the certificate of that
/// name is renewed.
pub fn restarted_for(name: &str, shape: Shape) -> Vec<&'static str> {
    let services = super::services(shape);
    let uses = |service: &&&super::Service| {
        // A component with a kubeconfig of its own has a certificate of its own name in it.
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
