//! Objects through kubectl, the apiserver and etcd.

use std::fs;
use std::path::Path;

use crate::harness::{Cluster, eventually, flag, free_port, run, said};

const MANIFESTS: &str = "
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ServiceAccount
  metadata: {name: sa, namespace: kube-system, labels: {k: v}}
- apiVersion: extensions/v1beta1
  kind: Deployment
  metadata: {name: d, namespace: kube-system}
  spec: {replicas: 2, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: pause}]}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: 'test:x'}
rules:
- {apiGroups: [''], resources: [nodes], verbs: [get]}
";

/// The output of kubectl for a command line without quotes.
fn kubectl(cluster: &Cluster, kubeconfig: &Path, line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    said(&cluster.kubectl(kubeconfig, &words))
}

#[test]
fn apply_says_what_it_did_and_get_shows_it() {
    let cluster = Cluster::start();
    let _server = cluster.apiserver(&[]);
    let admin = cluster.kubeconfig("admin", "system:masters");
    let kubectl = |line: &str| kubectl(&cluster, &admin, line);
    let path = cluster.directory.path().join("manifests.yaml");
    let apply = |text: &str| {
        fs::write(&path, text).unwrap();
        kubectl(&format!("apply -f {}", path.display()))
    };
    let says = |sa: &str, d: &str, role: &str| {
        format!("serviceaccount \"sa\" {sa}\ndeployment \"d\" {d}\nclusterrole \"test:x\" {role}\n")
    };
    assert_eq!(apply(MANIFESTS), says("created", "created", "created"));
    // v1.9 prints this for every object without a namespace.
    assert_eq!(
        apply(MANIFESTS),
        says("unchanged", "unchanged", "configured")
    );
    let changed = MANIFESTS.replace("labels: {k: v}", "labels: {k: w}");
    assert_eq!(
        apply(&changed),
        says("configured", "unchanged", "configured")
    );
    let names = kubectl(&format!("get -o name -f {}", path.display()));
    assert_eq!(
        names,
        "serviceaccounts/sa\ndeployments/d\nclusterroles/test:x\n"
    );
}

#[test]
fn get_finds_and_delete_removes() {
    let cluster = Cluster::start();
    let _server = cluster.apiserver(&[]);
    let admin = cluster.kubeconfig("admin", "system:masters");
    let kubectl = |line: &str| kubectl(&cluster, &admin, line);
    let path = cluster.directory.path().join("manifests.yaml");
    fs::write(&path, MANIFESTS).unwrap();
    kubectl(&format!("apply -f {}", path.display()));
    assert!(kubectl("get sa -n kube-system -l k=v").contains("sa        0"));
    assert!(kubectl("get sa -n kube-system -l k=w").contains("No resources found."));
    assert!(kubectl("get sa --all-namespaces").contains("kube-system   sa"));
    let missing = kubectl("get sa sa");
    assert!(
        missing.contains("Error from server (NotFound): serviceaccounts \"sa\" not found"),
        "{missing}"
    );
    let object = kubectl("get clusterrole test:x -o json");
    let object: serde_json::Value = serde_json::from_str(&object).unwrap();
    assert_eq!(object["rules"][0]["verbs"][0], "get");
    assert!(object["metadata"]["uid"].is_string());
    // The same object in another group.
    let same = kubectl("get --raw /apis/apps/v1/namespaces/kube-system/deployments/d");
    assert!(same.contains("\"apiVersion\":\"apps/v1\""), "{same}");

    assert_eq!(
        kubectl("delete clusterrole test:x"),
        "clusterrole \"test:x\" deleted\n"
    );
    assert!(kubectl("delete clusterrole test:x").contains("(NotFound)"));
    assert_eq!(kubectl("delete clusterrole test:x --ignore-not-found"), "");
    assert_eq!(
        kubectl("get clusterrole test:x --ignore-not-found -o name"),
        ""
    );
    let namespaces = kubectl("get ns -o name");
    assert!(
        namespaces.contains("namespaces/kube-system"),
        "{namespaces}"
    );
}

#[test]
fn a_role_reaches_only_its_namespace() {
    let cluster = Cluster::start();
    let _server = cluster.apiserver(&[]);
    let admin = cluster.kubeconfig("admin", "system:masters");
    let user = cluster.kubeconfig("user", "k8s");
    let path = cluster.directory.path().join("role.yaml");
    let role = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: r}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: r}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}
subjects: [{kind: User, name: user, apiGroup: rbac.authorization.k8s.io}]
";
    fs::write(&path, role).unwrap();
    let lists = |namespace: &str| said(&cluster.kubectl(&user, &["get", "cm", "-n", namespace]));
    assert!(lists("kube-public").contains("(Forbidden)"));
    let applied = cluster.kubectl(
        &admin,
        &["apply", "-n", "kube-public", "-f", path.to_str().unwrap()],
    );
    assert_eq!(
        said(&applied),
        "role \"r\" created\nrolebinding \"r\" created\n"
    );
    assert!(lists("kube-public").contains("No resources found."));
    // A binding cannot be changed.
    fs::write(
        &path,
        role.replace("kind: Role, name: r", "kind: Role, name: s"),
    )
    .unwrap();
    let changed = cluster.kubectl(
        &admin,
        &["apply", "-n", "kube-public", "-f", path.to_str().unwrap()],
    );
    assert!(
        said(&changed).contains("cannot change roleRef"),
        "{}",
        said(&changed)
    );
    let refused = lists("default");
    assert!(
        refused.contains("cannot list configmaps in the namespace \"default\""),
        "{refused}"
    );
}

#[test]
fn without_a_server_it_fails() {
    let server = format!("--server=http://127.0.0.1:{}", free_port());
    let manifests = flag("filename", "/nonexistent/x.yaml");
    for (arguments, expected) in [
        (
            vec!["get".into(), "sa".into(), server.clone()],
            "The connection to the server",
        ),
        (vec!["apply".into(), manifests, server], "does not exist"),
    ] {
        let output = run("kubectl", &arguments);
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains(expected), "{}", said(&output));
    }
}

#[test]
fn a_server_sees_what_another_one_writes() {
    let cluster = Cluster::start();
    let ports = [free_port(), free_port()];
    let _servers = ports.map(|port| {
        cluster.apiserver(&[
            flag("secure-port", free_port()),
            flag("insecure-port", port),
        ])
    });
    let kubectl = |port: u16, line: &str| {
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        words.push(format!("--server=http://127.0.0.1:{port}"));
        said(&run("kubectl", &words))
    };
    let path = cluster.directory.path().join("manifests.yaml");
    fs::write(&path, MANIFESTS).unwrap();
    let path = format!("{}", path.display());
    let known = || {
        let accounts = "/api/v1/namespaces/kube-system/serviceaccounts";
        let list = format!("get --raw {accounts}?resourceVersion=0");
        kubectl(ports[1], &list).contains("\"sa\"")
    };
    // Its cache would be used for ever if no watch reported changes.
    assert!(!known());
    kubectl(ports[0], &format!("apply -f {path}"));
    let accounts = "get serviceaccounts --namespace kube-system -o name";
    let all = kubectl(ports[1], accounts);
    assert!(all.contains("serviceaccounts/sa"), "{all}");
    eventually("the other's service account", known);
    kubectl(ports[0], &format!("delete -f {path}"));
    eventually("the service account's end", || !known());
}
