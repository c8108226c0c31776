//! Workloads, services and accounts, as far as they need no container.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::harness::{eventually, file, flag, free_port, said};
use crate::plane::Plane;

/// A node without a kubelet.
fn node(name: &str, ready: &str, taints: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{n: {name}}}}}\nspec: {{taints: \
         [{taints}]}}\nstatus: {{conditions: [{{type: Ready, status: '{ready}'}}]}}\n"
    )
}

fn service(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {{a: b}}, {spec}}}\n"
    )
}

#[test]
fn a_node_port_is_in_the_range_and_given_out_once() {
    let plane = Plane::start();
    let with = |name: &str, port: u16| {
        let spec = format!("type: NodePort, ports: [{{port: 80, nodePort: {port}}}]");
        plane.manifests("create", &service(name, &spec))
    };
    assert_eq!(
        with("far", 50000),
        "The Service \"far\" is invalid: spec.ports[0].nodePort: Invalid value: 50000: provided port \
         is not in the valid range. The range of valid ports is 20000-40000\n"
    );
    assert_eq!(with("one", 20080), "service \"one\" created\n");
    assert_eq!(
        with("two", 20080),
        "The Service \"two\" is invalid: spec.ports[0].nodePort: Invalid value: 20080: provided port \
         is already allocated\n"
    );
    let shown = plane.kubectl("get svc one --no-headers");
    assert!(
        shown.contains("NodePort") && shown.contains("80:20080/TCP"),
        "{shown}"
    );
    plane.kubectl("delete svc one");
    assert_eq!(with("two", 20080), "service \"two\" created\n");
    // Without a number there is one replica, and the number stays.
    let open = service("open", "type: NodePort, ports: [{port: 80}]");
    plane.manifests("apply", &open);
    let port = || {
        plane.object("svc open")["spec"]["ports"][0]["nodePort"]
            .as_u64()
            .unwrap()
    };
    let first = port();
    assert!((20000..=40000).contains(&first), "{first}");
    let changed = open
        .replace("kind: Service", "kind: Service\n# again")
        .replace("a: b", "a: c");
    assert_eq!(
        plane.manifests("apply", &changed),
        "service \"open\" configured\n"
    );
    assert_eq!(port(), first);
}

#[test]
fn a_cluster_address_is_in_the_range_and_given_out_once() {
    let plane = Plane::start();
    plane.until("get svc kubernetes --no-headers", "10.68.0.1");
    plane.until("get ep kubernetes --no-headers", "127.0.0.1:");
    let with = |name: &str, address: &str| {
        let spec = format!("clusterIP: {address}, ports: [{{port: 53}}]");
        plane.manifests("create", &service(name, &spec))
    };
    assert_eq!(with("dns", "10.68.0.2"), "service \"dns\" created\n");
    let taken = with("other", "10.68.0.2");
    assert!(
        taken.contains("\"10.68.0.2\": provided IP is already allocated"),
        "{taken}"
    );
    let outside = with("other", "192.0.2.1");
    assert!(
        outside.contains("The range of valid IPs is 10.68.0.0/16"),
        "{outside}"
    );
    assert_eq!(with("none", "None"), "service \"none\" created\n");
    plane.manifests("create", &service("free", "ports: [{port: 53}]"));
    let address = plane.kubectl("get svc free -o jsonpath={.spec.clusterIP}");
    assert!(
        address.starts_with("10.68.") && address != "10.68.0.2",
        "{address}"
    );
}

#[test]
fn mistakes_are_refused_by_the_server() {
    let plane = Plane::start();
    let deployment = |version: &str, labels: &str, selector: &str| {
        format!(
            "apiVersion: {version}\nkind: Deployment\nmetadata: {{name: d}}\nspec:\n  template: \
             {{metadata: {{labels: {labels}}}, spec: {{containers: [{{name: c, image: i}}]}}}}\n  \
             {selector}\n"
        )
    };
    for (text, expected) in [
        (
            deployment("apps/v2", "{a: b}", ""),
            "no matches for apps/v2, Kind=Deployment",
        ),
        (
            deployment("apps/v1", "{a: b}", ""),
            "spec.selector: Required value",
        ),
        (
            deployment("apps/v1", "{a: b}", "selector: {matchLabels: {a: c}}"),
            "`selector` does not match template `labels`",
        ),
        (service("1a", "ports: [{port: 1}]"), "a DNS-1035 label must"),
        (service("a", "ports: []"), "spec.ports: Required value"),
        (
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: a.b}\n".to_owned(),
            "a DNS-1123 label must",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: none}\n".to_owned(),
            "namespaces \"none\" not found",
        ),
    ] {
        let said = plane.manifests("create", &text);
        assert!(said.contains(expected), "{text}: {said}");
    }
    let old = deployment("extensions/v1beta1", "{a: b}", "");
    assert_eq!(
        plane.manifests("create", &old),
        "deployment \"d\" created\n"
    );
}

#[test]
fn a_deployment_makes_pods_and_a_change_replaces_them() {
    let plane = Plane::start();
    plane.manifests("create", &node("n1", "True", ""));
    assert_eq!(
        plane.kubectl("run web --image=web:1 --port=80 --replicas=2"),
        "deployment \"web\" created\n"
    );
    let pods =
        || plane.kubectl("get pods -l run=web -o jsonpath={.items[*].spec.containers[0].image}");
    let image = |expected: &str| eventually(expected, || pods() == expected);
    image("web:1 web:1");
    plane.until("get pods -l run=web -o wide --no-headers", "n1");
    let owned = plane.object("pods -l run=web");
    assert_eq!(
        owned["items"][0]["metadata"]["ownerReferences"][0]["kind"],
        "ReplicaSet"
    );
    assert_eq!(
        plane.kubectl("scale deploy web --replicas=3"),
        "deployment \"web\" scaled\n"
    );
    image("web:1 web:1 web:1");
    let mut changed = plane.object("deploy web");
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "web:2".into();
    changed["spec"]["strategy"] = serde_json::json!({"type": "Recreate"});
    plane.manifests("apply", &changed.to_string());
    // No kubelet removes the old pods: they are only marked for deletion.
    eventually("the old pods are to end", || {
        let pods = plane.object("pods -l run=web");
        let ends = |pod: &serde_json::Value| pod["metadata"]["deletionTimestamp"].is_string();
        let items = pods["items"].as_array().unwrap();
        items.iter().filter(|pod| ends(pod)).count() == 3
    });
    for pod in plane
        .kubectl("get pods -l run=web -o jsonpath={.items[*].metadata.name}")
        .split(' ')
    {
        plane.kubectl(&format!("delete pod {pod} --grace-period=0 --force"));
    }
    image("web:2 web:2 web:2");
    assert_eq!(
        plane.kubectl("delete deploy web"),
        "deployment \"web\" deleted\n"
    );
    eventually("what belongs to the deployment goes", || {
        let pods = plane.object("pods -l run=web");
        let items = pods["items"].as_array().unwrap();
        items
            .iter()
            .all(|pod| pod["metadata"]["deletionTimestamp"].is_string())
            && plane.kubectl("get rs").contains("No resources found")
    });
}

#[test]
fn a_pod_that_fits_nowhere_says_why() {
    let plane = Plane::start();
    let master = "{key: node-role.kubernetes.io/master, effect: NoSchedule}";
    plane.manifests("create", &node("m", "True", master));
    plane.manifests("create", &node("x", "False", ""));
    let pod = |name: &str, spec: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, \
             image: i}}], {spec}}}\n"
        );
        plane.manifests("create", &text)
    };
    pod("lost", "");
    plane.until(
        "get pod lost -o jsonpath={.status.conditions[?(@.type==\"PodScheduled\")].message}",
        "0/2 nodes are available: 1 NodeNotReady, 1 PodToleratesNodeTaints.",
    );
    plane.until("describe pod lost", "FailedScheduling");
    pod("bold", "tolerations: [{operator: Exists}]");
    plane.until("get pod bold -o wide", " m");
    assert_eq!(
        plane.kubectl("taint nodes m node-role.kubernetes.io/master-"),
        "node \"m\" untainted\n"
    );
    plane.until("get pod lost -o wide", " m");
    plane.kubectl("cordon m");
    plane.until("get nodes", "Ready,SchedulingDisabled");
}

#[test]
fn daemons_are_on_every_node_they_may_be_on() {
    let plane = Plane::start();
    for name in ["a", "b"] {
        plane.manifests("create", &node(name, "True", ""));
    }
    plane.manifests("create", &node("c", "True", "{key: k, effect: NoSchedule}"));
    let set = "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: ds}\nspec:\n  selector: {matchLabels: \
               {a: b}}\n  template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}\n";
    assert_eq!(plane.manifests("create", set), "daemonset \"ds\" created\n");
    let on = || {
        let nodes = plane.kubectl("get pods -l a=b -o jsonpath={.items[*].spec.nodeName}");
        let mut nodes: Vec<String> = nodes.split_whitespace().map(str::to_owned).collect();
        nodes.sort();
        nodes
    };
    eventually("a pod on each", || on() == ["a", "b"]);
    plane.kubectl("delete node b");
    eventually("none on a node that is gone", || on() == ["a"]);
}

#[test]
fn a_token_of_an_account_is_taken_where_its_key_is_known() {
    let plane = Plane::start();
    let cluster = &plane.cluster;
    let secret = plane.kubectl("get sa default -o jsonpath={.secrets[0].name}");
    let secret = plane.object(&format!("secret {secret}"));
    let decode = |name: &str| {
        let text = secret["data"][name].as_str().unwrap();
        String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
    };
    let ca = fs::read_to_string(cluster.authority.certificate()).unwrap();
    assert_eq!(decode("ca.crt"), ca);
    let asks = |server: &str| {
        let token = decode("token");
        let kubeconfig = cluster.authority.token_kubeconfig(server, &token);
        said(&cluster.kubectl(&kubeconfig, &["get", "pods"]))
    };
    let known = asks(&cluster.server);
    assert!(
        known.contains("User \"system:serviceaccount:default:default\" cannot list pods"),
        "{known}"
    );
    // Another server of the same cluster, with another key.
    cluster.authority.issue("other", "k8s");
    let port = free_port();
    let _other = cluster.apiserver(&[
        flag("secure-port", port),
        file(
            "service-account-key-file",
            &cluster.authority.public_key("other"),
        ),
    ]);
    let unknown = asks(&format!("https://127.0.0.1:{port}"));
    assert!(unknown.contains("Unauthorized"), "{unknown}");
    // Without its account, a token is not valid.
    plane.kubectl("delete sa default");
    eventually("the token is refused", || {
        asks(&cluster.server).contains("Unauthorized")
    });
}

#[test]
fn a_namespace_goes_with_all_that_is_in_it() {
    let plane = Plane::start();
    assert_eq!(
        plane.kubectl("create namespace n"),
        "namespace \"n\" created\n"
    );
    let spec = "type: NodePort, ports: [{port: 80, nodePort: 20001}]";
    plane.manifests("create -n n", &service("s", spec));
    assert_eq!(plane.kubectl("delete ns n"), "namespace \"n\" deleted\n");
    assert!(plane.kubectl("get svc -n n").contains("No resources found"));
    assert_eq!(
        plane.manifests("create", &service("s", spec)),
        "service \"s\" created\n"
    );
    assert!(
        plane
            .kubectl("delete ns default")
            .contains("may not be deleted")
    );
}
