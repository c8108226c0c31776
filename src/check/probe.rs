//! Sends requests to the probes in their pods.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::blocking::Client;
use serde::de::DeserializeOwned;

use super::facts::{Answer, CheckedNode, Found, Pair, Probes, told};
use super::serve::Health;
use crate::language::tr;
use crate::records::expected::Expected;
use crate::sys::{http, parallel};

/// The port of a probe in its pod, for HTTP and UDP.
pub const PORT: u16 = 8080;
/// To how many others a probe sends.
const MOST_OTHERS: usize = 8;
/// How many probes work at once.
const AT_ONCE: usize = 16;
/// How long a connection to a probe may take.
const REACH: Duration = Duration::from_secs(3);
/// How long a probe may take to answer: it waits for other servers itself.
const ANSWER: Duration = Duration::from_secs(80);

/// A probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// The node it runs on.
    pub node: CheckedNode,
    /// Its address.
    pub ip: Ipv4Addr,
}

/// The node ports of the services in front of the probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodePorts {
    /// The port of the service that any probe answers.
    pub any: u16,
    /// The port of the service that only the probe of the same node answers.
    pub local: u16,
}

/// How to reach a probe: at its own address, or at its node's address.
struct Way {
    client: Client,
    base: String,
}

impl Way {
    fn ask<T: DeserializeOwned>(&self, question: &str) -> Result<T> {
        let url = format!("{}{question}", self.base);
        let answer = self
            .client
            .get(url)
            .send()
            .map_err(|e| http::root_cause(&e))?;
        ensure!(
            answer.status().is_success(),
            tr!("the probe answers {}", answer.status())
        );
        let answer = answer.bytes().map_err(|e| http::root_cause(&e))?;
        serde_json::from_slice(&answer).context(tr!("the answer of the probe is not valid JSON"))
    }
}

/// The probes of a cluster.
pub struct Probed<'a> {
    /// The probes, one on each node.
    pub pods: &'a [Pod],
    /// The node ports of their services.
    pub ports: NodePorts,
    /// The nodes at whose addresses the service has to answer.
    pub nodes: &'a [CheckedNode],
    /// This master.
    pub here: &'a CheckedNode,
}

/// What one probe found.
struct Round {
    dns: Answer<Vec<String>>,
    metadata: Answer<bool>,
    /// The connections from its node to others, and from this master to it.
    pairs: Vec<Pair>,
}

/// Sends every request to every probe.
pub fn ask(cluster: &Probed<'_>, expected: &Expected) -> Result<Probes> {
    let mut probes = Probes {
        pods: cluster.pods.iter().map(|pod| pod.node.clone()).collect(),
        ..Probes::default()
    };
    // A probe waits for connections that never come: they do so at the same time.
    let indices: Vec<usize> = (0..cluster.pods.len()).collect();
    let rounds = parallel::map(&indices, AT_ONCE, |index| cluster.round(*index, expected));
    for round in rounds {
        probes.dns.push(round.dns);
        probes.metadata.push(round.metadata);
        probes.pairs.extend(round.pairs);
    }
    for node in cluster.nodes {
        let at = format!("{}:{}", node.address, cluster.ports.any);
        probes.node_ports.push(Answer {
            node: at.clone(),
            found: told(reach(&format!("http://{at}")).map(drop)),
        });
    }
    Ok(probes)
}

impl Probed<'_> {
    fn round(&self, index: usize, expected: &Expected) -> Round {
        let pod = &self.pods[index];
        let (way, direct) = way(pod, self.ports);
        let way = way.map_err(|error| {
            tr!(
                "cannot reach the probe: {error}",
                error = format_args!("{error:#}")
            )
        });
        let mut pairs = Vec::new();
        // A master has the same way to pods as nodes have: the API server uses it for proxies.
        if pod.node.name != self.here.name {
            pairs.push(Pair {
                from: self.here.clone(),
                to: pod.node.clone(),
                connected: direct,
                passes: None,
            });
        }
        pairs.extend(self.others(index).map(|(nearest, other)| {
            let to = SocketAddr::from((other.ip, PORT));
            let connected = put(&way, &format!("/connect?to={to}"));
            let measure = nearest && connected.is_ok();
            Pair {
                from: pod.node.clone(),
                to: other.node.clone(),
                passes: measure
                    .then(|| put(&way, &format!("/mtu?to={to}&mtu={}", expected.pod_mtu))),
                connected,
            }
        }));
        let name = format!("kubernetes.default.svc.{}", expected.domain);
        Round {
            dns: Answer {
                node: pod.node.name.clone(),
                found: put(&way, &format!("/dns?name={name}")),
            },
            metadata: Answer {
                node: pod.node.name.clone(),
                found: way
                    .as_ref()
                    .map_err(Clone::clone)
                    .and_then(|way| told(way.ask("/metadata"))),
            },
            pairs,
        }
    }

    /// The probes to which this one sends: all others, or its next ones in a circle, so that each node
    /// sends and receives. The first one is the nearest, to which the path is measured.
    fn others(&self, index: usize) -> impl Iterator<Item = (bool, &Pod)> {
        let count = self.pods.len();
        let next = (1..count).take(MOST_OTHERS);
        next.map(move |step| (step == 1, &self.pods[(index + step) % count]))
    }
}

/// Sends a request whose answer may itself be an error.
fn put<T: DeserializeOwned>(way: &Found<Way>, question: &str) -> Found<T> {
    let way = way.as_ref().map_err(Clone::clone)?;
    told(way.ask::<Found<T>>(question))?
}

/// Finds how to reach the probe of a pod: directly, or through its node if the network drops
/// packets to the pod; and whether it is reached directly.
fn way(pod: &Pod, ports: NodePorts) -> (Result<Way>, Found<()>) {
    let direct = way_at(pod, format!("http://{}:{PORT}", pod.ip));
    let reached = direct.as_ref().map(drop);
    let reached = reached.map_err(|error| format!("{error:#}"));
    if direct.is_ok() {
        return (direct, reached);
    }
    let through_node = format!("http://{}:{}", pod.node.address, ports.local);
    (way_at(pod, through_node), reached)
}

fn way_at(pod: &Pod, base: String) -> Result<Way> {
    let health = reach(&base).with_context(|| base.clone())?;
    ensure!(
        health.node == pod.node.name,
        tr!("the probe on {} answers at {base}", health.node, base)
    );
    let client = http::client(&[], None, ANSWER)?;
    Ok(Way { client, base })
}

/// The probe that answers at `base`.
fn reach(base: &str) -> Result<Health> {
    let way = Way {
        client: http::client(&[], None, REACH)?,
        base: base.to_owned(),
    };
    way.ask("/healthz")
}
