//! Debian's kubectl 1.20, a genuine client, drives the stand-in of the API server as the appliance
//! drives it with the bundle's kubectl, and as the documentation tells users to.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::harness::{Cluster, Running, command, eventually, file, flag, free_port, said};

/// An object of each sort that the appliance applies.
const MANIFESTS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: kube-system}
data: {a: '1'}
---
apiVersion: extensions/v1beta1
kind: Deployment
metadata: {name: web, namespace: kube-system}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: one, image: 'pause:1', args: [x], ports: [{containerPort: 80}]}
      - {name: two, image: 'pause:1'}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: kube-system}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: 'test:reader'}
rules: [{apiGroups: [''], resources: [pods], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: 'test:reader'}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'test:reader'}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: reader}]
";

const NODE: &str = "apiVersion: v1\nkind: Node\nmetadata: {name: server01}\n";

/// The program, in version 1.20: another one may come first on the PATH.
fn program() -> PathBuf {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../out/debian/root");
    let places = [unpacked.join("usr/bin/kubectl"), "/usr/bin/kubectl".into()];
    let is_right = |path: &&PathBuf| {
        let version = Command::new(path).args(["version", "--client"]).output();
        version.is_ok_and(|output| said(&output).contains("GitVersion:\"v1.20."))
    };
    let found = places.iter().find(is_right);
    found
        .unwrap_or_else(|| {
            panic!(
                "Debian's kubectl 1.20 (package kubernetes-client) is missing; run \
                 `tests/vm/install-tools.sh test`, which unpacks it below out/debian"
            )
        })
        .clone()
}

/// The genuine client of a cluster of stand-ins.
struct Client {
    cluster: Cluster,
    program: PathBuf,
    admin: PathBuf,
    _server: Running,
}

impl Client {
    fn start() -> Self {
        let cluster = Cluster::start();
        let server = cluster.apiserver(&[]);
        Self {
            program: program(),
            admin: cluster.kubeconfig("admin", "system:masters"),
            cluster,
            _server: server,
        }
    }

    /// A command of the user of this kubeconfig. It finds no settings of this machine, and every
    /// request has to be answered in time.
    fn command(&self, kubeconfig: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("HOME", self.cluster.directory.path().join("home"))
            .env_remove("KUBECONFIG")
            .arg(file("kubeconfig", kubeconfig))
            .arg("--request-timeout=60s")
            .args(words);
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(&self.admin, words).output().unwrap()
    }

    /// The output of a command line without quotes, which succeeds without a warning.
    #[track_caller]
    fn says(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = self.run(&words);
        assert!(output.status.success(), "{line}: {}", said(&output));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{line}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The error of a command line that fails.
    #[track_caller]
    fn fails(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = self.run(&words);
        assert_eq!(output.status.code(), Some(1), "{line}: {}", said(&output));
        said(&output)
    }

    #[track_caller]
    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.says(&format!("{line} -o json"))).unwrap()
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.cluster.directory.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    #[track_caller]
    fn apply(&self, manifests: &str) -> String {
        let path = self.file("manifests.yaml", manifests);
        self.says(&format!("apply -f {path}"))
    }

    /// Writes the status of an object, as its controller does.
    #[track_caller]
    fn set_status(&self, path: &str, status: &Value) {
        let raw = self.says(&format!("get --raw {path}"));
        let mut object: Value = serde_json::from_str(&raw).unwrap();
        object["status"] = status.clone();
        let body = self.file("status.json", &object.to_string());
        self.says(&format!("replace --raw {path}/status -f {body}"));
    }

    /// Starts a command that waits, does `act` once it watches, and returns its output.
    fn waits(&self, line: &str, act: impl FnOnce()) -> String {
        let words: Vec<&str> = line.split_whitespace().chain(["-v=6"]).collect();
        let mut waiting = self
            .command(&self.admin, &words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(waiting.stderr.take().unwrap()).lines();
        let watches = log.any(|line| line.unwrap().contains("watch=true"));
        assert!(watches, "{line}: it never watched");
        act();
        let rest: Vec<String> = log.map_while(Result::ok).collect();
        let output = waiting.wait_with_output().unwrap();
        assert!(output.status.success(), "{line}: {rest:#?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn apply_creates_changes_and_leaves_alone() {
    let client = Client::start();
    let says = |settings: &str, web: &str| {
        format!(
            "configmap/settings {settings}\ndeployment.extensions/web {web}\n\
             service/web unchanged\n\
             clusterrole.rbac.authorization.k8s.io/test:reader unchanged\n\
             clusterrolebinding.rbac.authorization.k8s.io/test:reader unchanged\n"
        )
    };
    let created = says("created", "created").replace("unchanged", "created");
    assert_eq!(client.apply(MANIFESTS), created);
    assert_eq!(client.apply(MANIFESTS), says("unchanged", "unchanged"));
    let port = client.json("get service web -n kube-system")["spec"]["clusterIP"].clone();

    // A strategic merge patch of v1.20: one container goes, one gets another image.
    let changed = MANIFESTS
        .replace("a: '1'", "a: '2'")
        .replace("      - {name: two, image: 'pause:1'}\n", "")
        .replace("name: one, image: 'pause:1'", "name: one, image: 'pause:2'")
        .replace(
            "{type: RollingUpdate, rollingUpdate: {maxSurge: 1}}",
            "{type: Recreate}",
        );
    assert_eq!(client.apply(&changed), says("configured", "configured"));
    let spec = client.json("get deployment web -n kube-system")["spec"].clone();
    let containers = spec["template"]["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1, "{spec:#}");
    assert_eq!(containers[0]["image"], "pause:2");
    assert_eq!(containers[0]["args"], json!(["x"]));
    assert_eq!(spec["strategy"], json!({"type": "Recreate"}));
    assert!(
        !spec.to_string().contains('$'),
        "a directive was stored: {spec:#}"
    );
    let service = client.json("get service web -n kube-system");
    assert_eq!(service["spec"]["clusterIP"], port);
}

/// The manifests that the appliance renders for a node with both roles.
#[test]
fn the_add_ons_of_the_appliance_are_applied_and_then_unchanged() {
    let client = Client::start();
    let rendered = "../golden/single/with-ca/etc/kubernetes/addons";
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(rendered);
    for name in ["10-calico.yaml", "20-kube-dns.yaml"] {
        let path = directory.join(name).display().to_string();
        let first = client.says(&format!("apply -f {path}"));
        assert!(
            first.lines().all(|line| line.ends_with(" created")),
            "{first}"
        );
        let second = client.says(&format!("apply -f {path}"));
        assert_eq!(second, first.replace(" created", " unchanged"));
        let found = client.json(&format!("get -f {path}"));
        let items = found["items"].as_array().unwrap();
        assert_eq!(items.len(), first.lines().count(), "{first}");
    }
}

#[test]
fn get_shows_objects_in_the_forms_that_the_appliance_reads() {
    let client = Client::start();
    client.apply(MANIFESTS);
    assert_eq!(client.says("get --raw /healthz"), "ok");
    let version = client.says("version --short");
    assert!(version.contains("Server Version: v1.9.0"), "{version}");
    let path = client.cluster.directory.path().join("manifests.yaml");
    let list = client.json(&format!("get -f {}", path.display()));
    assert_eq!(list["items"].as_array().unwrap().len(), 5);
    assert_eq!(list["items"][1]["apiVersion"], "extensions/v1beta1");
    let names = client.says(&format!("get -o name -f {}", path.display()));
    assert!(names.starts_with("configmap/settings\n"), "{names}");
    let states = client.json("get componentstatuses");
    let items = states["items"].as_array().unwrap();
    assert!(
        items
            .iter()
            .any(|item| item["metadata"]["name"] == "etcd-0")
    );
    assert_eq!(client.json("get nodes")["items"], json!([]));
    let all = client.json("get svc --all-namespaces -l component=apiserver");
    assert_eq!(all["items"][0]["metadata"]["name"], "kubernetes");
    // v1.9 has no table for this version of kubectl, which then prints the names.
    let table = client.says("get configmaps -n kube-system");
    assert!(table.starts_with("NAME       AGE\nsettings   "), "{table}");
    let groups = client.says("api-versions");
    assert!(groups.contains("apps/v1\napps/v1beta1\n"), "{groups}");
    let refused = client.fails("get configmap nothing");
    assert_eq!(
        refused,
        "Error from server (NotFound): configmaps \"nothing\" not found\n"
    );
    let unknown = client.fails("get cronjobs");
    assert!(
        unknown.contains("doesn't have a resource type"),
        "{unknown}"
    );
}

#[test]
fn delete_waits_until_objects_are_gone_and_misses_nothing() {
    let client = Client::start();
    client.apply(MANIFESTS);
    let deleted = client.says("delete deployment web -n kube-system");
    assert_eq!(deleted, "deployment.extensions \"web\" deleted\n");
    let again = client.fails("delete deployment web -n kube-system");
    assert!(again.contains("(NotFound)"), "{again}");
    let ignored = client.says("delete --ignore-not-found deployment web -n kube-system");
    assert_eq!(ignored, "");
    client.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: checks}\n");
    client.apply(&MANIFESTS.replace("kube-system", "checks"));
    client.says("delete --ignore-not-found namespace checks");
    let left = client.json("get all,configmaps -n checks");
    assert_eq!(left["items"], json!([]));
}

#[test]
fn wait_and_rollout_status_follow_changes() {
    let client = Client::start();
    client.apply(MANIFESTS);
    client.apply(NODE);
    let early = client.fails("wait --for=condition=Ready node/server01 --timeout=0s");
    assert!(early.contains("timed out waiting"), "{early}");
    let ready = |state: &str| json!({"conditions": [{"type": "Ready", "status": state}]});
    let waited = client.waits(
        "wait --for=condition=Ready node/server01 --timeout=90s",
        || {
            client.set_status("/api/v1/nodes/server01", &ready("False"));
            client.set_status("/api/v1/nodes/server01", &ready("True"));
        },
    );
    assert_eq!(waited, "node/server01 condition met\n");
    let gone = client.waits("wait --for=delete node/server01 --timeout=90s", || {
        client.says("delete node server01");
    });
    assert_eq!(gone, "node/server01 condition met\n");

    let path = "/apis/extensions/v1beta1/namespaces/kube-system/deployments/web";
    let rolled = client.waits(
        "rollout status deployment/web -n kube-system --timeout=90s",
        || {
            client.set_status(
                path,
                &json!({
                    "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1,
                    "availableReplicas": 1, "readyReplicas": 1,
                }),
            );
        },
    );
    assert!(rolled.contains("successfully rolled out"), "{rolled}");
}

#[test]
fn can_i_answers_yes_and_no_with_its_exit_code() {
    let client = Client::start();
    client.apply(MANIFESTS);
    let reader = client.cluster.kubeconfig("reader", "k8s");
    let can = |kubeconfig: &Path, question: &str| {
        let words: Vec<&str> = ["auth", "can-i"]
            .into_iter()
            .chain(question.split_whitespace())
            .collect();
        let output = client.command(kubeconfig, &words).output().unwrap();
        let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        (answer, output.status.code().unwrap())
    };
    let (yes, no) = (("yes".to_owned(), 0), ("no".to_owned(), 1));
    assert_eq!(can(&client.admin, "delete nodes"), yes);
    assert_eq!(can(&reader, "list pods --all-namespaces"), yes);
    assert_eq!(can(&reader, "get pods --subresource=log"), no);
    assert_eq!(can(&reader, "delete pods"), no);
    assert_eq!(can(&reader, "get /healthz"), yes);
    assert_eq!(can(&reader, "get /metrics"), no);
    let refused = client.command(&reader, &["get", "nodes"]).output().unwrap();
    let refused = said(&refused);
    assert!(
        refused.contains("(Forbidden)") && refused.contains("\"reader\" cannot list"),
        "{refused}"
    );
}

#[test]
fn a_request_for_a_certificate_is_approved_and_issued() {
    let client = Client::start();
    let authority = &client.cluster.authority;
    let _manager = Running::start(
        command("kube-controller-manager").args([
            flag("address", "127.0.0.1"),
            flag("port", free_port()),
            file(
                "kubeconfig",
                &client
                    .cluster
                    .kubeconfig("system:kube-controller-manager", "k8s"),
            ),
            file("cluster-signing-cert-file", &authority.certificate()),
            file("cluster-signing-key-file", &authority.key()),
        ]),
    );
    let key = client.cluster.directory.path().join("jane.key");
    let made = Command::new("openssl")
        .args([
            "req",
            "-new",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/O=team/CN=jane",
        ])
        .arg("-keyout")
        .arg(&key)
        .output()
        .expect("openssl (Debian package openssl)");
    assert!(made.status.success(), "{}", said(&made));
    let manifest = |name: &str| {
        json!({
            "apiVersion": "certificates.k8s.io/v1beta1", "kind": "CertificateSigningRequest",
            "metadata": {"name": name},
            "spec": {
                "request": base64(&made.stdout),
                "usages": ["digital signature", "key encipherment", "client auth"],
            },
        })
        .to_string()
    };
    client.apply(&manifest("jane"));
    client.apply(&manifest("joe"));
    let approved = client.says("certificate approve jane");
    assert!(approved.contains("/jane approved"), "{approved}");
    let denied = client.says("certificate deny joe");
    assert!(denied.contains("/joe denied"), "{denied}");
    let mut request = Value::Null;
    eventually("the certificate", || {
        request = client.json("get csr jane");
        request["status"]["certificate"].is_string()
    });
    assert_eq!(request["spec"]["username"], "admin");
    assert_eq!(request["status"]["conditions"][0]["type"], "Approved");
    let other = client.json("get csr joe");
    assert_eq!(other["status"]["conditions"][0]["type"], "Denied");
    assert!(other["status"]["certificate"].is_null());
}

/// As `openssl base64` writes it.
fn base64(content: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(content)
}

#[test]
fn nodes_are_labelled_tainted_cordoned_and_deleted() {
    let client = Client::start();
    client.apply(NODE);
    assert_eq!(
        client.says("label node server01 kubernetes.io/role=worker"),
        "node/server01 labeled\n"
    );
    assert_eq!(
        client.says("taint node server01 a=b:NoSchedule"),
        "node/server01 tainted\n"
    );
    assert_eq!(client.says("cordon server01"), "node/server01 cordoned\n");
    let node = client.json("get node server01");
    assert_eq!(
        node["metadata"]["labels"],
        json!({"kubernetes.io/role": "worker"})
    );
    assert_eq!(node["spec"]["unschedulable"], true);
    let taint = &node["spec"]["taints"][0];
    assert_eq!(
        (&taint["key"], &taint["effect"]),
        (&json!("a"), &json!("NoSchedule"))
    );
    client.says("uncordon server01");
    client.says("taint node server01 a-");
    client.says("label node server01 kubernetes.io/role-");
    let node = client.json("get node server01");
    assert!(
        node["spec"]["taints"].as_array().is_none_or(Vec::is_empty),
        "{node:#}"
    );
    assert_ne!(node["spec"]["unschedulable"], true);
    assert_eq!(
        client.says("delete node server01"),
        "node \"server01\" deleted\n"
    );
    assert_eq!(client.json("get nodes")["items"], json!([]));
}
