//! A network without a gateway: a node without a default route is still the gateway of every pod,
//! and reaches services itself.

use std::path::Path;
use std::process::{self, Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::said;

/// The node's own address.
const NODE: &str = "192.0.2.101";
/// The pod's.
const POD: &str = "172.20.0.5";
/// A port of the node without a listener.
const CLOSED: u16 = 9;

/// Two network namespaces, which are removed afterwards: that of a node, and that of one of its
/// pods.
struct Pair {
    node: String,
    pod: String,
}

impl Pair {
    /// The settings of Calico's plugin and Felix: no default route, and the kernel answers ARP
    /// requests for other addresses.
    fn new() -> Pair {
        static PAIRS: AtomicUsize = AtomicUsize::new(0);
        let id = format!(
            "{}-{}",
            process::id(),
            PAIRS.fetch_add(1, Ordering::Relaxed)
        );
        let name = |what: &str| format!("appliance-test-{what}-{id}");
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
}

/// The result of a connection to a port without a listener.
fn connection(from: &str, address: &str, port: u16) -> String {
    let connect = format!("exec 3<>/dev/tcp/{address}/{port}");
    let output = inside(from, &["timeout", "20", "bash", "-c", &connect]);
    assert!(!output.status.success());
    said(&output)
}

/// The `ip` commands of a unit before it starts its program.
fn route(unit: &str) -> String {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundle/templates/units");
    let unit = std::fs::read_to_string(units.join(unit)).unwrap();
    let mut lines = unit.lines();
    let route = lines.find_map(|line| line.strip_prefix("ExecStartPre=-/sbin/ip "));
    route
        .unwrap()
        .replace("{{ cluster.service_cidr }}", "10.68.0.0/16")
        .replace("{{ node.address }}", NODE)
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
    let pair = Pair::new();
    let before = connection(&pair.pod, NODE, CLOSED);
    assert!(!before.contains("refused"), "{before}");
    ip(&format!(
        "-n {} {}",
        pair.node,
        route("kube-calico.service")
    ));
    let after = connection(&pair.pod, NODE, CLOSED);
    assert!(after.contains("refused"), "{after}");
}

#[test]
fn a_node_reaches_services_though_it_has_no_default_route() {
    let pair = Pair::new();
    // Like kube-proxy's rule for the API server.
    let rule = format!(
        "iptables -t nat -A OUTPUT -d 10.68.0.1/32 -p tcp --dport 443 \
         -j DNAT --to-destination {NODE}:{CLOSED}"
    );
    let rule: Vec<&str> = rule.split(' ').collect();
    done(&inside(&pair.node, &rule));
    let before = connection(&pair.node, "10.68.0.1", 443);
    assert!(before.contains("unreachable"), "{before}");
    ip(&format!("-n {} {}", pair.node, route("kube-proxy.service")));
    let after = connection(&pair.node, "10.68.0.1", 443);
    assert!(after.contains("refused"), "{after}");
}
