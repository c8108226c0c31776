//! The kernel modules and settings of a node.

use crate::nodespec::{Ipip, NodeSpec};

const MODULES: &[&str] = &[
    "br_netfilter",
    "ip_tables",
    "ip6_tables",
    "ip_set",
    "xt_set",
    "xt_mark",
    "xt_addrtype",
    "xt_multiport",
    "ipt_rpfilter",
    "ipt_REJECT",
    "nf_conntrack_netlink",
];
/// The module of Calico's tunnels.
const TUNNEL: &str = "ipip";

/// What the kubelet v1.9 requires of the kernel: with `--protect-kernel-defaults` it does not start if one
/// differs. Without the flag, it sets them itself.
const KUBELET: &[(&str, &str)] = &[
    ("vm.overcommit_memory", "1"),
    ("vm.panic_on_oom", "0"),
    ("kernel.panic", "10"),
    ("kernel.panic_on_oops", "1"),
    ("kernel.keys.root_maxkeys", "1000000"),
    ("kernel.keys.root_maxbytes", "25000000"),
];

/// The modules, in the order in which they are loaded.
pub fn modules(ipip: Ipip) -> Vec<String> {
    let tunnel = (ipip != Ipip::Off).then_some(TUNNEL);
    let all = MODULES.iter().copied().chain(tunnel);
    all.map(str::to_owned).collect()
}

/// The settings: key with dots, value.
pub fn settings(spec: &NodeSpec) -> Vec<(String, String)> {
    let ports = spec.cluster.node_ports.to_string();
    let network = [
        ("net.ipv4.ip_forward", "1"),
        ("net.bridge.bridge-nf-call-iptables", "1"),
        ("net.bridge.bridge-nf-call-ip6tables", "1"),
        // Felix exits where this is 2, the default of newer distributions.
        ("net.ipv4.conf.all.rp_filter", "1"),
        // A node port that is in use as an ephemeral port cannot be opened.
        ("net.ipv4.ip_local_reserved_ports", &ports),
    ];
    let kubelet = KUBELET.iter().filter(|_| spec.role.is_worker());
    let all = network.iter().chain(kubelet);
    all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}
