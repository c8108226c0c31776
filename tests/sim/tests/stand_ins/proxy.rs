//! kube-proxy: forwards services' addresses and nodes' ports to pods.

use std::collections::BTreeSet;
use std::fs;

use crate::cni::{Pod, serve};
use crate::harness::{Running, eventually, file, said};
use crate::lab::{self, Lab, fetch, succeeds};
use crate::pki::Authority;

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: NodePort
  clusterIP: 10.68.0.9
  ports: [{name: web, port: 80, targetPort: 8080, nodePort: 20080}]
---
apiVersion: v1
kind: Service
metadata: {name: empty, namespace: default}
spec:
  clusterIP: 10.68.0.10
  ports: [{port: 80}]
";

fn endpoints(addresses: &[&str]) -> String {
    let listed: Vec<String> = addresses.iter().map(|a| format!("{{ip: {a}}}")).collect();
    format!(
        "apiVersion: v1\nkind: Endpoints\nmetadata: {{name: web, namespace: default}}\n\
         subsets:\n- addresses: [{}]\n  ports: [{{name: web, port: 8080}}]\n",
        listed.join(", ")
    )
}

/// An API on the first node, without TLS for kubectl, and with TLS for clients with a kubeconfig.
fn api(lab: &Lab, etcd: &str, authority: &Authority) -> Running {
    let own = authority.issue("kubernetes", "k8s");
    let server = Running::start(lab.sim(1, "kube-apiserver").args([
        "--insecure-bind-address=0.0.0.0",
        "--insecure-port=8080",
        "--secure-port=6443",
        "--authorization-mode=RBAC",
        &file("client-ca-file", &authority.certificate()),
        &file("tls-cert-file", &own.certificate),
        &file("tls-private-key-file", &own.key),
        "--service-cluster-ip-range=10.68.0.0/16",
        "--service-node-port-range=20000-40000",
        &format!("--etcd-servers={etcd}"),
    ]));
    lab.until_answers(1, "127.0.0.1:8080/healthz", "ok");
    server
}

fn apply(lab: &Lab, manifests: &str) {
    let path = lab.directory.path().join("manifests.yaml");
    fs::write(&path, manifests).unwrap();
    let output = lab
        .sim(1, "kubectl")
        .args(["--server=http://127.0.0.1:8080", "apply", "-f"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

/// A CA in the lab's directory.
fn authority(lab: &Lab) -> Authority {
    Authority::new(&lab.directory.path().join("pki"))
}

/// Starts kube-proxy on a node, with the flags `api` for the API.
fn proxy(lab: &Lab, node: u8, api: &str) -> Running {
    let running = Running::start(lab.sim(node, "kube-proxy").args([
        api,
        "--cluster-cidr=172.20.0.0/16",
        &format!("--hostname-override={}", lab.name(node)),
    ]));
    lab.until_answers(node, "127.0.0.1:10256/healthz", "lastUpdated");
    running
}

/// The distinct answers of many requests.
fn answers(namespace: &str, place: &str) -> BTreeSet<String> {
    (0..40).filter_map(|_| fetch(namespace, place)).collect()
}

#[test]
fn a_service_is_reached_at_its_address_and_at_every_nodes_port() {
    if !lab::is_possible() {
        return;
    }
    let mut lab = Lab::new(2);
    let names = [lab.add("pod-one"), lab.add("pod-two"), lab.add("client")];
    let (_etcd, etcd) = lab.etcd(1);
    let _nodes = [1, 2].map(|node| lab.calico_node(node, &etcd, &[]));
    let _api = api(&lab, &etcd, &authority(&lab));
    let [one, two, client] = names;
    let one = Pod::new(&lab, one, 1, &etcd, "one");
    let two = Pod::new(&lab, two, 2, &etcd, "two");
    let client = Pod::new(&lab, client, 1, &etcd, "client");
    let (first, second) = (one.connect(), two.connect());
    client.connect();
    let _services = [
        serve(&lab, &one.namespace, "user-service"),
        serve(&lab, &two.namespace, "course-service"),
    ];
    apply(&lab, SERVICES);
    apply(&lab, &endpoints(&[&first, &second]));
    let _proxies = [1, 2].map(|node| proxy(&lab, node, "--master=http://10.99.0.1:8080"));

    let both = BTreeSet::from(["course-service\n".to_owned(), "user-service\n".to_owned()]);
    eventually("both pods at the service's address", || {
        answers(&client.namespace, "10.68.0.9:80") == both
    });
    // From a node to its own port, to another's, and to 127.0.0.1.
    for place in ["10.99.0.1:20080", "10.99.0.2:20080", "127.0.0.1:20080"] {
        eventually(place, || {
            (0..20)
                .filter_map(|_| lab.fetch(2, place))
                .collect::<BTreeSet<_>>()
                == both
        });
    }
    // A pod that connects to itself through the service.
    eventually("itself", || answers(&one.namespace, "10.68.0.9:80") == both);

    // A pod that is no longer ready gets no more requests.
    apply(&lab, &endpoints(&[&second]));
    eventually("only the second", || {
        let found = answers(&client.namespace, "10.68.0.9:80");
        found == BTreeSet::from(["course-service\n".to_owned()])
    });
}

#[test]
fn a_service_without_endpoints_is_refused_and_rules_do_not_pile_up() {
    if !lab::is_possible() {
        return;
    }
    let lab = Lab::new(1);
    let (_etcd, etcd) = lab.etcd(1);
    let authority = authority(&lab);
    let _api = api(&lab, &etcd, &authority);
    apply(&lab, SERVICES);
    // Without kube-proxy's rule, which comes first, the connection would wait in vain.
    for rule in [
        "-A OUTPUT -d 10.68.0.10 -j DROP",
        "-A INPUT -p tcp --dport 20080 -j DROP",
    ] {
        succeeds(lab.on(1, "iptables").args(rule.split_whitespace()));
    }
    let user = ("system:kube-proxy", "k8s");
    let server = "https://127.0.0.1:6443";
    let kubeconfig = authority.kubeconfig(server, &authority.certificate(), user);
    let kubeconfig = file("kubeconfig", &kubeconfig);
    let first = proxy(&lab, 1, &kubeconfig);
    for place in ["10.68.0.10:80", "10.99.0.1:20080"] {
        let mut curl = lab.on(1, "curl");
        let output = curl
            .args(["-s", "--max-time", "20", place])
            .output()
            .unwrap();
        // Refused at once, not after a timeout.
        assert_eq!(output.status.code(), Some(7), "{place}: {}", said(&output));
    }
    let rules = || {
        let saved = succeeds(&mut lab.on(1, "iptables-save"));
        let lines = saved.lines().filter(|line| line.starts_with("-A"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    apply(&lab, &endpoints(&["192.0.2.9"]));
    eventually("a rule for the endpoint", || {
        rules().iter().any(|rule| rule.contains("192.0.2.9:8080"))
    });
    let before = rules();
    drop(first);
    let _second = proxy(&lab, 1, &kubeconfig);
    assert_eq!(rules(), before);
    apply(&lab, &endpoints(&["192.0.2.10"]));
    eventually("the old endpoint's chain goes", || {
        let now = rules();
        now.len() == before.len() && !now.iter().any(|rule| rule.contains("192.0.2.9"))
    });
}
