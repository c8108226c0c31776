//! Section 2.1: the kubelet.

use super::{Flag, Item, Program, Rule, SERVING_GATE, SERVING_GATE_WHY, Section};

const fn kubelet(name: &'static str) -> Flag {
    super::flag(Program::Kubelet, name)
}

const fn kubelet_or(name: &'static str, default: &'static str) -> Flag {
    super::with_default(Program::Kubelet, name, default)
}

const GATES: Flag = kubelet("--feature-gates");
const IDLE: Flag = kubelet_or("--streaming-connection-idle-timeout", "4h0m0s");

pub const SECTION: Section = Section {
    number: "2.1",
    title: "Kubelet",
    items: ITEMS,
};

const ITEMS: &[Item] = &[
    Item::new(
        "2.1.1",
        "it runs no privileged containers",
        Rule::Is(kubelet_or("--allow-privileged", "false"), "false"),
    )
    .differs(
        Rule::Is(kubelet("--allow-privileged"), "true"),
        "pods for storage, networks and monitoring need it. `podSecurityPolicy: on` says who may start such pods. \
         Later versions of the benchmark dropped this item",
    ),
    Item::new(
        "2.1.2",
        "requests without credentials are refused",
        Rule::Is(kubelet_or("--anonymous-auth", "true"), "false"),
    ),
    Item::new(
        "2.1.3",
        "not every request is allowed",
        Rule::Lacks(
            kubelet_or("--authorization-mode", "AlwaysAllow"),
            "AlwaysAllow",
        ),
    ),
    Item::new(
        "2.1.4",
        "the certificates of clients are checked",
        Rule::Set(&[kubelet("--client-ca-file")]),
    ),
    Item::new(
        "2.1.5",
        "the port without credentials is off",
        Rule::Is(kubelet_or("--read-only-port", "10255"), "0"),
    ),
    Item::new(
        "2.1.6",
        "an idle connection to a container ends some day",
        Rule::All(&[Rule::IsNot(IDLE, "0"), Rule::IsNot(IDLE, "0s")]),
    ),
    Item::new(
        "2.1.7",
        "it does not change kernel settings",
        Rule::Is(kubelet_or("--protect-kernel-defaults", "false"), "true"),
    ),
    Item::new(
        "2.1.8",
        "it keeps its chains of iptables",
        Rule::Is(kubelet_or("--make-iptables-util-chains", "true"), "true"),
    ),
    Item::new(
        "2.1.9",
        "volumes of pods that ended are unmounted",
        Rule::Is(
            kubelet_or("--keep-terminated-pod-volumes", "false"),
            "false",
        ),
    ),
    Item::new(
        "2.1.10",
        "the node has the name of its host",
        Rule::Unset(kubelet("--hostname-override")),
    )
    .differs(
        Rule::Set(&[kubelet("--hostname-override")]),
        "the name comes from the setting `nodeName`, else from the host. The certificates carry the same name, and \
         a master gives a name to one node only, so the flag cannot take another node's place",
    ),
    Item::new(
        "2.1.11",
        "it sends all events",
        Rule::Is(kubelet_or("--event-qps", "5"), "0"),
    ),
    Item::new(
        "2.1.12",
        "it has a certificate for TLS",
        Rule::Set(&[kubelet("--tls-cert-file"), kubelet("--tls-private-key-file")]),
    ),
    Item::new(
        "2.1.13",
        "the port of cAdvisor is off",
        Rule::Is(kubelet_or("--cadvisor-port", "4194"), "0"),
    ),
    Item::new(
        "2.1.14",
        "it renews its client certificate",
        Rule::All(&[
            Rule::Is(kubelet_or("--rotate-certificates", "false"), "true"),
            Rule::Lacks(GATES, "RotateKubeletClientCertificate=false"),
        ]),
    ),
    Item::new(
        "2.1.15",
        "it gets its TLS certificate from the cluster",
        Rule::Holds(GATES, SERVING_GATE),
    )
    .differs(Rule::Lacks(GATES, SERVING_GATE), SERVING_GATE_WHY),
];
