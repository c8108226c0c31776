//! Starts the probes on the nodes, waits for them, and always removes them again.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::facts::CheckedNode;
use super::probe::{NodePorts, Pod};
use crate::addons::object::listed;
use crate::addons::{Cluster, Standing, judge};
use crate::clients::kubectl;
use crate::language::tr;
use crate::paths;
use crate::records::expected::Expected;
use crate::render::render;
use crate::sys::process::{Runner, argument};
use crate::sys::scratch;

/// The namespace of everything the check makes.
pub const NAMESPACE: &str = "appliance-check";
/// The label of the probes.
const SELECTOR: &str = "app=appliance-check";
/// How long the probes may take to be ready. Their image is already on every node.
const READY: Duration = Duration::from_secs(180);
/// How long the removal of an earlier check's probes may take.
const GONE: Duration = Duration::from_secs(120);
/// The pause between two requests.
const POLL: Duration = Duration::from_secs(1);

/// Whether the user interrupted the check.
pub type Interrupted<'a> = dyn Fn() -> bool + 'a;

/// The probes in the cluster. Dropping this removes them.
pub struct Workload<'a> {
    runner: &'a dyn Runner,
    interrupted: &'a Interrupted<'a>,
}

impl Drop for Workload<'_> {
    fn drop(&mut self) {
        if let Err(error) = remove(self.runner) {
            log::warn!(
                "{}",
                tr!(
                    "cannot remove the probes ({error}); run `kubectl delete namespace {NAMESPACE}`",
                    error = format_args!("{error:#}"),
                    NAMESPACE
                )
            );
        }
    }
}

impl<'a> Workload<'a> {
    /// Starts a probe on each of `nodes` nodes. It first removes the probes of an interrupted
    /// check.
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
            "pod_security_policy": expected.pod_security_policy,
        });
        let manifest = render("manifests/check.yaml", &values)?;
        let file = scratch::yaml(manifest.as_bytes())?;
        kubectl::apply_now(runner, argument(file.path())?)?;
        Ok(workload)
    }

    fn remove_leftovers(&self) -> Result<()> {
        if !self.is_there()? {
            return Ok(());
        }
        log::info!("{}", tr!("removing the probes of an earlier check"));
        remove(self.runner)?;
        let start = Instant::now();
        while self.is_there()? {
            if start.elapsed() > GONE {
                bail!(tr!(
                    "the namespace {NAMESPACE} of an earlier check still exists {} s after its \
                     removal; see why: `kubectl get namespace {NAMESPACE} -o yaml`",
                    GONE.as_secs(),
                    NAMESPACE
                ));
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
            bail!(tr!("the check was interrupted"));
        }
        std::thread::sleep(POLL);
        Ok(())
    }

    /// Waits until all probes are ready, and returns the node and address of each.
    pub fn ready(&self, nodes: &[CheckedNode]) -> Result<Vec<Pod>> {
        let (start, mut said) = (Instant::now(), String::new());
        loop {
            let why = match self.look(nodes)? {
                Ok(pods) => return Ok(pods),
                Err(why) => why,
            };
            if start.elapsed() > READY {
                bail!(tr!(
                    "the probes are not ready after {} s: {why}",
                    READY.as_secs(),
                    why
                ));
            }
            if why != said {
                log::info!("{}", tr!("waiting for the probes: {why}", why));
                said = why;
            }
            self.pause()?;
        }
    }

    /// The probes, or the reason why they are not ready.
    fn look(&self, nodes: &[CheckedNode]) -> Result<Result<Vec<Pod>, String>> {
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
            return Ok(Err(tr!("not every pod has an address")));
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
            port.context(tr!("the service of the probes has no node port"))
        };
        Ok(NodePorts {
            any: port("probe")?,
            local: port("probe-local")?,
        })
    }
}

fn pod_of(pod: &Value, nodes: &[CheckedNode]) -> Option<Pod> {
    let name = pod["spec"]["nodeName"].as_str()?;
    let ip: Ipv4Addr = pod["status"]["podIP"].as_str()?.parse().ok()?;
    let node = nodes.iter().find(|node| node.name == name)?;
    Some(Pod {
        node: node.clone(),
        ip,
    })
}

/// Removes everything that a check creates. It removes the parts first: the namespace takes longer.
fn remove(runner: &dyn Runner) -> Result<()> {
    for part in ["deployment/probe", "service/probe", "service/probe-local"] {
        kubectl::delete(runner, &["--namespace", NAMESPACE, part])?;
    }
    kubectl::delete(runner, &["namespace", NAMESPACE])
}
