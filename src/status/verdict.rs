//! The verdict on a node and on the cluster around it, with what each of them lacks.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::language::{tr, translated};
use crate::sys::clock::age;

/// How many things are named in one line.
const NAMED: usize = 3;
/// Whether the node, and the cluster, can be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Both in words: `node healthy; cluster not yet: kube-dns 0 of 1 (2 min)`.
    pub words: String,
    /// The node: services, images, certificates and room.
    pub node: Part,
    /// The cluster as this node sees it: nodes, add-ons, workloads, masters, BGP sessions; `null` if it was not asked.
    pub cluster: Option<Part>,
}

/// The verdict on one of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// Whether it can be used.
    pub condition: Condition,
    /// What it lacks, problems first.
    pub lacks: Vec<Lack>,
}

/// Whether it can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// It lacks nothing.
    Healthy,
    /// What it lacks can still come up by itself.
    NotYet,
    /// It has a problem.
    Degraded,
}

/// Something that does not work, or not yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lack {
    /// What kind of thing it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its state, in a few words.
    pub state: String,
    /// Since when (RFC 3339), if that is known.
    pub since: Option<String>,
    /// The problem; `null` while it can still come up by itself.
    pub problem: Option<String>,
}

/// The kinds of things that can be lacking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A service of the node.
    Service,
    /// An image in its docker.
    Image,
    /// A certificate of it.
    Certificate,
    /// A file system, or etcd's database.
    Storage,
    /// The cluster as a whole: its API server, its etcd, or nodes for its pods.
    Cluster,
    /// A node of Kubernetes.
    Node,
    /// An add-on or a workload.
    AddOn,
    /// One of several masters, or their etcd.
    Master,
    /// A BGP session.
    Peer,
}

impl Default for Verdict {
    /// The verdict on a machine that is no node.
    fn default() -> Verdict {
        Verdict {
            words: tr!("this machine is not installed"),
            node: Part {
                condition: Condition::Degraded,
                lacks: Vec::new(),
            },
            cluster: None,
        }
    }
}

impl Verdict {
    /// The verdict on a node that lacks these, in a cluster that lacks those; `None` if the cluster was not asked.
    pub(super) fn of(node: Vec<Lack>, cluster: Option<Vec<Lack>>) -> Verdict {
        let (node, cluster) = (Part::of(node), cluster.map(Part::of));
        Verdict {
            words: words(&node, cluster.as_ref(), OffsetDateTime::now_utc()),
            node,
            cluster,
        }
    }
}

impl Part {
    fn of(mut lacks: Vec<Lack>) -> Part {
        lacks.sort_by_key(|lack| lack.problem.is_none());
        let condition = match lacks.first() {
            None => Condition::Healthy,
            Some(first) if first.problem.is_some() => Condition::Degraded,
            Some(_) => Condition::NotYet,
        };
        Part { condition, lacks }
    }
}

impl Lack {
    pub(super) fn new(kind: Kind, name: &str, state: &str, problem: Option<&String>) -> Lack {
        Lack {
            kind,
            name: name.to_owned(),
            state: state.to_owned(),
            since: None,
            problem: problem.cloned(),
        }
    }

    /// It in a few words, without its age: `kube-dns 0 of 1`, `node server01 NotReady`.
    pub fn words(&self) -> String {
        let kind = match self.kind {
            Kind::Node => tr!("node "),
            Kind::Master => tr!("master "),
            Kind::Peer => tr!("BGP peer "),
            Kind::Image => tr!("image "),
            Kind::Certificate => tr!("certificate "),
            Kind::Service | Kind::Storage | Kind::Cluster | Kind::AddOn => String::new(),
        };
        let name = match self.kind {
            Kind::Cluster => translated(&self.name),
            // A name of the operator may be a word of the catalogue.
            _ => self.name.clone(),
        };
        format!("{kind}{name} {}", translated(&self.state))
    }
}

fn words(node: &Part, cluster: Option<&Part>, now: OffsetDateTime) -> String {
    let node = match node.condition {
        Condition::Healthy => tr!("node healthy"),
        _ => tr!("node NOT healthy: {}", named(&node.lacks, now)),
    };
    let cluster = cluster.map(|part| match part.condition {
        Condition::Healthy => tr!("cluster ready"),
        Condition::NotYet => tr!("cluster not yet: {}", named(&part.lacks, now)),
        Condition::Degraded => tr!("cluster NOT ready: {}", named(&part.lacks, now)),
    });
    [Some(node), cluster]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("; ")
}

/// The first of them, with their ages, and how many more there are.
fn named(lacks: &[Lack], now: OffsetDateTime) -> String {
    let aged = |lack: &Lack| {
        let since = lack.since.as_deref();
        let since = since.and_then(|since| OffsetDateTime::parse(since, &Rfc3339).ok());
        // The clock of the API server may be ahead.
        let age = since
            .and_then(|since| Duration::try_from(now - since).ok())
            .map(age);
        age.map_or_else(|| lack.words(), |age| format!("{} ({age})", lack.words()))
    };
    listed(&lacks.iter().map(aged).collect::<Vec<_>>())
}

/// The first of them, and how many others there are.
pub(super) fn listed(all: &[String]) -> String {
    match all.len().saturating_sub(NAMED) {
        0 => all.join(", "),
        // `and 1 other` is hardly shorter than its name.
        1 => all.join(", "),
        others => tr!("{} and {others} others", all[..NAMED].join(", "), others),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn lack(kind: Kind, name: &str, state: &str, since: Option<&str>) -> Lack {
        Lack {
            since: since.map(str::to_owned),
            ..Lack::new(kind, name, state, None)
        }
    }

    #[test]
    fn both_are_told_in_one_line_with_ages() {
        let now = OffsetDateTime::parse("2026-11-30T10:02:30Z", &Rfc3339).unwrap();
        let healthy = Part::of(Vec::new());
        let dns = lack(
            Kind::AddOn,
            "kube-dns",
            "0 of 1",
            Some("2026-11-30T10:00:00Z"),
        );
        let waiting = Part::of(vec![dns.clone()]);
        assert_eq!(
            words(&healthy, Some(&waiting), now),
            "node healthy; cluster not yet: kube-dns 0 of 1 (2 min)"
        );
        assert_eq!(
            words(&healthy, Some(&healthy), now),
            "node healthy; cluster ready"
        );
        assert_eq!(words(&healthy, None, now), "node healthy");
        let problem = Lack {
            problem: Some("see its journal".to_owned()),
            ..lack(
                Kind::Node,
                "server07",
                "NotReady",
                Some("2026-11-27T10:00:00Z"),
            )
        };
        let broken = Part::of(vec![dns, problem]);
        assert_eq!(broken.condition, Condition::Degraded);
        assert_eq!(
            words(&healthy, Some(&broken), now),
            "node healthy; cluster NOT ready: node server07 NotReady (3 days), kube-dns 0 of 1 (2 min)"
        );
    }

    #[test]
    fn of_many_the_first_are_named_and_the_others_counted() {
        let all = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(listed(&all(4)), "0, 1, 2, 3");
        assert_eq!(listed(&all(9)), "0, 1, 2 and 6 others");
    }
}
