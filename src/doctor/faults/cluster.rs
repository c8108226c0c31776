//! The object of this node in the cluster.

use crate::language::tr;

use super::super::facts::{Facts, NodeObject};
use super::super::{Fault, Seen, seen};
use super::cause;

#[rustfmt::skip]
pub const FAULTS: &[Fault] = &[
    cause("node-missing", "the object of this node in the cluster",
        "Somebody deleted the node from the cluster. The kubelet registers it again when it starts.",
        "systemctl restart kubelet", missing),
    cause("node-pressure", "the conditions of the node",
        "The kubelet has too little memory, disk or processes left, and ends pods.",
        "appliance status", pressure).explains(&["node-not-ready"]),
    cause("node-not-ready", "the conditions of the node",
        "The cluster takes the node for not ready. The kubelet's message says why.",
        "appliance logs kubelet", not_ready),
    cause("node-cordoned", "whether new pods are kept away",
        "Somebody cordoned the node, or a run that empties it was cut off. New pods do not come here.",
        "kubectl uncordon NAME", cordoned).notice(),
];

fn conditions(facts: &Facts) -> &[(String, String)] {
    match &facts.object {
        Some(NodeObject::Found { conditions, .. }) => conditions,
        Some(NodeObject::Missing) | None => &[],
    }
}

fn missing(facts: &Facts) -> Option<Seen> {
    let name = &facts.node.as_ref()?.name;
    let what = tr!("the cluster has no node {name}", name);
    (facts.object == Some(NodeObject::Missing)).then(|| Seen::of(what))
}

fn told((kind, message): &(String, String)) -> String {
    format!("{kind}: {message}")
}

fn pressure(facts: &Facts) -> Option<Seen> {
    seen(
        conditions(facts)
            .iter()
            .filter(|(kind, _)| kind != "Ready")
            .map(told),
    )
}

fn not_ready(facts: &Facts) -> Option<Seen> {
    seen(
        conditions(facts)
            .iter()
            .filter(|(kind, _)| kind == "Ready")
            .map(told),
    )
}

fn cordoned(facts: &Facts) -> Option<Seen> {
    let Some(NodeObject::Found { cordoned: true, .. }) = facts.object else {
        return None;
    };
    let name = &facts.node.as_ref()?.name;
    Some(Seen::of(tr!("{name} is cordoned", name)).mended_by(format!("kubectl uncordon {name}")))
}
