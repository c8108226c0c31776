//! A network without a gateway: a node without a default route is still the gateway of every pod,
//! and reaches services itself.

use std::path::Path;
use std::process::{self, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::balance::until;
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

/// Runs the commands of a unit that come before its program.
fn prepare(namespace: &str, unit: &str) {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundle/templates/units");
    let unit = std::fs::read_to_string(units.join(unit)).unwrap();
    let unit = unit
        .replace("{{ cluster.service_cidr }}", "10.68.0.0/16")
        .replace("{{ node.address }}", NODE);
    let commands = unit.lines().filter_map(|line| {
        let command = line.strip_prefix("ExecStartPre=-/sbin/")?;
        Some(command.split(' ').collect::<Vec<_>>())
    });
    let mut count = 0;
    for command in commands {
        let output = inside(namespace, &command);
        // As systemd does, because of the hyphen, if there is nothing yet that it could delete.
        if !command.contains(&"-D") {
            done(&output);
        }
        count += 1;
    }
    assert!(count > 0);
}

impl Drop for Pair {
    fn drop(&mut self) {
        for namespace in [&self.node, &self.pod] {
            let delete = ["netns", "delete", namespace];
            let _ = Command::new("ip").args(delete).status();
        }
    }
}

/// A rule like kube-proxy's for a service, for programs in the node's own network.
fn translate(namespace: &str, service: &str) {
    let rule = format!(
        "iptables -t nat -A OUTPUT -d {service}/32 -p tcp --dport 443 -j DNAT --to-destination {NODE}:{CLOSED}"
    );
    done(&inside(namespace, &rule.split(' ').collect::<Vec<_>>()));
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
    prepare(&pair.node, "kube-calico.service");
    let after = connection(&pair.pod, NODE, CLOSED);
    assert!(after.contains("refused"), "{after}");
}

#[test]
fn a_node_reaches_services_though_it_has_no_default_route() {
    let pair = Pair::new();
    translate(&pair.node, "10.68.0.1");
    let before = connection(&pair.node, "10.68.0.1", 443);
    assert!(before.contains("unreachable"), "{before}");
    prepare(&pair.node, "kube-proxy.service");
    let after = connection(&pair.node, "10.68.0.1", 443);
    assert!(after.contains("refused"), "{after}");
}

#[test]
fn a_connection_that_begins_while_kube_proxy_has_no_rules_reaches_its_service() {
    let pair = Pair::new();
    let node = &pair.node;
    // The kernel follows connections as soon as there is a rule for any of them.
    translate(node, "10.68.0.2");
    for _ in 0..2 {
        prepare(node, "kube-proxy.service");
    }
    let connect = "exec 3<>/dev/tcp/10.68.0.1/443";
    let mut command = Command::new("ip");
    command.args([
        "netns", "exec", node, "timeout", "20", "bash", "-c", connect,
    ]);
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let rules = "iptables -t mangle -S POSTROUTING -v";
    let rules: Vec<&str> = rules.split(' ').collect();
    until("the first packet is dropped", || {
        let listed = said(&inside(node, &rules));
        let ours = listed
            .lines()
            .filter(|line| line.contains("appliance:services"));
        let ours: Vec<&str> = ours.collect();
        assert_eq!(ours.len(), 1, "{listed}");
        !ours[0].contains("-c 0 0")
    });
    translate(node, "10.68.0.1");
    let told = said(&child.wait_with_output().unwrap());
    assert!(told.contains("refused"), "{told}");
}
