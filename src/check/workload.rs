//! Brings the probes to the nodes, waits for them, and takes them away again, whatever happens.

use std::io::Write;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::facts::Node;
use super::probe::{NodePorts, Pod};
use crate::addons::object::listed;
use crate::addons::{Cluster, Standing, judge};
use crate::clients::kubectl;
use crate::paths;
use crate::records::expected::Expected;
use crate::render::render;
use crate::sys::process::{Runner, argument};

/// The namespace of everything the check makes.
pub const NAMESPACE: &str = "appliance-check";
/// What the probes are labelled with.
const SELECTOR: &str = "app=appliance-check";
/// How long the probes may take to be ready: their image is on every node already.
const READY: Duration = Duration::from_secs(180);
/// How long the leftovers of an earlier run may take to go.
const GONE: Duration = Duration::from_secs(120);
/// Between two looks.
const POLL: Duration = Duration::from_secs(1);

/// Whether somebody wants the check to end.
pub type Interrupted<'a> = dyn Fn() -> bool + 'a;

/// The probes in the cluster. They are taken away when this is dropped.
pub struct Workload<'a> {
    runner: &'a dyn Runner,
    interrupted: &'a Interrupted<'a>,
}

impl Drop for Workload<'_> {
    fn drop(&mut self) {
        if let Err(error) = remove(self.runner) {
            log::warn!(
                "the probes are not removed ({error:#}); `kubectl delete namespace {NAMESPACE}` \
                 does so"
            );
        }
    }
}

impl<'a> Workload<'a> {
    /// Brings a probe to each of `nodes` nodes. What an interrupted run left is taken away first.
    pub fn bring(
        runner: &'a dyn Runner,
        interrupted: &'a Interrupted<'a>,
        expected: &Expected,
        nodes: usize,
    ) -> Result<Workload<'a>> {
        let workload = Workload {
            runner,
            interrupted,
        };
        workload.remove_leftovers()?;
        let values = json!({
            "replicas": nodes,
            "image": expected.pause,
            "program": paths::PROGRAM,
        });
        let mut file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
        file.write_all(render("manifests/check.yaml", &values)?.as_bytes())?;
        kubectl::apply_now(runner, argument(file.path())?)?;
        Ok(workload)
    }

    fn remove_leftovers(&self) -> Result<()> {
        if !self.is_there()? {
            return Ok(());
        }
        log::info!("removing what an earlier check left");
        remove(self.runner)?;
        let start = Instant::now();
        while self.is_there()? {
            if start.elapsed() > GONE {
                bail!(
                    "the namespace {NAMESPACE} of an earlier check does not go away; `kubectl get \
                     namespace {NAMESPACE} -o yaml` shows what holds it"
                );
            }
            self.pause()?;
        }
        Ok(())
    }

    fn is_there(&self) -> Result<bool> {
        let arguments = [
            "get",
            "namespace",
            NAMESPACE,
            "--ignore-not-found",
            "-o",
            "name",
        ];
        Ok(!kubectl::text(self.runner, &arguments)?.trim().is_empty())
    }

    fn pause(&self) -> Result<()> {
        if (self.interrupted)() {
            bail!("interrupted");
        }
        std::thread::sleep(POLL);
        Ok(())
    }

    /// Waits until all probes are ready, and tells where each is.
    pub fn ready(&self, nodes: &[Node]) -> Result<Vec<Pod>> {
        let (start, mut said) = (Instant::now(), String::new());
        loop {
            let why = match self.look(nodes)? {
                Ok(pods) => return Ok(pods),
                Err(why) => why,
            };
            if start.elapsed() > READY {
                bail!("not ready after {} s: {why}", READY.as_secs());
            }
            if why != said {
                log::info!("waiting for the probes: {why}");
                said = why;
            }
            self.pause()?;
        }
    }

    /// The probes, or what they wait for.
    fn look(&self, nodes: &[Node]) -> Result<Result<Vec<Pod>, String>> {
        let in_namespace = ["--namespace", NAMESPACE];
        let get = |what: &[&str]| kubectl::get(self.runner, &[what, &in_namespace[..]].concat());
        let deployment = get(&["deployment", "probe"])?;
        let list = get(&["pods", "--selector", SELECTOR])?;
        let pods: Vec<&Value> = listed(&list).collect();
        let cluster = kubectl::get(self.runner, &["nodes"])?;
        match judge(&deployment, &pods, &Cluster::of(&cluster)) {
            Standing::Available(_) => {}
            Standing::Waiting(why) => return Ok(Err(why)),
            Standing::Stuck(why) => bail!("{why}"),
        }
        let pods: Option<Vec<Pod>> = pods
            .into_iter()
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .map(|pod| pod_of(pod, nodes))
            .collect();
        let Some(mut pods) = pods else {
            return Ok(Err("not every pod has an address".to_owned()));
        };
        pods.sort_by(|a, b| a.node.name.cmp(&b.node.name));
        Ok(Ok(pods))
    }

    /// The node ports of the services in front of the probes.
    pub fn node_ports(&self) -> Result<NodePorts> {
        let port = |service: &str| {
            let arguments = ["service", service, "--namespace", NAMESPACE];
            let service = kubectl::get(self.runner, &arguments)?;
            let port = service["spec"]["ports"][0]["nodePort"].as_u64();
            let port = port.and_then(|port| u16::try_from(port).ok());
            port.context("the service has no node port")
        };
        Ok(NodePorts {
            any: port("probe")?,
            local: port("probe-local")?,
        })
    }
}

fn pod_of(pod: &Value, nodes: &[Node]) -> Option<Pod> {
    let name = pod["spec"]["nodeName"].as_str()?;
    let ip: Ipv4Addr = pod["status"]["podIP"].as_str()?.parse().ok()?;
    let node = nodes.iter().find(|node| node.name == name)?;
    Some(Pod {
        node: node.clone(),
        ip,
    })
}

/// Takes everything away that a check makes: the parts first, since a namespace takes its time.
fn remove(runner: &dyn Runner) -> Result<()> {
    for part in ["deployment/probe", "service/probe", "service/probe-local"] {
        kubectl::delete(runner, &["--namespace", NAMESPACE, part])?;
    }
    kubectl::delete(runner, &["namespace", NAMESPACE])
}
