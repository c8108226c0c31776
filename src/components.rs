//! The table of what runs on a node: services, their certificates, their health. Pure.

use core::net::{IpAddr, Ipv4Addr};

use crate::pki::{AuthorityRequest, CertificateRequest, KeyPairRequest, PkiRequest};
use crate::spec::network::SubjectAltName;
use crate::spec::{NodeSpec, Role};

/// The directory of all certificates, as the tutorial has it.
pub const CA_DIR: &str = "/etc/kubernetes/ca";
/// The cluster's certificate authority.
pub const CA_CERTIFICATE: &str = "/etc/kubernetes/ca/ca.pem";
/// The tokens kube-apiserver knows (`--token-auth-file`).
pub const TOKEN_FILE: &str = "/etc/kubernetes/ca/kubernetes/token.csv";
/// The public half of the service accounts' key pair.
pub const SERVICE_ACCOUNT_PUBLIC: &str = "/etc/kubernetes/ca/service-account/service-account.pub";
/// The private half of the service accounts' key pair.
pub const SERVICE_ACCOUNT_PRIVATE: &str =
    "/etc/kubernetes/ca/service-account/service-account-key.pem";
/// What kube-apiserver writes to the audit log.
pub const AUDIT_POLICY: &str = "/etc/kubernetes/audit-policy.yaml";
/// The administrator's kubeconfig.
pub const ADMIN_KUBECONFIG: &str = "/etc/kubernetes/admin.kubeconfig";
/// The controller manager's kubeconfig.
pub const CONTROLLER_MANAGER_KUBECONFIG: &str =
    "/etc/kubernetes/kube-controller-manager.kubeconfig";
/// The scheduler's kubeconfig.
pub const SCHEDULER_KUBECONFIG: &str = "/etc/kubernetes/kube-scheduler.kubeconfig";
/// What this program adds to the distribution's docker unit.
pub const DOCKER_DROP_IN: &str = "/etc/systemd/system/docker.service.d/appliance-forward.conf";

/// Where a service's program comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// The payload's program of this name.
    Program(&'static str),
    /// A container of the payload's image of this name.
    Image(&'static str),
    /// The distribution's package, or the payload where it carries docker itself.
    Docker,
}

/// How the parts of a node are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The node's address.
    pub address: Ipv4Addr,
    /// Whether they speak TLS.
    pub tls: bool,
}

impl Reach {
    /// `https` or `http`.
    pub fn scheme(self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

/// Where a service tells whether it is healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// An address that answers 2xx if and only if the service is healthy.
    pub url: String,
    /// The certificate to show there, by name, where one is asked for.
    pub client: Option<&'static str>,
}

/// One service of a node.
pub struct Service {
    /// The unit's name without `.service`, as the tutorial has it.
    pub name: &'static str,
    /// What it runs.
    pub runs: Runs,
    /// The certificates whose change it must be restarted for.
    pub certificates: &'static [&'static str],
    /// The other files whose change it must be restarted for.
    pub files: &'static [&'static str],
    /// Where its health is asked; `None` if its unit's state is all there is.
    pub health: Option<fn(Reach) -> Health>,
}

impl Service {
    /// The template its unit is made from.
    pub fn template(&self) -> String {
        format!("units/{}.service", self.name)
    }

    /// Where its unit lies.
    pub fn unit_path(&self) -> String {
        format!("/etc/systemd/system/{}.service", self.name)
    }
}

const ETCD: Service = Service {
    name: "etcd",
    runs: Runs::Program("etcd"),
    certificates: &["ca", "etcd"],
    files: &[],
    health: Some(|reach| Health {
        url: format!("{}://{}:2379/health", reach.scheme(), reach.address),
        client: Some("etcd"),
    }),
};

const API_SERVER: Service = Service {
    name: "kube-apiserver",
    runs: Runs::Program("kube-apiserver"),
    certificates: &["ca", "kubernetes"],
    files: &[AUDIT_POLICY, TOKEN_FILE, SERVICE_ACCOUNT_PUBLIC],
    health: Some(|reach| Health {
        url: if reach.tls {
            format!("https://{}:6443/healthz", reach.address)
        } else {
            "http://127.0.0.1:8080/healthz".to_owned()
        },
        client: Some("admin"),
    }),
};

const CONTROLLER_MANAGER: Service = Service {
    name: "kube-controller-manager",
    runs: Runs::Program("kube-controller-manager"),
    certificates: &["ca"],
    files: &[CONTROLLER_MANAGER_KUBECONFIG, SERVICE_ACCOUNT_PRIVATE],
    health: Some(|_| local_health(10252)),
};

const SCHEDULER: Service = Service {
    name: "kube-scheduler",
    runs: Runs::Program("kube-scheduler"),
    certificates: &[],
    files: &[SCHEDULER_KUBECONFIG],
    health: Some(|_| local_health(10251)),
};

const DOCKER: Service = Service {
    name: "docker",
    runs: Runs::Docker,
    certificates: &[],
    files: &[DOCKER_DROP_IN],
    health: None,
};

const CALICO: Service = Service {
    name: "kube-calico",
    runs: Runs::Image("calico-node"),
    certificates: &["ca", "calico"],
    files: &[],
    health: Some(|_| Health {
        url: "http://127.0.0.1:9099/readiness".to_owned(),
        client: None,
    }),
};

const MASTER: &[Service] = &[
    ETCD,
    API_SERVER,
    CONTROLLER_MANAGER,
    SCHEDULER,
    DOCKER,
    CALICO,
];

/// The services of a role, in the order they are started: what takes longest and what
/// others wait for comes first.
///
/// Workers are not brought up by this version; [`NodeSpec::resolve`] refuses them.
pub fn services(role: Role) -> &'static [Service] {
    match role {
        Role::Master => MASTER,
        Role::Worker | Role::Single => &[],
    }
}

fn local_health(port: u16) -> Health {
    Health {
        url: format!("http://127.0.0.1:{port}/healthz"),
        client: None,
    }
}

/// The names and addresses a server has besides its node's own.
type Names = fn(&NodeSpec) -> (Vec<String>, Vec<IpAddr>);

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

const CERTIFICATES: &[Certificate] = &[
    Certificate {
        name: "etcd",
        common_name: "etcd",
        organization: "k8s",
        serves: Some(|_| (vec![], vec![])),
    },
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

/// The names of the certificates of a master, the authority's own first.
pub fn certificate_names() -> impl Iterator<Item = &'static str> {
    std::iter::once("ca").chain(CERTIFICATES.iter().map(|certificate| certificate.name))
}

/// The certificates and key pairs of a master; `None` in the profile that has none.
pub fn pki_request(spec: &NodeSpec) -> Option<PkiRequest> {
    spec.tls().then(|| PkiRequest {
        authority: AuthorityRequest {
            common_name: "kubernetes".to_owned(),
            path: CA_CERTIFICATE.to_owned(),
        },
        certificates: CERTIFICATES
            .iter()
            .map(|certificate| certificate.request(spec))
            .collect(),
        service_account: KeyPairRequest {
            private: SERVICE_ACCOUNT_PRIVATE.to_owned(),
            public: SERVICE_ACCOUNT_PUBLIC.to_owned(),
        },
    })
}

impl Certificate {
    fn request(&self, spec: &NodeSpec) -> CertificateRequest {
        let (mut dns_names, mut ip_addresses) = (vec![], vec![]);
        if let Some(serves) = self.serves {
            let (more_names, more_addresses) = serves(spec);
            dns_names.extend(["localhost".to_owned(), spec.name.value.clone()]);
            dns_names.extend(more_names);
            ip_addresses.extend([IpAddr::V4(Ipv4Addr::LOCALHOST), spec.ip()]);
            ip_addresses.extend(more_addresses);
        }
        CertificateRequest {
            name: self.name,
            path: certificate_path(self.name),
            common_name: self.common_name.to_owned(),
            organization: self.organization.to_owned(),
            dns_names: without_repeats(dns_names),
            ip_addresses: without_repeats(ip_addresses),
            server: self.serves.is_some(),
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

/// Where the certificate of that name lies: `ca/NAME/NAME.pem`, the authority's `ca/ca.pem`.
pub fn certificate_path(name: &str) -> String {
    match name {
        "ca" => CA_CERTIFICATE.to_owned(),
        _ => format!("{CA_DIR}/{name}/{name}.pem"),
    }
}

/// The private key that goes with [`certificate_path`].
pub fn key_path(name: &str) -> String {
    certificate_path(name).replace(".pem", "-key.pem")
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
