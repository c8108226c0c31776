//! The CNI plugins, called like the kubelet calls them.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::harness::{eventually, said, sim};
use crate::lab::{self, Lab, fetch, inside};

/// A pod's namespace on a node.
pub struct Pod<'a> {
    lab: &'a Lab,
    node: u8,
    pub namespace: String,
    name: String,
    pub configuration: Value,
}

impl<'a> Pod<'a> {
    /// A pod that is not connected yet.
    pub fn new(lab: &'a Lab, namespace: String, node: u8, endpoints: &str, name: &str) -> Self {
        for plugin in ["calico", "calico-ipam", "loopback"] {
            sim(lab.directory.path(), plugin);
        }
        let configuration = json!({
            "name": "calico-k8s-network", "cniVersion": "0.1.0", "type": "calico",
            "nodename": lab.name(node), "mtu": 1410, "log_level": "info",
            "etcd_endpoints": endpoints, "ipam": {"type": "calico-ipam"},
        });
        Self {
            lab,
            node,
            namespace,
            name: name.to_owned(),
            configuration,
        }
    }

    /// Calls a plugin with a command of the protocol.
    pub fn call(&self, plugin: &str, command: &str) -> Output {
        let path = sim(self.lab.directory.path(), plugin);
        let mut call = self.lab.on(self.node, path.to_str().unwrap());
        let arguments = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={0};\
             K8S_POD_INFRA_CONTAINER_ID={0}",
            self.name
        );
        let mut child = call
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", &self.name)
            .env("CNI_NETNS", self.file())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", path.parent().unwrap())
            .env("CNI_ARGS", arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let text = self.configuration.to_string();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        child.wait_with_output().unwrap()
    }

    fn file(&self) -> PathBuf {
        PathBuf::from("/var/run/netns").join(&self.namespace)
    }

    /// Connects the pod; returns its address.
    pub fn connect(&self) -> String {
        let output = self.call("loopback", "ADD");
        assert!(output.status.success(), "{}", said(&output));
        let output = self.call("calico", "ADD");
        assert!(output.status.success(), "{}", said(&output));
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        let address = result["ip4"]["ip"].as_str().unwrap();
        address.strip_suffix("/32").unwrap().to_owned()
    }

    /// The output of `ip` in the pod.
    pub fn ip(&self, words: &str) -> String {
        lab::succeeds(inside(&self.namespace, "ip").args(words.split_whitespace()))
    }
}

/// Starts one of the example services in a namespace.
pub fn serve(lab: &Lab, namespace: &str, name: &str) -> crate::harness::Running {
    let program = sim(lab.directory.path(), name);
    let mut command = inside(namespace, program.to_str().unwrap());
    crate::harness::Running::start(command.env("PORT", "8080"))
}

/// The blocks in etcd.
fn blocks(lab: &Lab, endpoints: &str) -> String {
    let path = format!("{endpoints}/v2/keys/calico/ipam/v2/assignment/ipv4/block?recursive=true");
    lab.fetch(1, path.trim_start_matches("http://")).unwrap()
}

#[test]
fn a_pod_reaches_one_on_another_node_and_leaves_nothing_behind() {
    if !lab::is_possible() {
        return;
    }
    let mut lab = Lab::new(2);
    let (one, two) = (lab.add("pod-one"), lab.add("pod-two"));
    let (_etcd, endpoints) = lab.etcd(1);
    let _nodes = [1, 2].map(|node| lab.calico_node(node, &endpoints, &[]));
    let one = Pod::new(&lab, one, 1, &endpoints, "one");
    let two = Pod::new(&lab, two, 2, &endpoints, "two");
    let (first, second) = (one.connect(), two.connect());
    assert_ne!(first, second);
    assert!(one.ip("link show eth0").contains("mtu 1410"));
    assert!(one.ip("route").contains("default via 169.254.1.1 dev eth0"));
    let routes = lab::succeeds(lab.on(1, "ip").arg("route"));
    assert!(routes.contains(&format!("{first} dev cali")), "{routes}");

    let _service = serve(&lab, &two.namespace, "user-service");
    let place = format!("{second}:8080");
    eventually("the other pod", || {
        fetch(&one.namespace, &place).is_some_and(|found| found == "user-service\n")
    });
    // A node reaches its own pods and those of others.
    lab.until_answers(1, &place, "user-service");
    lab.until_answers(2, &place, "user-service");

    for _ in 0..2 {
        let deleted = one.call("calico", "DEL");
        assert!(deleted.status.success(), "{}", said(&deleted));
    }
    let left = lab::succeeds(lab.on(1, "ip").args(["route"]));
    assert!(!left.contains(&format!("{first} dev cali")), "{left}");
    let blocks = blocks(&lab, &endpoints);
    assert!(blocks.contains("calico-k8s-network.two"), "{blocks}");
    assert!(!blocks.contains("calico-k8s-network.one"), "{blocks}");
}

#[test]
fn the_newer_protocol_has_its_own_result_and_errors_are_json() {
    if !lab::is_possible() {
        return;
    }
    let mut lab = Lab::new(1);
    let pod = lab.add("pod");
    let (_etcd, endpoints) = lab.etcd(1);
    let _node = lab.calico_node(1, &endpoints, &[]);
    let mut pod = Pod::new(&lab, pod, 1, &endpoints, "one");
    pod.configuration["cniVersion"] = json!("0.3.1");
    let output = pod.call("calico", "ADD");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["ips"][0]["version"], "4", "{}", said(&output));
    assert_eq!(result["interfaces"][1]["name"], "eth0");

    let refused = |pod: &Pod<'_>| {
        let output = pod.call("calico", "ADD");
        assert_eq!(output.status.code(), Some(1));
        let error: Value = serde_json::from_slice(&output.stdout).unwrap();
        format!("{} {}", error["code"], error["msg"].as_str().unwrap())
    };
    // The interface of another pod exists already, and the new address is released.
    let other = Pod::new(&lab, pod.namespace.clone(), 1, &endpoints, "other");
    let text = refused(&other);
    assert!(
        text.starts_with("100 ") && text.contains("exists"),
        "{text}"
    );
    let kept = blocks(&lab, &endpoints);
    assert!(!kept.contains("calico-k8s-network.other"), "{kept}");
    pod.configuration
        .as_object_mut()
        .unwrap()
        .remove("nodename");
    assert!(refused(&pod).starts_with("7 nodename is missing"));
    pod.configuration["hostname"] = json!("a");
    assert_eq!(refused(&pod), "2 unknown key \"hostname\"");
}

#[test]
fn a_plugin_tells_its_versions() {
    let output = crate::harness::command("calico")
        .env("CNI_COMMAND", "VERSION")
        .output()
        .unwrap();
    let versions: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        versions["supportedVersions"],
        json!(["0.1.0", "0.2.0", "0.3.0", "0.3.1"])
    );
    let output: Output = Command::new(env!("CARGO_BIN_EXE_sim"))
        .env_remove("CNI_COMMAND")
        .output()
        .unwrap();
    assert!(!output.status.success());
}
