//! The table of the services of a node, with their certificates and health endpoints. Pure.

use core::net::Ipv4Addr;

use crate::addons;
use crate::spec::{Profile, Role};

mod certificates;
pub mod ports;

pub use certificates::{
    ETCD_CERTIFICATE, KUBELET_CLIENT, certificate_names, certificate_path, etcd_member, key_path,
    pki_request, restarted_for, service_account, worker,
};

/// The directory of all certificates. The tutorial uses the same path.
pub const CA_DIR: &str = "/etc/kubernetes/ca";
/// The cluster's certificate authority.
pub const CA_CERTIFICATE: &str = "/etc/kubernetes/ca/ca.pem";
/// Only the certificate of the issuing CA, if [`CA_CERTIFICATE`] also contains CA certificates
/// above it: the controller manager v1.9 accepts exactly one.
pub const ISSUER_CERTIFICATE: &str = "/etc/kubernetes/ca/ca-issuer.pem";
/// The tokens that kube-apiserver accepts (`--token-auth-file`).
pub const TOKEN_FILE: &str = "/etc/kubernetes/ca/kubernetes/token.csv";
/// The public key of the service accounts' key pair.
pub const SERVICE_ACCOUNT_PUBLIC: &str = "/etc/kubernetes/ca/service-account/service-account.pub";
/// The private key of the service accounts' key pair.
pub const SERVICE_ACCOUNT_PRIVATE: &str =
    "/etc/kubernetes/ca/service-account/service-account-key.pem";
/// The audit policy of kube-apiserver: which requests it logs.
pub const AUDIT_POLICY: &str = "/etc/kubernetes/audit-policy.yaml";
/// The administrator's kubeconfig.
pub const ADMIN_KUBECONFIG: &str = "/etc/kubernetes/admin.kubeconfig";
/// The controller manager's kubeconfig.
pub const CONTROLLER_MANAGER_KUBECONFIG: &str =
    "/etc/kubernetes/kube-controller-manager.kubeconfig";
/// The scheduler's kubeconfig.
pub const SCHEDULER_KUBECONFIG: &str = "/etc/kubernetes/kube-scheduler.kubeconfig";
/// The kubelet's kubeconfig. The kubelet writes it when it gets its certificate.
pub const KUBELET_KUBECONFIG: &str = "/etc/kubernetes/kubelet.kubeconfig";
/// The kubeconfig with which a kubelet requests its certificate.
pub const BOOTSTRAP_KUBECONFIG: &str = "/etc/kubernetes/bootstrap.kubeconfig";
/// kube-proxy's kubeconfig.
pub const PROXY_KUBECONFIG: &str = "/etc/kubernetes/kube-proxy.kubeconfig";
/// The kubeconfig of Calico's CNI plugin.
pub const CALICO_KUBECONFIG: &str = "/etc/kubernetes/calico.kubeconfig";
/// The expected state of the cluster for `appliance check`, on a master.
pub const EXPECTED: &str = "/etc/kubernetes/appliance-check.json";
/// The images that docker needs on this node, and the tarball of each.
pub const IMAGES: &str = "/etc/kubernetes/appliance-images.json";
/// The objects of the cluster that nodes need to join.
pub const CLUSTER_OBJECTS: &str = "/etc/kubernetes/appliance-objects.yaml";
/// The unprivileged user of the join service.
pub const JOIN_USER: &str = "appliance-join";
/// The directory of the join service: tokens and joined nodes.
pub const JOIN_DIR: &str = "/var/lib/appliance/join";
/// The wrapper around the machine's iptables-restore, for kubelet and kube-proxy.
pub const IPTABLES_RESTORE: &str = "/opt/appliance/shims/iptables-restore";
/// The names and addresses in the settings, for the join service.
pub const JOIN_NAMES: &str = "/etc/kubernetes/appliance-join.json";
/// The service that forwards to the API servers, if there are several.
pub const BALANCER_NAME: &str = "appliance-balancer";
/// The data of this machine's member of etcd.
pub const ETCD_MEMBER_DATA: &str = "/var/lib/etcd/member";
/// How etcd joins its cluster, if it has several members.
pub const ETCD_ENVIRONMENT: &str = "/etc/kubernetes/etcd.env";
/// The path of this program on a node.
pub const PROGRAM: &str = "/usr/local/bin/appliance";
/// The unit that installs the node at each boot.
pub const BOOT_UNIT: &str = "appliance-install.service";
/// The drop-in of this program for the distribution's docker unit.
pub const DOCKER_DROP_IN: &str = "/etc/systemd/system/docker.service.d/appliance-forward.conf";

/// The source of a service's program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// The program of this name in the payload.
    Program(&'static str),
    /// A container of the image of this name in the payload.
    Image(&'static str),
    /// The distribution's package, or docker in the payload.
    Docker,
    /// This program.
    Appliance,
}

/// How to reach the services of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The node's address.
    pub address: Ipv4Addr,
    /// Whether they use TLS.
    pub tls: bool,
    /// The port of the balancer on 127.0.0.1, if there is one.
    pub balancer: u16,
}

impl Reach {
    /// `https` or `http`.
    pub fn scheme(self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

/// The facts that decide which services a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The role of the node.
    pub role: Role,
    /// The profile of the cluster.
    pub profile: Profile,
    /// Whether the cluster has several API servers, and the node a balancer to reach them.
    pub balanced: bool,
}

/// The health endpoint of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// A URL that answers 2xx if and only if the service is healthy.
    pub url: String,
    /// The name of the client certificate, if the URL requires one.
    pub client: Option<&'static str>,
}

/// One service of a node.
pub struct Service {
    /// The unit's name, as in the tutorial; without `.service` if it is a service.
    pub name: &'static str,
    /// What it runs.
    pub runs: Runs,
    /// The certificates whose change requires a restart.
    pub certificates: &'static [&'static str],
    /// The other files whose change requires a restart.
    pub files: &'static [&'static str],
    /// Its health endpoint; `None` if only the state of its unit is known.
    pub health: Option<fn(Reach) -> Health>,
    /// The kind of its unit.
    pub unit: UnitKind,
}

/// The path of a unit file.
pub fn unit_path(unit: &str) -> String {
    format!("/etc/systemd/system/{unit}")
}

/// The kind of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitKind {
    /// A service that always runs.
    Service,
    /// A service that ends by itself when it has nothing left to do.
    MayEnd,
    /// A timer, with the service of the same name.
    Timer,
}

impl Service {
    /// The unit that is enabled and started.
    pub fn unit(&self) -> String {
        match self.unit {
            UnitKind::Service | UnitKind::MayEnd => format!("{}.service", self.name),
            UnitKind::Timer => self.name.to_owned(),
        }
    }

    /// Its unit files: a timer also has a service of the same name.
    pub fn units(&self) -> Vec<String> {
        let service = self.name.trim_end_matches(".timer");
        match self.unit {
            UnitKind::Service | UnitKind::MayEnd => vec![self.unit()],
            UnitKind::Timer => vec![format!("{service}.service"), self.unit()],
        }
    }

    /// The target that starts it.
    pub fn wanted_by(&self) -> &'static str {
        match self.unit {
            UnitKind::Service | UnitKind::MayEnd => "multi-user.target",
            UnitKind::Timer => "timers.target",
        }
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
    unit: UnitKind::Service,
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
    unit: UnitKind::Service,
};

const CONTROLLER_MANAGER: Service = Service {
    name: "kube-controller-manager",
    runs: Runs::Program("kube-controller-manager"),
    certificates: &["ca"],
    files: &[CONTROLLER_MANAGER_KUBECONFIG, SERVICE_ACCOUNT_PRIVATE],
    health: Some(|_| local_health(10252)),
    unit: UnitKind::Service,
};

const SCHEDULER: Service = Service {
    name: "kube-scheduler",
    runs: Runs::Program("kube-scheduler"),
    certificates: &[],
    files: &[SCHEDULER_KUBECONFIG],
    health: Some(|_| local_health(10251)),
    unit: UnitKind::Service,
};

const DOCKER: Service = Service {
    name: "docker",
    runs: Runs::Docker,
    certificates: &[],
    files: &[DOCKER_DROP_IN],
    health: None,
    unit: UnitKind::Service,
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
    unit: UnitKind::Service,
};

/// The containers that the kubelet runs with the certificates of a service on the same node. They
/// read certificates only when they start, so a restart of the service must also restart them.
pub fn containers_beside(service: &str) -> &'static [&'static str] {
    match service {
        "kube-calico" => &["calico-kube-controllers"],
        _ => &[],
    }
}

const SIGNER: Service = Service {
    name: "appliance-signer",
    runs: Runs::Appliance,
    certificates: &["ca", "admin"],
    files: &[JOIN_NAMES],
    health: None,
    unit: UnitKind::Service,
};

const JOIN: Service = Service {
    name: "appliance-join",
    runs: Runs::Appliance,
    certificates: &["ca"],
    files: &[],
    health: None,
    unit: UnitKind::MayEnd,
};

const RENEWALS: Service = Service {
    name: "appliance-renewals",
    runs: Runs::Appliance,
    certificates: &["ca"],
    files: &[],
    health: None,
    unit: UnitKind::Service,
};

const RENEW: Service = Service {
    name: "appliance-renew.timer",
    runs: Runs::Appliance,
    certificates: &[],
    files: &[],
    health: None,
    unit: UnitKind::Timer,
};

const KUBELET: Service = Service {
    name: "kubelet",
    runs: Runs::Program("kubelet"),
    certificates: &["ca", "kubelet"],
    files: &[IPTABLES_RESTORE],
    health: Some(|_| local_health(10248)),
    unit: UnitKind::Service,
};

const PROXY: Service = Service {
    name: "kube-proxy",
    runs: Runs::Program("kube-proxy"),
    certificates: &[],
    files: &[PROXY_KUBECONFIG, IPTABLES_RESTORE],
    health: Some(|_| local_health(10256)),
    unit: UnitKind::Service,
};

const BALANCER: Service = Service {
    name: BALANCER_NAME,
    runs: Runs::Appliance,
    certificates: &["ca", "calico"],
    files: &[],
    health: Some(|reach| Health {
        url: format!("https://127.0.0.1:{}/healthz", reach.balancer),
        client: Some("calico"),
    }),
    unit: UnitKind::Service,
};

const ADDONS: Service = Service {
    name: "appliance-addons",
    runs: Runs::Appliance,
    certificates: &[],
    // Its content includes the digests of all manifests.
    files: &[addons::INDEX, ADMIN_KUBECONFIG],
    health: None,
    unit: UnitKind::Service,
};

const LOST_IMAGES: Service = Service {
    name: "appliance-images.timer",
    runs: Runs::Appliance,
    certificates: &[],
    files: &[],
    health: None,
    unit: UnitKind::Timer,
};

const POD_METADATA: Service = Service {
    name: "appliance-pod-metadata",
    runs: Runs::Appliance,
    certificates: &[],
    files: &[],
    health: None,
    unit: UnitKind::Service,
};

const CONTROL_PLANE: &[&Service] = &[&ETCD, &API_SERVER, &CONTROLLER_MANAGER, &SCHEDULER];
const NETWORK: &[&Service] = &[&DOCKER, &CALICO];
const PODS: &[&Service] = &[&POD_METADATA, &KUBELET, &PROXY];
const JOINING: &[&Service] = &[&SIGNER, &JOIN, &RENEWALS];

/// The services of a node in starting order: slow services, and services that others wait for, come
/// first.
pub fn services(shape: Shape) -> Vec<&'static Service> {
    let role = shape.role;
    let tls = shape.profile == Profile::WithCa;
    let groups = [
        (shape.balanced, &[&BALANCER] as &[&Service]),
        (role.is_master(), CONTROL_PLANE),
        (role.is_master() && tls, JOINING),
        (true, NETWORK),
        (role.is_worker(), PODS),
        (role.is_master(), &[&ADDONS]),
        (true, &[&LOST_IMAGES]),
        (tls, &[&RENEW]),
    ];
    let wanted = groups.into_iter().filter(|(wanted, _)| *wanted);
    wanted.flat_map(|(_, group)| group).copied().collect()
}

fn local_health(port: u16) -> Health {
    Health {
        url: format!("http://127.0.0.1:{port}/healthz"),
        client: None,
    }
}
