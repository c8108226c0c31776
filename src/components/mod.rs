//! The table of the services of a node, with their certificates and health endpoints. Pure.

use crate::nodespec::ports;
use crate::nodespec::{Profile, Reach, Shape};
use crate::paths;

mod certificates;

pub use certificates::{
    AUTHORITY, CALICO_CERTIFICATE, DATASTORE, DATASTORE_CLIENT, ETCD_AUTHORITY, ETCD_CERTIFICATE,
    ETCD_CLIENT, KUBELET_CLIENT, admin, api_server_names, authority_of, certificate_names,
    cluster_authority, etcd_authority, etcd_member, pki_request, restarted_for, service_account,
    worker,
};

/// The unprivileged user of the join service.
pub const JOIN_USER: &str = "appliance-join";
/// The unprivileged user of the server of Calico's data.
pub const DATASTORE_USER: &str = "appliance-calico";
/// The service that forwards to the API servers, if there are several.
pub const BALANCER_NAME: &str = "appliance-balancer";
/// The unit that installs the node at each boot.
pub const BOOT_UNIT: &str = "appliance-install.service";

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

/// The other services of a node do not start on a copy of its machine.
const MACHINE: Service = Service {
    name: "appliance-machine",
    runs: Runs::Appliance,
    certificates: &[],
    files: &[paths::MACHINE],
    health: None,
    unit: UnitKind::Service,
};

const ETCD: Service = Service {
    name: "etcd",
    runs: Runs::Program("etcd"),
    certificates: &[ETCD_AUTHORITY, ETCD_CERTIFICATE],
    files: &[],
    health: Some(|reach| Health {
        url: format!(
            "{}://{}:{}/health",
            reach.scheme(),
            reach.address,
            ports::ETCD_CLIENTS
        ),
        client: Some(ETCD_CERTIFICATE),
    }),
    unit: UnitKind::Service,
};

const API_SERVER: Service = Service {
    name: "kube-apiserver",
    runs: Runs::Program("kube-apiserver"),
    certificates: &[AUTHORITY, ETCD_AUTHORITY, ETCD_CLIENT, "kubernetes"],
    files: &[
        paths::ADMISSION,
        paths::AUDIT_POLICY,
        paths::EVENT_LIMITS,
        paths::TOKEN_FILE,
        paths::ENCRYPTION,
        paths::SERVICE_ACCOUNT_PUBLIC,
    ],
    health: Some(|reach| Health {
        url: if reach.tls {
            format!("https://{}:{}/healthz", reach.address, ports::API_SERVER)
        } else {
            format!("http://127.0.0.1:{}/healthz", ports::API_SERVER_SIMPLE)
        },
        client: Some("admin"),
    }),
    unit: UnitKind::Service,
};

const CALICO_DATASTORE: Service = Service {
    name: "appliance-calico-datastore",
    runs: Runs::Appliance,
    certificates: &[AUTHORITY, ETCD_AUTHORITY, DATASTORE, DATASTORE_CLIENT],
    files: &[],
    health: Some(|reach| Health {
        url: format!(
            "https://{}:{}/health",
            reach.address,
            ports::CALICO_DATASTORE
        ),
        client: Some(CALICO_CERTIFICATE),
    }),
    unit: UnitKind::Service,
};

const CONTROLLER_MANAGER: Service = Service {
    name: "kube-controller-manager",
    runs: Runs::Program("kube-controller-manager"),
    certificates: &[AUTHORITY],
    files: &[
        paths::CONTROLLER_MANAGER_KUBECONFIG,
        paths::SERVICE_ACCOUNT_PRIVATE,
        // Its controllers keep the tokens with which they began. When one key less verifies them, they need others.
        paths::SERVICE_ACCOUNT_PUBLIC,
    ],
    health: Some(|_| local_health(ports::CONTROLLER_MANAGER_HEALTH)),
    unit: UnitKind::Service,
};

const SCHEDULER: Service = Service {
    name: "kube-scheduler",
    runs: Runs::Program("kube-scheduler"),
    certificates: &[],
    files: &[paths::SCHEDULER_KUBECONFIG],
    health: Some(|_| local_health(ports::SCHEDULER_HEALTH)),
    unit: UnitKind::Service,
};

const DOCKER: Service = Service {
    name: "docker",
    runs: Runs::Docker,
    certificates: &[],
    // Its settings are written together with the drop-in. A later change waits for its next start: a restart ends all pods.
    files: &[paths::DOCKER_DROP_IN],
    health: None,
    unit: UnitKind::Service,
};

const CALICO: Service = Service {
    name: "kube-calico",
    runs: Runs::Image("calico-node"),
    certificates: &[AUTHORITY, CALICO_CERTIFICATE],
    files: &[
        paths::BIRD_ROUTES,
        paths::BIRD_TEMPLATE,
        paths::BIRD_BLOCKS_TEMPLATE,
        paths::BIRD_POOLS_TEMPLATE,
        paths::BIRD6_TEMPLATE,
        paths::CONFD,
    ],
    health: Some(|_| Health {
        url: format!("http://127.0.0.1:{}/readiness", ports::FELIX_HEALTH),
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
    certificates: &[AUTHORITY, "admin"],
    // It sends the keys that masters share to a master that joins.
    files: &[
        paths::JOIN_NAMES,
        paths::ENCRYPTION,
        paths::SERVICE_ACCOUNT_PRIVATE,
        paths::SERVICE_ACCOUNT_PUBLIC,
    ],
    health: None,
    unit: UnitKind::Service,
};

const JOIN: Service = Service {
    name: "appliance-join",
    runs: Runs::Appliance,
    certificates: &[AUTHORITY],
    files: &[],
    health: None,
    unit: UnitKind::MayEnd,
};

const RENEWALS: Service = Service {
    name: "appliance-renewals",
    runs: Runs::Appliance,
    certificates: &[AUTHORITY],
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
    certificates: &[AUTHORITY, "kubelet"],
    files: &[paths::IPTABLES_RESTORE],
    health: Some(|_| local_health(ports::KUBELET_HEALTH)),
    unit: UnitKind::Service,
};

const PROXY: Service = Service {
    name: "kube-proxy",
    runs: Runs::Program("kube-proxy"),
    certificates: &[],
    files: &[paths::PROXY_KUBECONFIG, paths::IPTABLES_RESTORE],
    health: Some(|_| local_health(ports::PROXY_HEALTH)),
    unit: UnitKind::Service,
};

const BALANCER: Service = Service {
    name: BALANCER_NAME,
    runs: Runs::Appliance,
    certificates: &[AUTHORITY, CALICO_CERTIFICATE],
    files: &[],
    health: Some(|reach| Health {
        url: format!("https://127.0.0.1:{}/healthz", reach.balancer),
        client: Some(CALICO_CERTIFICATE),
    }),
    unit: UnitKind::Service,
};

const ADDONS: Service = Service {
    name: "appliance-addons",
    runs: Runs::Appliance,
    certificates: &[],
    // Its content includes the digests of all manifests.
    files: &[paths::ADDONS_INDEX, paths::ADMIN_KUBECONFIG],
    health: None,
    unit: UnitKind::Service,
};

/// Upgrades the node when a master says that it is its turn.
const FOLLOW: Service = Service {
    name: "appliance-follow.timer",
    runs: Runs::Appliance,
    certificates: &[],
    files: &[],
    health: None,
    unit: UnitKind::Timer,
};

const LOST_IMAGES: Service = Service {
    name: "appliance-images.timer",
    runs: Runs::Appliance,
    certificates: &[],
    files: &[],
    health: None,
    unit: UnitKind::Timer,
};

const VERIFY: Service = Service {
    name: "appliance-verify.timer",
    runs: Runs::Appliance,
    certificates: &[],
    files: &[],
    health: None,
    unit: UnitKind::Timer,
};

const DEFRAGMENT: Service = Service {
    name: "appliance-etcd.timer",
    runs: Runs::Appliance,
    certificates: &[],
    files: &[],
    health: None,
    unit: UnitKind::Timer,
};

const BACKUP: Service = Service {
    name: "appliance-backup.timer",
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
        (true, &[&MACHINE] as &[&Service]),
        (shape.balanced, &[&BALANCER]),
        (role.is_master(), CONTROL_PLANE),
        (role.is_master() && tls, &[&CALICO_DATASTORE]),
        (role.is_master() && tls, JOINING),
        (true, NETWORK),
        (role.is_worker(), PODS),
        (role.is_master(), &[&ADDONS]),
        (true, &[&LOST_IMAGES, &VERIFY]),
        (role.is_master(), &[&DEFRAGMENT]),
        (role.is_master() && tls, &[&BACKUP]),
        (tls, &[&RENEW]),
        // The only master begins by itself.
        (tls && (!role.is_master() || shape.balanced), &[&FOLLOW]),
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
