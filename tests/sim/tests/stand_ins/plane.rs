//! A whole control plane: apiserver, controller-manager and scheduler.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Cluster, Running, command, eventually, file, flag, free_port, said};

/// A control plane of stand-ins.
pub struct Plane {
    pub cluster: Cluster,
    pub admin: PathBuf,
    _others: [Running; 2],
    _server: Running,
}

impl Plane {
    /// Starts one, and waits until the namespace `default` accepts pods.
    pub fn start() -> Self {
        let cluster = Cluster::start();
        let keys = cluster.authority.issue("service-account", "k8s");
        let client = cluster.authority.issue("kubelet-client", "k8s");
        let ca = cluster.authority.certificate();
        let server = cluster.apiserver(&[
            file(
                "service-account-key-file",
                &cluster.authority.public_key("service-account"),
            ),
            flag("admission-control", "NamespaceLifecycle,ServiceAccount"),
            flag("allow-privileged", true),
            file("kubelet-certificate-authority", &ca),
            file("kubelet-client-certificate", &client.certificate),
            file("kubelet-client-key", &client.key),
        ]);
        let start = |program: &str, more: &[String]| {
            let kubeconfig = cluster.kubeconfig(&format!("system:{program}"), "k8s");
            let flags = [
                flag("address", "127.0.0.1"),
                flag("port", free_port()),
                file("kubeconfig", &kubeconfig),
            ];
            Running::start(command(program).args(flags).args(more))
        };
        let manager = [
            file("root-ca-file", &ca),
            file("service-account-private-key-file", &keys.key),
            flag("node-monitor-grace-period", "5m"),
        ];
        let others = [
            start("kube-controller-manager", &manager),
            start("kube-scheduler", &[]),
        ];
        let plane = Self {
            admin: cluster.kubeconfig("admin", "system:masters"),
            _others: others,
            _server: server,
            cluster,
        };
        eventually("a token of the account default", || {
            let name = plane.kubectl("get sa default -o jsonpath={.secrets[0].name}");
            name.starts_with("default-token-")
        });
        plane
    }

    /// The directory of all files.
    pub fn directory(&self) -> &Path {
        self.cluster.directory.path()
    }

    /// The output of kubectl as the administrator.
    pub fn kubectl(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        said(&self.cluster.kubectl(&self.admin, &words))
    }

    /// The output of kubectl `apply` or `create` with these manifests.
    pub fn manifests(&self, verb: &str, text: &str) -> String {
        let path = self.directory().join("manifests.yaml");
        fs::write(&path, text).unwrap();
        self.kubectl(&format!("{verb} -f {}", path.display()))
    }

    /// An object as JSON.
    pub fn object(&self, what: &str) -> Value {
        let text = self.kubectl(&format!("get {what} -o json"));
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"))
    }

    /// Waits until the output of kubectl contains `text`.
    pub fn until(&self, line: &str, text: &str) {
        let mut last = String::new();
        eventually(&format!("{text:?} from {line}"), || {
            let now = self.kubectl(line);
            if now != last {
                eprintln!("{now}");
                last.clone_from(&now);
            }
            now.contains(text)
        });
    }
}
