//! Another Kubernetes on the machine, or what is left of one.

use super::{is_there, names, text};
use crate::paths;
use crate::preflight::facts::Other;
use crate::sys::root::Root;

/// A Kubernetes: its name, how to remove it, and paths that no node of this appliance has.
type Known = (&'static str, &'static str, &'static [&'static str]);

const KNOWN: &[Known] = &[
    (
        "kubeadm",
        "`kubeadm reset -f`, then `apt-get purge kubeadm kubelet` and `rm -rf /etc/kubernetes/pki \
         /etc/kubernetes/manifests /etc/kubernetes/*.conf`",
        &[
            "/etc/kubernetes/pki",
            "/etc/kubernetes/manifests/etcd.yaml",
            "/etc/kubernetes/manifests/kube-apiserver.yaml",
            "/etc/kubernetes/admin.conf",
            "/etc/kubernetes/kubelet.conf",
            "/etc/kubernetes/bootstrap-kubelet.conf",
            "/var/lib/kubelet/config.yaml",
            "/var/lib/kubelet/kubeadm-flags.env",
            "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf",
            "/lib/systemd/system/kubelet.service.d/10-kubeadm.conf",
            "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf",
        ],
    ),
    (
        "k3s",
        "`/usr/local/bin/k3s-uninstall.sh`, or `/usr/local/bin/k3s-agent-uninstall.sh` on an agent",
        &[
            "/usr/local/bin/k3s",
            "/etc/rancher/k3s",
            "/var/lib/rancher/k3s",
            "/etc/systemd/system/k3s.service",
            "/etc/systemd/system/k3s-agent.service",
        ],
    ),
    (
        "RKE2",
        "`/usr/local/bin/rke2-uninstall.sh`",
        &[
            "/usr/local/bin/rke2",
            "/etc/rancher/rke2",
            "/var/lib/rancher/rke2",
            "/etc/systemd/system/rke2-server.service",
            "/etc/systemd/system/rke2-agent.service",
        ],
    ),
    (
        "k0s",
        "`k0s stop && k0s reset`",
        &[
            "/usr/local/bin/k0s",
            "/etc/k0s",
            "/var/lib/k0s",
            "/etc/systemd/system/k0scontroller.service",
            "/etc/systemd/system/k0sworker.service",
        ],
    ),
    (
        "MicroK8s",
        "`snap remove --purge microk8s`",
        &["/snap/microk8s", "/var/snap/microk8s"],
    ),
    (
        "RKE",
        "`rke remove` on the machine that made the cluster, then `rm -rf /etc/kubernetes/ssl /opt/rke`",
        &["/etc/kubernetes/ssl", "/opt/rke"],
    ),
    ("minikube", "`minikube delete`", &["/var/lib/minikube"]),
];
/// The units of the tutorial that run a program of the bundle, so ours name its directory.
const UNITS: &[&str] = &[
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubelet",
];

/// Every other Kubernetes of which something is there.
pub fn read(root: &Root) -> Vec<Other> {
    let known = KNOWN.iter().map(|(name, remove, paths)| Other {
        name,
        found: paths
            .iter()
            .filter(|path| is_there(root, path))
            .map(|path| (*path).to_owned())
            .collect(),
        remove,
    });
    let by_hand = Other {
        name: "units of another installation",
        found: units(root),
        remove: "`systemctl disable --now UNIT`, then move its file away, for each of them",
    };
    known
        .chain([by_hand])
        .filter(|other| !other.found.is_empty())
        .collect()
}

/// Units with the names of ours that this appliance did not write.
fn units(root: &Root) -> Vec<String> {
    let paths = UNITS
        .iter()
        .map(|name| paths::unit(&format!("{name}.service")));
    let is_foreign = |path: &String| {
        let entry = root.entry(path).ok().flatten();
        entry.is_some_and(|entry| entry.is_file())
            && !text(root, path)
                .unwrap_or_default()
                .contains(paths::BUNDLES)
    };
    paths.filter(is_foreign).collect()
}

/// The network configurations of pods that are not ours.
pub fn networks(root: &Root) -> Vec<String> {
    let own = paths::CNI_CONFIG.rsplit('/').next();
    let is_read = |name: &String| {
        let extension = name.rsplit('.').next();
        // The kubelet takes files with these extensions only.
        matches!(extension, Some("conf" | "conflist" | "json")) && Some(name.as_str()) != own
    };
    names(root, paths::CNI_DIR)
        .into_iter()
        .filter(is_read)
        .collect()
}
