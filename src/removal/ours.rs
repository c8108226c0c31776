//! Everything that this program, and the programs of a node, leave on a machine: names and paths. Pure.

use crate::components::{self, BOOT_UNIT, Runs};
use crate::nodespec::{Profile, Role, Shape};
use crate::paths;

/// The container of Calico, which its unit runs.
pub const CALICO_CONTAINER: &str = "calico-node";

/// The files that an installation writes, except units, records, keys and data.
pub const FILES: &[&str] = &[
    paths::ADMISSION,
    paths::AUDIT_POLICY,
    paths::EVENT_LIMITS,
    paths::ADMIN_KUBECONFIG,
    paths::CONTROLLER_MANAGER_KUBECONFIG,
    paths::SCHEDULER_KUBECONFIG,
    paths::BOOTSTRAP_KUBECONFIG,
    paths::PROXY_KUBECONFIG,
    paths::CALICO_KUBECONFIG,
    paths::EXPECTED,
    paths::IMAGES,
    paths::CLUSTER_OBJECTS,
    paths::JOIN_NAMES,
    paths::BACKUP_SCHEDULE,
    paths::ETCD_ENVIRONMENT,
    paths::NO_NAME_SERVERS,
    paths::CALICOCTL_CONFIG,
    paths::CNI_CONFIG,
    paths::MODULES,
    paths::SYSCTL,
    paths::USERS,
    paths::DOCKER_DROP_IN,
    paths::MOTD,
];
/// The files that a node at work writes.
pub const OF_PROGRAMS: &[&str] = &[
    paths::KUBELET_KUBECONFIG,
    paths::SANDBOXES_SOCKET,
    paths::COPY,
    paths::RENEW_STAMP,
];

/// The directories that are this program's, or the node's programs', with everything in them.
pub const TREES: &[&str] = &[
    paths::BIRD_DIR,
    paths::ADDONS_DIR,
    paths::SHIMS_DIR,
    paths::PROXY_DIR,
    paths::SANDBOXES_DIR,
    paths::FORMER_DIR,
    paths::FETCHED_DIR,
    paths::CALICO_RUN_DIR,
    paths::DATASTORE_DIR,
    paths::LOG_LINKS[0],
    paths::LOG_LINKS[1],
];

/// etcd's data, and what the join service knows of the cluster. They are kept unless someone asks.
pub const DATA: &[&str] = &[paths::ETCD_DIR, paths::JOIN_DIR];
/// Keys and certificates. They are kept unless someone asks.
pub const KEYS: &[&str] = &[paths::CA_DIR, paths::KUBELET_PKI_DIR];

/// The records of this program. The last one is what an interrupted run needs most: without the record of what was
/// brought, it would take what was here before for a part of the node.
pub const RECORDS: &[&str] = &[
    paths::STARTED_WITH,
    paths::ADDONS_NOTES,
    paths::TAKEN,
    paths::MACHINE,
    paths::AUTHORITIES,
    paths::CLUSTER,
    paths::STATE,
    paths::WRITTEN_RECORD,
    paths::LOADING,
    paths::TIMELINE,
    paths::UPGRADE,
    paths::LAST_BACKUP,
    paths::FAILED_BACKUP,
    paths::RESTORED,
    paths::RUN,
    paths::BROUGHT,
];

/// The records that stay while data or keys stay.
pub const OF_KEPT: &[&str] = &[paths::AUTHORITIES, paths::CLUSTER, paths::BROUGHT];

/// The records that show that a node is here, or was begun.
pub const EVIDENCE: &[&str] = &[
    paths::STATE,
    paths::BROUGHT,
    paths::RUN,
    paths::STARTED_WITH,
    paths::MACHINE,
];

/// The directories that only a node has, deepest first. They go if they are empty, and were not here before the node, as
/// far as that is known.
pub const DIRECTORIES: &[&str] = &[
    paths::KUBELET_PKI_DIR,
    paths::ROTATION_DIR,
    paths::CA_DIR,
    paths::KUBERNETES_DIR,
    paths::CALICO_DIR,
    paths::KUBELET_DIR,
    paths::ETCD_DIR,
    paths::JOIN_DIR,
    paths::RECORDS_DIR,
    paths::BUNDLES,
];
/// The directories that others may have too, deepest first. They go as [`DIRECTORIES`] do.
pub const SHARED_DIRECTORIES: &[&str] = &[
    paths::CNI_DIR,
    "/etc/cni",
    "/etc/systemd/system/docker.service.d",
    "/etc/docker",
    "/etc/update-motd.d",
    paths::PLUGINS_DIR,
    "/usr/libexec/kubernetes/kubelet-plugins/volume",
    "/usr/libexec/kubernetes/kubelet-plugins",
    "/usr/libexec/kubernetes",
    "/root/.kube",
];

/// The kernel settings that programs of the node change by themselves: kube-proxy, and Felix the second one.
pub const SYSCTLS_OF_PROGRAMS: &[&str] = &[
    "net.ipv4.conf.all.route_localnet",
    "net.ipv4.conf.default.rp_filter",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
];
/// Containers of others need this setting, whatever it was before.
pub const FORWARDING: &str = "net.ipv4.ip_forward";
/// The kernel module of the interface `tunl0`.
pub const TUNNEL_MODULE: &str = "ipip";

/// The system users of a node.
pub const USERS: [&str; 2] = [components::JOIN_USER, components::DATASTORE_USER];

/// The units of a node of any shape, in the order in which they stop; with the unit of the boot, and without docker.
pub fn units() -> Vec<String> {
    let shape = Shape {
        role: Role::Single,
        profile: Profile::WithCa,
        balanced: true,
    };
    let services = components::services(shape).into_iter().rev();
    let services = services.filter(|service| service.runs != Runs::Docker);
    let units = services.flat_map(|service| service.units().into_iter().rev());
    [BOOT_UNIT.to_owned()].into_iter().chain(units).collect()
}

/// Whether a unit file of one of these names, with that text, is this program's: others may have a unit of
/// that name.
pub fn is_our_unit(name: &str, text: &str) -> bool {
    const MARKS: [&str; 3] = [paths::BUNDLES, paths::PROGRAM, "--name=calico-node"];
    name.starts_with("appliance-") || MARKS.iter().any(|mark| text.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_units_of_every_shape_are_known() {
        let all = units();
        for role in [Role::Master, Role::Worker, Role::Single] {
            for profile in [Profile::Simple, Profile::WithCa] {
                let shape = Shape {
                    role,
                    profile,
                    balanced: true,
                };
                for service in components::services(shape) {
                    for unit in service.units() {
                        let known = all.contains(&unit) || service.runs == Runs::Docker;
                        assert!(known, "{unit}");
                    }
                }
            }
        }
        let place = |name: &str| all.iter().position(|unit| unit == name);
        assert!(place("appliance-renew.timer") < place("appliance-renew.service"));
        assert!(place("kubelet.service") < place("etcd.service"));
    }

    #[test]
    fn a_unit_of_others_with_the_same_name_is_known() {
        assert!(is_our_unit(
            "etcd.service",
            "ExecStart=/opt/appliance/current/bin/etcd"
        ));
        assert!(!is_our_unit("etcd.service", "ExecStart=/usr/bin/etcd"));
    }
}
