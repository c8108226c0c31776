//! Every path on a node, in one place: for the code, and for the templates ([`for_templates`]).
//! Pure.

/// The directory of everything that Kubernetes reads.
pub const KUBERNETES_DIR: &str = "/etc/kubernetes";
/// The directory of all certificates. The tutorial uses the same path.
pub const CA_DIR: &str = "/etc/kubernetes/ca";
/// The cluster's certificate authority.
pub const CA_CERTIFICATE: &str = "/etc/kubernetes/ca/ca.pem";
/// The directory of the authorities that replace those of the cluster and of etcd, during a rotation.
pub const ROTATION_DIR: &str = "/etc/kubernetes/ca/rotation";
/// The key that replaces the private key of service accounts, during a rotation.
pub const NEXT_SERVICE_ACCOUNT: &str = "/etc/kubernetes/ca/rotation/service-account-key.pem";
/// Since when the tokens of all service accounts come with the new authority, during a rotation.
pub const ROTATION_SINCE: &str = "/etc/kubernetes/ca/rotation/since";
/// The key of the authority that replaces that of the cluster, during a rotation.
pub const NEXT_AUTHORITY_KEY: &str = "/etc/kubernetes/ca/rotation/ca-key.pem";
/// The key of the authority that replaces that of etcd, during a rotation.
pub const NEXT_ETCD_AUTHORITY_KEY: &str = "/etc/kubernetes/ca/rotation/etcd-ca-key.pem";
/// The key of the authority that was replaced, on one of several masters: it opens records of other masters.
pub const PREVIOUS_AUTHORITY_KEY: &str = "/etc/kubernetes/ca/rotation/previous-ca-key.pem";
/// The files that only a rotation needs. The certificates are last: they show that a rotation is under way.
pub const OF_ROTATION: [&str; 6] = [
    ROTATION_SINCE,
    PREVIOUS_AUTHORITY_KEY,
    NEXT_AUTHORITY_KEY,
    NEXT_ETCD_AUTHORITY_KEY,
    "/etc/kubernetes/ca/rotation/etcd-ca.pem",
    "/etc/kubernetes/ca/rotation/ca.pem",
];
/// SHA-256 of the authorities that a worker has taken whole.
pub const TAKEN: &str = "/var/lib/appliance/authorities.sha256";
/// The certificate of the issuing CA alone, where [`CA_CERTIFICATE`] holds its parents too:
/// the controller manager v1.9 takes exactly one.
pub const ISSUER_CERTIFICATE: &str = "/etc/kubernetes/ca/ca-issuer.pem";
/// The tokens that kube-apiserver accepts (`--token-auth-file`).
pub const TOKEN_FILE: &str = "/etc/kubernetes/ca/kubernetes/token.csv";
/// The key with which kube-apiserver encrypts secrets in etcd.
pub const ENCRYPTION: &str = "/etc/kubernetes/ca/kubernetes/encryption.yaml";
/// The public key of the service accounts' key pair.
pub const SERVICE_ACCOUNT_PUBLIC: &str = "/etc/kubernetes/ca/service-account/service-account.pub";
/// The private key of the service accounts' key pair.
pub const SERVICE_ACCOUNT_PRIVATE: &str =
    "/etc/kubernetes/ca/service-account/service-account-key.pem";
/// The audit policy of kube-apiserver: which requests it logs.
pub const AUDIT_POLICY: &str = "/etc/kubernetes/audit-policy.yaml";
/// The settings of kube-apiserver's admission plugins.
pub const ADMISSION: &str = "/etc/kubernetes/admission.yaml";
/// How many events kube-apiserver takes.
pub const EVENT_LIMITS: &str = "/etc/kubernetes/event-limits.yaml";
/// The audit log of kube-apiserver.
pub const AUDIT_LOG: &str = "/var/log/kubernetes/audit.log";
/// The administrator's kubeconfig.
pub const ADMIN_KUBECONFIG: &str = "/etc/kubernetes/admin.kubeconfig";
/// The controller manager's kubeconfig.
pub const CONTROLLER_MANAGER_KUBECONFIG: &str =
    "/etc/kubernetes/kube-controller-manager.kubeconfig";
/// The scheduler's kubeconfig.
pub const SCHEDULER_KUBECONFIG: &str = "/etc/kubernetes/kube-scheduler.kubeconfig";
/// The kubelet's kubeconfig. The kubelet writes it when it gets its certificate.
pub const KUBELET_KUBECONFIG: &str = "/etc/kubernetes/kubelet.kubeconfig";
/// The kubeconfig with which a kubelet asks for its certificate.
pub const BOOTSTRAP_KUBECONFIG: &str = "/etc/kubernetes/bootstrap.kubeconfig";
/// kube-proxy's kubeconfig.
pub const PROXY_KUBECONFIG: &str = "/etc/kubernetes/kube-proxy.kubeconfig";
/// The kubeconfig of Calico's CNI plugin.
pub const CALICO_KUBECONFIG: &str = "/etc/kubernetes/calico.kubeconfig";
/// The expected state of the cluster for `appliance check`, on a master.
pub const EXPECTED: &str = "/etc/kubernetes/appliance-check.json";
/// The images that docker needs on this node, and the tarball of each.
pub const IMAGES: &str = "/etc/kubernetes/appliance-images.json";
/// The objects that the cluster needs before nodes can join.
pub const CLUSTER_OBJECTS: &str = "/etc/kubernetes/appliance-objects.yaml";
/// The names and addresses in the settings, for the join service.
pub const JOIN_NAMES: &str = "/etc/kubernetes/appliance-join.json";
/// How this master backs the cluster up.
pub const BACKUP_SCHEDULE: &str = "/etc/kubernetes/appliance-backup.json";
/// How etcd joins its cluster, if it has several members.
pub const ETCD_ENVIRONMENT: &str = "/etc/kubernetes/etcd.env";
/// A file like resolv.conf(5) without a name server, for machines that have none.
pub const NO_NAME_SERVERS: &str = "/etc/kubernetes/resolv.conf";
/// The manifests of add-ons and workloads, on a master.
pub const ADDONS_DIR: &str = "/etc/kubernetes/addons";
/// The order in which the manifests are applied.
pub const ADDONS_INDEX: &str = "/etc/kubernetes/addons/index.json";

/// The directory of Calico's certificate and key.
pub const CALICO_IDENTITY_DIR: &str = "/etc/kubernetes/ca/calico";
/// Calico's settings.
pub const CALICO_DIR: &str = "/etc/calico";
/// calicoctl's settings.
pub const CALICOCTL_CONFIG: &str = "/etc/calico/calicoctl.cfg";
/// What calico/node gets of this program to configure BIRD with.
pub const BIRD_DIR: &str = "/etc/calico/bird";
/// What runs confd in Calico's container.
pub const CONFD: &str = "/etc/calico/bird/confd.sh";
/// The routes that BIRD takes.
pub const BIRD_ROUTES: &str = "/etc/calico/bird/bird-routes.conf";
/// The template of BIRD's configuration, in confd's language, with or without a mesh of all nodes.
pub const BIRD_TEMPLATE: &str = "/etc/calico/bird/bird.cfg.template";
/// The template of a node's own blocks, in confd's language.
pub const BIRD_BLOCKS_TEMPLATE: &str = "/etc/calico/bird/bird_aggr.cfg.template";
/// The template of what a node announces, in confd's language.
pub const BIRD_POOLS_TEMPLATE: &str = "/etc/calico/bird/bird_ipam.cfg.template";
/// The template of the configuration of BIRD for IPv6, in confd's language.
pub const BIRD6_TEMPLATE: &str = "/etc/calico/bird/bird6.cfg.template";
/// confd's directory in Calico's container.
pub const CONFD_DIR: &str = "/etc/calico/confd";
/// Where confd finds its templates, in the container calico-node.
pub const CONFD_TEMPLATES: &str = "/etc/calico/confd/templates";
/// Where confd writes BIRD's configuration, in the container calico-node.
pub const CONFD_CONFIG: &str = "/etc/calico/confd/config";
/// The log of Calico.
pub const CALICO_LOG_DIR: &str = "/var/log/calico";
/// The sockets of Calico's daemons.
pub const CALICO_RUN_DIR: &str = "/var/run/calico";
/// The socket of BIRD. The path is the same on the node and in its container.
pub const BIRD_SOCKET: &str = "/var/run/calico/bird.ctl";
/// The directory of CNI configurations.
pub const CNI_DIR: &str = "/etc/cni/net.d";
/// The CNI configuration.
pub const CNI_CONFIG: &str = "/etc/cni/net.d/10-calico.conf";

/// etcd's directory.
pub const ETCD_DIR: &str = "/var/lib/etcd";
/// The data of this machine's member of etcd.
pub const ETCD_MEMBER_DATA: &str = "/var/lib/etcd/member";
/// The kubelet's directory.
pub const KUBELET_DIR: &str = "/var/lib/kubelet";
/// Where the kubelet keeps its own certificate.
pub const KUBELET_PKI_DIR: &str = "/var/lib/kubelet/pki";
/// Where the kubelet notes the sandboxes of pods.
pub const SANDBOXES_DIR: &str = "/var/lib/dockershim";
/// The socket at which the kubelet offers docker.
pub const SANDBOXES_SOCKET: &str = "/var/run/dockershim.sock";
/// Where the kubelet looks for plugins of volumes.
pub const PLUGINS_DIR: &str = "/usr/libexec/kubernetes/kubelet-plugins/volume/exec";
/// The kubelet's links to the logs of containers, which docker keeps.
pub const LOG_LINKS: [&str; 2] = ["/var/log/containers", "/var/log/pods"];
/// kube-proxy's directory.
pub const PROXY_DIR: &str = "/var/lib/kube-proxy";
/// The directory of kube-apiserver's logs.
pub const KUBERNETES_LOG_DIR: &str = "/var/log/kubernetes";
/// docker's settings.
pub const DOCKER_SETTINGS: &str = "/etc/docker/daemon.json";
/// docker's directory, unless its settings name another one.
pub const DOCKER_DIR: &str = "/var/lib/docker";

/// Where bundles are unpacked, each into a directory of its digest.
pub const BUNDLES: &str = "/opt/appliance";
/// The link to the bundle in use.
pub const CURRENT: &str = "/opt/appliance/current";
/// The programs of the bundle in use.
pub const BIN_DIR: &str = "/opt/appliance/current/bin";
/// The CNI plugins of the bundle in use.
pub const CNI_BIN_DIR: &str = "/opt/appliance/current/cni/bin";
/// Programs that come before the machine's own, for kubelet and kube-proxy.
pub const SHIMS_DIR: &str = "/opt/appliance/shims";
/// The program that comes before the machine's own iptables-restore.
pub const IPTABLES_RESTORE: &str = "/opt/appliance/shims/iptables-restore";
/// The machine's own docker.
pub const DOCKER_OF_MACHINE: &str = "/usr/bin/docker";
/// docker's programs in the bundle in use, if it includes them.
pub const DOCKER_BIN_DIR: &str = "/opt/appliance/current/docker";
/// The docker of a payload, for a machine without docker.
pub const DOCKER_OF_PAYLOAD: &str = "/opt/appliance/current/docker/docker";

/// The directory with links to the programs for the operator.
pub const PATH_DIR: &str = "/usr/local/bin";
/// This program on a node.
pub const PROGRAM: &str = "/usr/local/bin/appliance";
/// The script by which a server gets this program.
pub const DELIVER: &str = "/usr/local/sbin/appliance-deliver";
/// Where `man` finds the pages of a program in [`PATH_DIR`].
pub const MANUALS: &str = "/usr/local/share/man/man1";
/// The default file of settings.
pub const CONFIG: &str = "/etc/appliance/config.yaml";
/// The program's own records.
pub const RECORDS_DIR: &str = "/var/lib/appliance";
/// The state of an installed node.
pub const STATE: &str = "/var/lib/appliance/state.json";
/// What the installation wrote.
pub const WRITTEN_RECORD: &str = "/var/lib/appliance/written.json";
/// The machine on which the node was installed.
pub const MACHINE: &str = "/var/lib/appliance/machine.json";
/// The authorities of the cluster whose data a master has.
pub const AUTHORITIES: &str = "/var/lib/appliance/authorities.json";
/// What the node keeps of its cluster.
pub const CLUSTER: &str = "/var/lib/appliance/cluster.json";
/// Exists while this machine is a copy of the machine on which the node was installed.
pub const COPY: &str = "/run/appliance-copy";
/// The identifiers of the images that a run loads into docker.
pub const LOADING: &str = "/var/lib/appliance/loading.json";
/// What the installations brought to this machine.
pub const BROUGHT: &str = "/var/lib/appliance/brought.json";
/// The journal of the run that changes this machine.
pub const RUN: &str = "/var/lib/appliance/run.json";
/// When each step of the last bring-up began and ended.
pub const TIMELINE: &str = "/var/lib/appliance/timeline.json";
/// The record of the last upgrade.
pub const UPGRADE: &str = "/var/lib/appliance/upgrade.json";
/// What the last upgrade replaced: files, records and the program.
pub const FORMER_DIR: &str = "/var/lib/appliance/former";
/// What a node gets of the appliance that its masters send.
pub const FETCHED_DIR: &str = "/var/lib/appliance/fetched";
/// The appliance that its masters sent, whole.
pub const FETCHED_PROGRAM: &str = "/var/lib/appliance/fetched/appliance";
/// The digest of the inputs of each service at its last start.
pub const STARTED_WITH: &str = "/var/lib/appliance/services.json";
/// The result of applying each add-on.
pub const ADDONS_NOTES: &str = "/var/lib/appliance/addons.json";
/// The join service's tokens and nodes.
pub const JOIN_DIR: &str = "/var/lib/appliance/join";
/// What this master notes of its last backup.
pub const LAST_BACKUP: &str = "/var/lib/appliance/backup.json";
/// The record of the last backup by the timer, if it failed.
pub const FAILED_BACKUP: &str = "/var/lib/appliance/backup-failed.json";
/// The last restoration from a backup on this machine.
pub const RESTORED: &str = "/var/lib/appliance/restored.json";
/// The socket of the signer.
pub const SIGNER_SOCKET: &str = "/run/appliance-signer/socket";

/// The keys of the server of Calico's data, for its user alone.
pub const DATASTORE_DIR: &str = "/run/appliance-calico-datastore";

/// The directory of units.
pub const UNITS_DIR: &str = "/etc/systemd/system";
/// The appliance's drop-in for the distribution's docker unit.
pub const DOCKER_DROP_IN: &str = "/etc/systemd/system/docker.service.d/appliance-forward.conf";
/// The kernel modules to load at every boot.
pub const MODULES: &str = "/etc/modules-load.d/kubernetes.conf";
/// The kernel settings of every boot.
pub const SYSCTL: &str = "/etc/sysctl.d/k8s.conf";
/// When systemd last ran the timer of renewals, for the time after a boot.
pub const RENEW_STAMP: &str = "/var/lib/systemd/timers/stamp-appliance-renew.timer";
/// The node's host table. The appliance keeps a marked part of it.
pub const HOSTS: &str = "/etc/hosts";
/// Prints what this machine is at a login: the scripts of this directory are run by `pam_motd` of Debian and Ubuntu.
pub const MOTD: &str = "/etc/update-motd.d/60-appliance";
/// The system users that the appliance needs, for `systemd-sysusers`.
pub const USERS: &str = "/etc/sysusers.d/appliance.conf";
/// Where the last copy of data and keys goes before they are removed.
pub const COPIES_DIR: &str = "/var/backups";
/// Where `kubectl` of root keeps answers of API servers.
pub const KUBECTL_CACHES: [&str; 2] = ["/root/.kube/cache", "/root/.kube/http-cache"];
/// The kubeconfig that `kubectl` reads by default, as root.
pub const ROOT_KUBECONFIG: &str = "/root/.kube/config";

/// The directories in which this program writes files.
pub const WRITTEN: &[&str] = &[
    "/etc",
    "/etc/appliance",
    "/etc/docker",
    CALICO_DIR,
    BIRD_DIR,
    CNI_DIR,
    "/etc/modules-load.d",
    "/etc/sysctl.d",
    "/etc/sysusers.d",
    "/etc/update-motd.d",
    BUNDLES,
    SHIMS_DIR,
    "/root/.kube",
    PATH_DIR,
    "/usr/local/sbin",
    MANUALS,
    KUBELET_DIR,
    PROXY_DIR,
    COPIES_DIR,
    ETCD_DIR,
];
/// The directories in which, and in whose subdirectories, this program writes files. Those with keys come first.
pub const WRITTEN_BELOW: &[&str] = &[KUBERNETES_DIR, RECORDS_DIR, UNITS_DIR];

/// The path of a unit file.
pub fn unit(name: &str) -> String {
    format!("{UNITS_DIR}/{name}")
}

/// The path of the certificate of that name; `ca` is the CA's own.
pub fn certificate(name: &str) -> String {
    match name {
        "ca" => CA_CERTIFICATE.to_owned(),
        _ => format!("{CA_DIR}/{name}/{name}.pem"),
    }
}

/// The path of the private key of the certificate of that name.
pub fn key(name: &str) -> String {
    match name {
        "ca" => format!("{CA_DIR}/ca-key.pem"),
        _ => format!("{CA_DIR}/{name}/{name}-key.pem"),
    }
}

/// The path of the authority that replaces the one of that name. Its key is beside it.
pub fn next_authority(name: &str) -> String {
    format!("{ROTATION_DIR}/{name}.pem")
}

/// The paths that templates use, by the name they have there (`paths.NAME`).
pub fn for_templates() -> impl Iterator<Item = (&'static str, &'static str)> {
    FOR_TEMPLATES.iter().copied()
}

const FOR_TEMPLATES: &[(&str, &str)] = &[
    ("admission", ADMISSION),
    ("audit_log", AUDIT_LOG),
    ("audit_policy", AUDIT_POLICY),
    ("bin", BIN_DIR),
    ("bird6_template", BIRD6_TEMPLATE),
    ("bird_blocks_template", BIRD_BLOCKS_TEMPLATE),
    ("bird_pools_template", BIRD_POOLS_TEMPLATE),
    ("bird_routes", BIRD_ROUTES),
    ("bird_template", BIRD_TEMPLATE),
    ("bootstrap_kubeconfig", BOOTSTRAP_KUBECONFIG),
    ("calico_identity", CALICO_IDENTITY_DIR),
    ("calico_kubeconfig", CALICO_KUBECONFIG),
    ("calico_log", CALICO_LOG_DIR),
    ("calico_run", CALICO_RUN_DIR),
    ("cni", CNI_DIR),
    ("cni_bin", CNI_BIN_DIR),
    ("confd", CONFD),
    ("confd_config", CONFD_CONFIG),
    ("confd_dir", CONFD_DIR),
    ("confd_templates", CONFD_TEMPLATES),
    (
        "controller_manager_kubeconfig",
        CONTROLLER_MANAGER_KUBECONFIG,
    ),
    ("copy", COPY),
    ("datastore", DATASTORE_DIR),
    ("docker_bin", DOCKER_BIN_DIR),
    ("encryption", ENCRYPTION),
    ("etcd", ETCD_DIR),
    ("etcd_environment", ETCD_ENVIRONMENT),
    ("event_limits", EVENT_LIMITS),
    ("join", JOIN_DIR),
    ("kubelet", KUBELET_DIR),
    ("kubelet_kubeconfig", KUBELET_KUBECONFIG),
    ("kubelet_pki", KUBELET_PKI_DIR),
    ("program", PROGRAM),
    ("proxy_kubeconfig", PROXY_KUBECONFIG),
    ("scheduler_kubeconfig", SCHEDULER_KUBECONFIG),
    ("service_account_private", SERVICE_ACCOUNT_PRIVATE),
    ("service_account_public", SERVICE_ACCOUNT_PUBLIC),
    ("shims", SHIMS_DIR),
    ("tokens", TOKEN_FILE),
];
