//! Every pod's gateway is answered for by its node, also in a network without a gateway of its own.

use std::path::Path;
use std::process::{Command, Output};

use crate::harness::said;

/// The node's own address.
const NODE: &str = "192.0.2.101";
/// The pod's.
const POD: &str = "172.20.0.5";

/// Two network namespaces that are gone afterwards: a node's, and that of a pod of it.
struct Pair {
    node: String,
    pod: String,
}

impl Pair {
    /// As Calico's plugin and Felix set them up: no default route, and the kernel answers for others.
    fn new() -> Pair {
        let name = |what: &str| format!("appliance-test-{what}-{}", std::process::id());
        let pair = Pair {
            node: name("node"),
            pod: name("pod"),
        };
        for namespace in [&pair.node, &pair.pod] {
            ip(&format!("netns add {namespace}"));
            ip(&format!("-n {namespace} link set lo up"));
        }
        let (node, pod) = (&pair.node, &pair.pod);
        ip(&format!(
            "-n {node} link add cali0 type veth peer name eth0 netns {pod}"
        ));
        ip(&format!("-n {node} link set cali0 up"));
        ip(&format!("-n {node} route add {POD}/32 dev cali0"));
        ip(&format!("-n {node} address add {NODE}/32 dev lo"));
        for setting in ["conf.all.forwarding", "conf.cali0.proxy_arp"] {
            let set = format!("net.ipv4.{setting}=1");
            done(&inside(node, &["sysctl", "--quiet", "--write", &set]));
        }
        ip(&format!("-n {pod} link set eth0 up"));
        ip(&format!("-n {pod} address add {POD}/32 dev eth0"));
        ip(&format!(
            "-n {pod} route add 169.254.1.1 dev eth0 scope link"
        ));
        ip(&format!("-n {pod} route add default via 169.254.1.1"));
        pair
    }

    /// What became of a connection from the pod to a port of the node that nobody listens at.
    fn connection(&self) -> String {
        let connect = format!("exec 3<>/dev/tcp/{NODE}/9");
        let output = inside(&self.pod, &["timeout", "20", "bash", "-c", &connect]);
        assert!(!output.status.success());
        said(&output)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for namespace in [&self.node, &self.pod] {
            let delete = ["netns", "delete", namespace];
            let _ = Command::new("ip").args(delete).status();
        }
    }
}

fn ip(words: &str) {
    done(&Command::new("ip").args(words.split(' ')).output().unwrap());
}

fn inside(namespace: &str, command: &[&str]) -> Output {
    let mut whole = Command::new("ip");
    whole.args(["netns", "exec", namespace]).args(command);
    whole.output().unwrap()
}

fn done(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

#[test]
fn a_pod_reaches_its_gateway_though_its_node_has_no_default_route() {
    let unit =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("bundle/templates/units/kube-calico.service");
    let unit = std::fs::read_to_string(unit).unwrap();
    let route = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStartPre=-/sbin/ip "));
    let pair = Pair::new();
    let before = pair.connection();
    assert!(!before.contains("refused"), "{before}");
    ip(&format!("-n {} {}", pair.node, route.unwrap()));
    let after = pair.connection();
    assert!(after.contains("refused"), "{after}");
}
