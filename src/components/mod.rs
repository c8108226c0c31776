//! The table of what runs on a node: services, their certificates, their health. Pure.

use crate::addons;
use crate::nodespec::{Profile, Reach, Shape};

mod certificates;

pub use certificates::{
    ETCD_CERTIFICATE, KUBELET_CLIENT, certificate_names, certificate_path, etcd_member, key_path,
    pki_request, restarted_for, service_account, worker,
};

/// The directory of all certificates, as the tutorial has it.
pub const CA_DIR: &str = "/etc/kubernetes/ca";
/// The cluster's certificate authority.
pub const CA_CERTIFICATE: &str = "/etc/kubernetes/ca/ca.pem";
/// The certificate of the authority that issues, alone, where [`CA_CERTIFICATE`] holds those above
/// it too: the controller manager v1.9 takes exactly one.
pub const ISSUER_CERTIFICATE: &str = "/etc/kubernetes/ca/ca-issuer.pem";
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
/// The kubelet's kubeconfig. The kubelet writes it itself once it has its certificate.
pub const KUBELET_KUBECONFIG: &str = "/etc/kubernetes/kubelet.kubeconfig";
/// What a kubelet asks for its certificate with.
pub const BOOTSTRAP_KUBECONFIG: &str = "/etc/kubernetes/bootstrap.kubeconfig";
/// kube-proxy's kubeconfig.
pub const PROXY_KUBECONFIG: &str = "/etc/kubernetes/kube-proxy.kubeconfig";
/// What Calico's CNI plugin reaches the API server with: it wants to know that before all else.
pub const CALICO_KUBECONFIG: &str = "/etc/kubernetes/calico.kubeconfig";
/// What `appliance check` holds the cluster to, on a master.
pub const EXPECTED: &str = "/etc/kubernetes/appliance-check.json";
/// The images docker is to have on this node, and where each is loaded from.
pub const IMAGES: &str = "/etc/kubernetes/appliance-images.json";
/// The objects of the cluster that joining needs.
pub const CLUSTER_OBJECTS: &str = "/etc/kubernetes/appliance-objects.yaml";
/// The unprivileged user of the join service.
pub const JOIN_USER: &str = "appliance-join";
/// The tokens the join service takes, and the nodes it knows.
pub const JOIN_DIR: &str = "/var/lib/appliance/join";
/// What stands before the machine's own iptables-restore, for kubelet and kube-proxy.
pub const IPTABLES_RESTORE: &str = "/opt/appliance/shims/iptables-restore";
/// What the join service knows of names and addresses.
pub const JOIN_NAMES: &str = "/etc/kubernetes/appliance-join.json";
/// The service that leads to the API servers, where there are several.
pub const BALANCER_NAME: &str = "appliance-balancer";
/// The data of this machine's member of etcd.
pub const ETCD_MEMBER_DATA: &str = "/var/lib/etcd/member";
/// How etcd comes into its cluster, where that has several members.
pub const ETCD_ENVIRONMENT: &str = "/etc/kubernetes/etcd.env";
/// Where this program is on a node.
pub const PROGRAM: &str = "/usr/local/bin/appliance";
/// The unit that makes a node of a server at each of its boots.
pub const BOOT_UNIT: &str = "appliance-install.service";
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
    /// This program itself.
    Appliance,
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
    /// The unit's name, as the tutorial has it; without `.service`, where it is a service.
    pub name: &'static str,
    /// What it runs.
    pub runs: Runs,
    /// The certificates whose change it must be restarted for.
    pub certificates: &'static [&'static str],
    /// The other files whose change it must be restarted for.
    pub files: &'static [&'static str],
    /// Where its health is asked; `None` if its unit's state is all there is.
    pub health: Option<fn(Reach) -> Health>,
    /// The kind of its unit.
    pub unit: UnitKind,
}

/// Where unit files lie.
pub fn unit_path(unit: &str) -> String {
    format!("/etc/systemd/system/{unit}")
}

/// The kind of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitKind {
    /// A service that runs always.
    Service,
    /// A service that ends by itself when there is nothing left for it to do.
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

    /// The units it is made of: a timer has a service of the same name.
    pub fn units(&self) -> Vec<String> {
        let service = self.name.trim_end_matches(".timer");
        match self.unit {
            UnitKind::Service | UnitKind::MayEnd => vec![self.unit()],
            UnitKind::Timer => vec![format!("{service}.service"), self.unit()],
        }
    }

    /// The target it is enabled for.
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

/// The containers on a service's node that the kubelet runs with the certificates of the service:
/// they read them when they start, so what restarts the one has to end the others.
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
    // Its content has the digests of all manifests.
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

/// The services of a node, in the order they are started: what takes longest and what others
/// wait for comes first.
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
