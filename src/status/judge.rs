//! What a node and the cluster around it lack, from the report on them.

use super::report::{Overall, Report};
use super::verdict::{Condition, Kind, Lack, Verdict};
use super::{MasterReport, NodeReport};
use crate::language::{message, tr};
use crate::observe::peers::PeerReport;

/// The state of a node that takes pods.
pub const READY: &str = "Ready";
/// The name of what a cluster lacks that no node can run pods in.
pub const NO_NODE: &str = message!("no node");
/// The words of a server that works.
const WORKS: &str = message!("healthy");

impl Report {
    /// The report with the verdict on all that it has.
    #[must_use]
    pub(super) fn judged(self) -> Report {
        if self.node.is_none() {
            return self;
        }
        let is_asked = self.nodes.is_some() || self.masters.is_some();
        let verdict = Verdict::of(of_node(&self), is_asked.then(|| of_cluster(&self)));
        let cluster = verdict.cluster.as_ref().map(|part| part.condition);
        let overall = match (verdict.node.condition, cluster) {
            (Condition::Healthy, None | Some(Condition::Healthy)) => Overall::Healthy,
            (Condition::Healthy, Some(_)) => Overall::ClusterNotReady,
            _ => Overall::Degraded,
        };
        Report {
            overall,
            verdict,
            ..self
        }
    }
}

/// Whether the BGP session works. One that does not may still come up.
pub fn is_peer_fine(one: &PeerReport) -> bool {
    one.problem.is_none() && one.peer.is_established()
}

/// Whether this master works.
pub fn is_master_fine(one: &MasterReport) -> bool {
    one.problem.is_none() && one.etcd == WORKS && one.api_server == WORKS
}

fn of_node(report: &Report) -> Vec<Lack> {
    let services = problems(Kind::Service, &report.services, |one| {
        let state = match one.state.split_once(' ') {
            Some(("active", _)) => message!("not healthy"),
            Some((state, _)) => state,
            None => &one.state,
        };
        (&one.name, Some(state), &one.problem)
    });
    let images = problems(Kind::Image, &report.images, |one| {
        (&one.reference, None, &one.problem)
    });
    let certificates = problems(Kind::Certificate, &report.certificates, |one| {
        (&one.name, None, &one.problem)
    });
    let storage = problems(Kind::Storage, &report.storage, |one| {
        (&one.name, Some(message!("nearly full")), &one.problem)
    });
    services
        .chain(images)
        .chain(certificates)
        .chain(storage)
        .collect()
}

/// Those that have a problem. `of` gives the name, the state if it says more than the problem, and the problem.
fn problems<'a, T>(
    kind: Kind,
    all: &'a [T],
    of: impl Fn(&'a T) -> (&'a String, Option<&'a str>, &'a Option<String>),
) -> impl Iterator<Item = Lack> {
    all.iter().filter_map(move |one| {
        let (name, state, problem) = of(one);
        let problem = problem.as_ref()?;
        let state = state.unwrap_or_else(|| clause(problem));
        Some(Lack::new(kind, name, state, Some(problem)))
    })
}

fn of_cluster(report: &Report) -> Vec<Lack> {
    let mut lacks = of_masters(report);
    if let Some(nodes) = &report.nodes {
        match &nodes.unknown {
            Some(_) => lacks.push(Lack::new(
                Kind::Cluster,
                message!("the API server"),
                message!("does not answer"),
                None,
            )),
            None => lacks.extend(of_nodes(&nodes.nodes, report)),
        }
    }
    let is_answered = report
        .nodes
        .as_ref()
        .is_some_and(|nodes| nodes.unknown.is_none());
    let addons = report
        .addons
        .iter()
        .filter(|one| is_answered && !one.available);
    lacks.extend(addons.map(|one| {
        let waiting = tr!("waiting: {why}", why = "");
        let state = one.state.trim_start_matches(&waiting);
        // That no node can run pods is one of the lacks already.
        let state = state
            .split_once(&tr!(" available"))
            .map_or(state, |(count, _)| count);
        Lack {
            since: one.since.clone(),
            ..Lack::new(Kind::AddOn, &one.name, state, one.problem.as_ref())
        }
    }));
    lacks.extend(problems(Kind::Peer, &report.peers, |one| {
        (&one.peer.address, Some(&one.peer.info), &one.problem)
    }));
    lacks
}

fn of_masters(report: &Report) -> Vec<Lack> {
    let Some(all) = &report.masters else {
        return Vec::new();
    };
    let whole = all.problem.as_ref().map(|problem| {
        let state = clause(problem).trim_start_matches("etcd ");
        Lack::new(Kind::Cluster, "etcd", state, Some(problem))
    });
    let single = all.masters.iter().filter(|one| one.problem.is_some());
    let single = single.map(|one| {
        let state = match one.etcd.as_str() {
            WORKS => tr!("API server {}", one.api_server),
            etcd => tr!("etcd {etcd}", etcd),
        };
        Lack::new(Kind::Master, &one.name, &state, one.problem.as_ref())
    });
    whole.into_iter().chain(single).collect()
}

fn of_nodes(nodes: &[NodeReport], report: &Report) -> Vec<Lack> {
    let away = nodes.iter().filter(|node| !node.ready);
    let away = away.map(|node| Lack {
        since: node.since.clone(),
        ..Lack::new(Kind::Node, &node.name, &node.state, node.problem.as_ref())
    });
    let mut lacks: Vec<Lack> = away.collect();
    // No worker has joined, or pods are kept away from all nodes.
    let waits = report.addons.iter().any(|addon| !addon.available);
    let is_open = nodes.iter().any(|node| node.state == READY);
    if nodes.is_empty() || (lacks.is_empty() && waits && !is_open) {
        lacks.push(Lack::new(
            Kind::Cluster,
            NO_NODE,
            message!("can run pods yet"),
            None,
        ));
    }
    lacks
}

/// The first clause of a problem: without the next step.
fn clause(problem: &str) -> &str {
    problem
        .split([';', ':', ',', '；', '：', '，'])
        .next()
        .unwrap_or(problem)
}
