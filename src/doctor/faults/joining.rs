//! A node that does not get into its cluster: what the journal of its installation says.

use super::super::facts::Facts;
use super::super::{Fault, Seen};
use super::{cause, shortened};

/// What follows if a node does not join.
const FOLLOWS: &[&str] = &[
    "installation-failed",
    "run-waits",
    "other-service-down",
    "certificate-missing",
    "kubelet-down",
    "calico-down",
    "kube-proxy-down",
];

#[rustfmt::skip]
pub const FAULTS: &[Fault] = &[
    cause("token-refused", "the end of the journal of the installation",
        "The join token of this node has expired, was revoked, or was used as often as it may be. Make one on a master, and put it into /etc/appliance/config.yaml here as `join: {token: …}`.",
        "appliance token create", token).explains(FOLLOWS),
    cause("token-differs", "the end of the journal of the installation",
        "The token of this node is not the master's: its secret was mistyped, or the user-data is that of another cluster. Another machine between both is possible, too.",
        "appliance token create", differs).explains(FOLLOWS),
    cause("master-not-reached", "the end of the journal of the installation",
        "The master is off, or the security group drops TCP 6444, or no token can be used there: then its join service does not run.",
        "appliance logs install", not_reached).explains(FOLLOWS),
    cause("name-taken", "the end of the journal of the installation",
        "Another machine of this name is in the cluster. The node waits until the cluster has not heard of that one for five minutes.",
        "kubectl delete node NAME", name_taken).explains(FOLLOWS),
    cause("authority-differs", "the end of the journal of the installation",
        "The master has another certificate authority than this node: it was installed anew, or is another cluster's.",
        "mv /etc/kubernetes/ca /etc/kubernetes/ca.old && appliance install", authority).explains(&["installation-failed", "run-waits", "certificate-foreign"]),
];

/// The newest line that has one of these words, unless the node has joined since.
fn line<'a>(facts: &'a Facts, words: &[&str]) -> Option<&'a str> {
    let waits = facts.runs.active.is_some() || facts.node.is_none();
    let lines = facts.install_log.iter().rev().map(String::as_str);
    let mut lines =
        lines.filter(|_| waits || facts.runs.boot != super::super::facts::Boot::Unknown);
    lines.find(|line| words.iter().any(|word| line.contains(word)))
}

fn told(facts: &Facts, words: &[&str]) -> Option<Seen> {
    line(facts, words).map(|line| Seen::of(shortened(line)))
}

fn token(facts: &Facts) -> Option<Seen> {
    let line = line(
        facts,
        &[
            "has expired",
            "was revoked",
            "was used as often as it may be",
            "is not known here",
        ],
    )?;
    line.contains("token ").then(|| Seen::of(shortened(line)))
}

fn differs(facts: &Facts) -> Option<Seen> {
    told(facts, &["does not prove that it knows token"])
}

fn not_reached(facts: &Facts) -> Option<Seen> {
    // What came later counts: the master may have answered since.
    let last = line(facts, &["cannot reach ", " refuses: ", "does not prove"])?;
    last.contains("cannot reach ")
        .then(|| Seen::of(shortened(last)).likely())
}

fn name_taken(facts: &Facts) -> Option<Seen> {
    let line = line(facts, &[" is in the cluster"])?;
    let (_, rest) = line.split_once("a node ")?;
    let name = rest.split(' ').next()?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let is_safe = !name.is_empty() && !name.starts_with('-') && name.bytes().all(is_name);
    is_safe.then(|| Seen::of(shortened(line)).mended_by(format!("kubectl delete node {name}")))
}

fn authority(facts: &Facts) -> Option<Seen> {
    told(
        facts,
        &[
            "another certificate authority",
            "are not signed by the newest authority",
            "do not trust each other's certificates",
        ],
    )
}
