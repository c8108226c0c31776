//! Sends requests to the probes in their pods.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use reqwest::blocking::Client;
use serde::de::DeserializeOwned;

use super::facts::{Answer, CheckedNode, Found, Pair, Probes, told};
use super::serve::Health;
use crate::records::expected::Expected;
use crate::sys::http;

/// The port of a probe in its pod, for HTTP and UDP.
pub const PORT: u16 = 8080;
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
            "the probe answers {}",
            answer.status()
        );
        let answer = answer.bytes().map_err(|e| http::root_cause(&e))?;
        serde_json::from_slice(&answer).context("the answer of the probe is not valid JSON")
    }
}

/// Sends every request to every probe. The service has to answer at the addresses of `nodes`.
pub fn ask(
    pods: &[Pod],
    ports: NodePorts,
    nodes: &[CheckedNode],
    expected: &Expected,
) -> Result<Probes> {
    let mut probes = Probes {
        pods: pods.iter().map(|pod| pod.node.clone()).collect(),
        ..Probes::default()
    };
    for node in nodes {
        let at = format!("{}:{}", node.address, ports.any);
        probes.node_ports.push(Answer {
            node: at.clone(),
            found: told(reach(&format!("http://{at}")).map(drop)),
        });
    }
    let name = format!("kubernetes.default.svc.{}", expected.domain);
    for (index, pod) in pods.iter().enumerate() {
        let way = way(pod, ports).map_err(|error| format!("the probe is not reached: {error:#}"));
        probes.dns.push(Answer {
            node: pod.node.name.clone(),
            found: put(&way, &format!("/dns?name={name}")),
        });
        probes.metadata.push(Answer {
            node: pod.node.name.clone(),
            found: way
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|way| told(way.ask("/metadata"))),
        });
        // Each probe sends to the next one, so that each node sends and receives.
        let other = &pods[(index + 1) % pods.len()];
        if other.node.name != pod.node.name {
            let to = SocketAddr::from((other.ip, PORT));
            probes.pairs.push(Pair {
                from: pod.node.clone(),
                to: other.node.clone(),
                connected: put(&way, &format!("/connect?to={to}")),
                passes: put(&way, &format!("/mtu?to={to}&mtu={}", expected.pod_mtu)),
            });
        }
    }
    Ok(probes)
}

/// Sends a request whose answer may itself be an error.
fn put<T: DeserializeOwned>(way: &Found<Way>, question: &str) -> Found<T> {
    let way = way.as_ref().map_err(Clone::clone)?;
    told(way.ask::<Found<T>>(question))?
}

/// Finds how to reach the probe of a pod: directly, or through its node if the network drops
/// packets to the pod.
fn way(pod: &Pod, ports: NodePorts) -> Result<Way> {
    let bases = [
        format!("http://{}:{PORT}", pod.ip),
        format!("http://{}:{}", pod.node.address, ports.local),
    ];
    let mut last = anyhow!("no way");
    for base in bases {
        match reach(&base) {
            Ok(health) if health.node == pod.node.name => {
                let client = http::client(&[], None, ANSWER)?;
                return Ok(Way { client, base });
            }
            Ok(health) => last = anyhow!("the probe on {} answers at {base}", health.node),
            Err(error) => last = error.context(base),
        }
    }
    Err(last)
}

/// The probe that answers at `base`.
fn reach(base: &str) -> Result<Health> {
    let way = Way {
        client: http::client(&[], None, REACH)?,
        base: base.to_owned(),
    };
    way.ask("/healthz")
}
