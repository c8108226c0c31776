//! A kubelet that gets its certificate from the cluster.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::harness::{
    Cluster, Running, command, eventually, file, flag, free_port, run, said, wait_for_status,
};
use crate::node::docker;
use crate::pki::Authority;

/// The groups may request certificates, which are approved automatically.
const BINDINGS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: ask}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'system:node-bootstrapper'}
subjects:
- {kind: Group, name: 'system:bootstrappers', apiGroup: rbac.authorization.k8s.io}
";
const APPROVED: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: approve}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: system:certificates.k8s.io:certificatesigningrequests:nodeclient
subjects:
- {kind: Group, name: 'system:bootstrappers', apiGroup: rbac.authorization.k8s.io}
";
const MONITORS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: monitor}
rules:
- {apiGroups: [''], resources: [nodes/metrics], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: monitor}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: monitor}
subjects:
- {kind: User, name: kubernetes, apiGroup: rbac.authorization.k8s.io}
";

/// A control plane that signs certificates, and a directory for a kubelet.
struct Setup {
    cluster: Cluster,
    admin: PathBuf,
    token: PathBuf,
    secure: u16,
    health: u16,
    _server: Running,
    _manager: Running,
}

impl Setup {
    fn start(kubelet_authority: impl FnOnce(&Cluster) -> PathBuf) -> Self {
        let cluster = Cluster::start();
        let directory = cluster.directory.path();
        let tokens = directory.join("token.csv");
        fs::write(&tokens, "t,kubelet-bootstrap,1,\"system:bootstrappers\"\n").unwrap();
        let client = cluster.authority.issue("kubernetes", "k8s");
        let server = cluster.apiserver(&[
            file("token-auth-file", &tokens),
            file("kubelet-client-certificate", &client.certificate),
            file("kubelet-client-key", &client.key),
            file(
                "kubelet-certificate-authority",
                &kubelet_authority(&cluster),
            ),
        ]);
        let manager = Running::start(command("kube-controller-manager").args([
            flag("address", "127.0.0.1"),
            flag("port", free_port()),
            file(
                "kubeconfig",
                &cluster.kubeconfig("system:kube-controller-manager", "k8s"),
            ),
            file(
                "cluster-signing-cert-file",
                &cluster.authority.certificate(),
            ),
            file("cluster-signing-key-file", &cluster.authority.key()),
            flag("node-monitor-grace-period", "3s"),
            flag("node-monitor-period", "1s"),
        ]));
        docker(&directory.join("docker.sock"));
        Self {
            admin: cluster.kubeconfig("admin", "system:masters"),
            token: cluster.authority.token_kubeconfig(&cluster.server, "t"),
            secure: free_port(),
            health: free_port(),
            _server: server,
            _manager: manager,
            cluster,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.cluster.directory.path().join(name)
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        said(&self.cluster.kubectl(&self.admin, arguments))
    }

    fn apply(&self, manifests: &str) -> String {
        let path = self.path("manifests.yaml");
        fs::write(&path, manifests).unwrap();
        self.kubectl(&["apply", "-f", path.to_str().unwrap()])
    }

    fn flags(&self, bootstrap: &Path) -> Vec<String> {
        let serving = self.cluster.authority.issue("serving", "k8s");
        vec![
            file("kubeconfig", &self.path("made/kubelet.kubeconfig")),
            file("bootstrap-kubeconfig", bootstrap),
            file("cert-dir", &self.path("made")),
            flag("hostname-override", "Node-A"),
            flag("node-ip", "127.0.0.1"),
            flag("node-labels", "a=b"),
            flag("register-with-taints", "c=d:NoSchedule"),
            flag("node-status-update-frequency", "1s"),
            flag(
                "docker-endpoint",
                format!("unix://{}", self.path("docker.sock").display()),
            ),
            flag("address", "127.0.0.1"),
            flag("port", self.secure),
            flag("read-only-port", 0),
            flag("cadvisor-port", 0),
            flag("healthz-port", self.health),
            flag("fail-swap-on", false),
            flag("rotate-certificates", true),
            flag("authorization-mode", "Webhook"),
            flag("authentication-token-webhook", true),
            flag("anonymous-auth", false),
            file("client-ca-file", &self.cluster.authority.certificate()),
            file("tls-cert-file", &serving.certificate),
            file("tls-private-key-file", &serving.key),
        ]
    }

    fn kubelet(&self) -> Running {
        let kubelet = Running::start(command("kubelet").args(self.flags(&self.token)));
        wait_for_status(self.health, "/healthz", 200);
        kubelet
    }

    fn until_node_is(&self, state: &str) {
        eventually(state, || {
            let nodes = self.kubectl(&["get", "nodes", "--no-headers"]);
            let words: Vec<&str> = nodes.split_whitespace().collect();
            words.get(..2) == Some(&["node-a", state])
        });
    }
}

fn own_authority(cluster: &Cluster) -> PathBuf {
    cluster.authority.certificate()
}

#[test]
fn a_kubelet_gets_a_certificate_and_keeps_it() {
    let setup = Setup::start(own_authority);
    let refused = said(&run("kubelet", &setup.flags(&setup.token)));
    assert!(
        refused.contains("cannot create certificate signing request"),
        "{refused}"
    );
    assert!(
        refused.contains("cannot create certificatesigningrequests"),
        "{refused}"
    );
    assert!(!setup.path("made/kubelet-client.key").exists());

    let both = format!("{BINDINGS}---{APPROVED}");
    assert_eq!(
        setup.apply(&both),
        "clusterrolebinding \"ask\" created\nclusterrolebinding \"approve\" created\n"
    );
    let mut kubelet = setup.kubelet();
    setup.until_node_is("Ready");
    for (name, mode) in [
        ("kubelet-client.key", 0o600),
        ("kubelet-client.crt", 0o644),
        ("kubelet.kubeconfig", 0o600),
    ] {
        let found = fs::metadata(setup.path("made").join(name)).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, mode, "{name}");
    }
    let requests = setup.kubectl(&["get", "csr"]);
    assert!(
        requests.contains("kubelet-bootstrap   Approved,Issued"),
        "{requests}"
    );
    let node = setup.kubectl(&["get", "node", "node-a", "-o", "json"]);
    let node: serde_json::Value = serde_json::from_str(&node).unwrap();
    assert_eq!(node["metadata"]["labels"]["a"], "b");
    assert_eq!(node["spec"]["taints"][0]["key"], "c");

    assert!(kubelet.stop());
    setup.until_node_is("NotReady");
    let node = setup.kubectl(&["get", "nodes", "-o", "json"]);
    assert!(node.contains("NodeStatusUnknown"), "{node}");

    // If a kubeconfig exists, the bootstrap one is not read.
    let missing = setup.path("nothing");
    let _kubelet = Running::start(command("kubelet").args(setup.flags(&missing)));
    setup.until_node_is("Ready");
    assert_eq!(
        setup.kubectl(&["get", "csr", "-o", "name"]).lines().count(),
        1
    );
}

/// A node with a certificate for its own name may get another one for that name.
#[test]
fn a_node_certificate_gets_its_kubelet_its_own() {
    let setup = Setup::start(own_authority);
    let rights = APPROVED
        .replace("system:bootstrappers", "system:nodes")
        .replace(":nodeclient", ":selfnodeclient");
    setup.apply(&rights);
    let other = setup
        .cluster
        .kubeconfig("system:node:node-b", "system:nodes");
    let kubelet = Running::start(command("kubelet").args(setup.flags(&other)));
    eventually("a request for another node", || {
        setup
            .kubectl(&["get", "csr"])
            .contains("system:node:node-b   Pending")
    });
    drop(kubelet);
    let own = setup
        .cluster
        .kubeconfig("system:node:node-a", "system:nodes");
    fs::remove_file(setup.path("made/kubelet-client.key")).unwrap();
    let _kubelet = Running::start(command("kubelet").args(setup.flags(&own)));
    setup.until_node_is("Ready");
    let requests = setup.kubectl(&["get", "csr"]);
    assert!(
        requests.contains("system:node:node-a   Approved,Issued"),
        "{requests}"
    );
    assert!(
        requests.contains("system:node:node-b   Pending"),
        "{requests}"
    );
}

#[test]
fn a_request_waits_for_a_human_where_nobody_else_decides() {
    let setup = Setup::start(own_authority);
    setup.apply(BINDINGS);
    let kubelet = || Running::start(command("kubelet").args(setup.flags(&setup.token)));
    let pending = || {
        let mut name = String::new();
        eventually("a pending request", || {
            let requests = setup.kubectl(&["get", "csr", "--no-headers"]);
            let line = requests.lines().find(|line| line.contains("Pending"));
            let found = line.and_then(|line| line.split_whitespace().next());
            name = found.unwrap_or_default().to_owned();
            !name.is_empty()
        });
        name
    };
    let denied = kubelet();
    let name = pending();
    assert_eq!(
        setup.kubectl(&["certificate", "deny", &name]),
        format!("certificatesigningrequest \"{name}\" denied\n")
    );
    denied.wait_for("certificate signing request is not approved, reason: KubectlDeny");
    eventually("the key is removed", || {
        !setup.path("made/kubelet-client.key").exists()
    });

    let _approved = kubelet();
    let name = pending();
    setup.kubectl(&["certificate", "approve", &name]);
    setup.until_node_is("Ready");
}

#[test]
fn the_secure_port_is_for_whom_the_api_allows() {
    let setup = Setup::start(own_authority);
    setup.apply(&format!("{BINDINGS}---{APPROVED}"));
    let _kubelet = setup.kubelet();
    setup.until_node_is("Ready");
    let asks = |path: &str| {
        let path = format!("/api/v1/nodes/node-a/proxy/{path}");
        setup.kubectl(&["get", "--raw", &path])
    };
    let refused = asks("metrics");
    assert!(
        refused
            .contains("Forbidden (user=kubernetes, verb=get, resource=nodes, subresource=metrics)"),
        "{refused}"
    );
    assert_eq!(
        setup.apply(MONITORS),
        "clusterrole \"monitor\" created\nclusterrolebinding \"monitor\" created\n"
    );
    let metrics = asks("metrics");
    assert!(metrics.contains("kubelet_running_pod_count"), "{metrics}");
    let refused = asks("healthz");
    assert!(refused.contains("subresource=proxy"), "{refused}");

    let kubelet = format!("https://127.0.0.1:{}", setup.secure);
    let with_token = |token: &str| {
        let authority = &setup.cluster.authority;
        let path = authority.token_kubeconfig(&kubelet, token);
        said(&setup.cluster.kubectl(&path, &["get", "--raw", "/metrics"]))
    };
    let refused = with_token("t");
    assert!(
        refused.contains("Forbidden (user=kubelet-bootstrap"),
        "{refused}"
    );
    for unknown in ["other", ""] {
        let refused = with_token(unknown);
        assert!(refused.contains("Unauthorized"), "{refused}");
    }
}

#[test]
fn a_kubelet_with_another_authoritys_certificate_is_not_talked_to() {
    let setup = Setup::start(|cluster| {
        Authority::new(&cluster.directory.path().join("foreign")).certificate()
    });
    setup.apply(&format!("{BINDINGS}---{APPROVED}---{MONITORS}"));
    let _kubelet = setup.kubelet();
    setup.until_node_is("Ready");
    let failed = setup.kubectl(&["get", "--raw", "/api/v1/nodes/node-a/proxy/metrics"]);
    assert!(failed.contains("error trying to reach service"), "{failed}");
    assert!(failed.contains("certificate"), "{failed}");
}
