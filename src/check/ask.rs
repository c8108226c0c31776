//! Finds out everything that the checks judge.

use anyhow::{Result, bail};

use super::facts::{self, CheckedNode, Facts, Probes, Unprobed, told};
use super::probe::{self, Probed};
use super::workload::Workload;
use crate::clients::calicoctl;
use crate::join::registry;
use crate::language::tr;
use crate::records::expected::Expected;
use crate::sys::interrupt::Interruption;
use crate::sys::process::Runner;
use crate::sys::root::Root;

/// Asks the cluster of the master at `root`; with `no_pods` only what needs no probes.
pub fn find_out(
    root: &Root,
    runner: &dyn Runner,
    expected: &Expected,
    no_pods: bool,
) -> Result<Facts> {
    let nodes = told(facts::nodes(runner));
    let probes = match &nodes {
        _ if no_pods => Err(Unprobed::NotWanted),
        Ok(nodes) => told(probes(root, runner, expected, nodes)).map_err(Unprobed::Failed),
        Err(why) => Err(Unprobed::Failed(why.clone())),
    };
    let joined = told(registry::open(root).and_then(|(_, nodes)| nodes.all()));
    Ok(Facts {
        versions: told(facts::versions(runner)),
        components: told(facts::components(runner)),
        nodes,
        joined: joined.map(|nodes| nodes.into_keys().collect()),
        peers: told(facts::peers(root, runner)),
        pools: told(calicoctl::pools(runner)),
        subnets: told(facts::subnets(runner)),
        probes,
    })
}

/// Starts the probes, sends requests to them, and removes them, even after an interruption.
fn probes(
    root: &Root,
    runner: &dyn Runner,
    expected: &Expected,
    nodes: &[CheckedNode],
) -> Result<Probes> {
    let here = facts::here(root)?;
    let able: Vec<CheckedNode> = nodes
        .iter()
        .filter(|node| node.ready && node.schedulable)
        .cloned()
        .collect();
    if able.is_empty() {
        bail!(tr!(
            "no node can run pods (ready, and not cordoned); see `kubectl get nodes`"
        ));
    }
    facts::refuse_without_policies(root, runner)?;
    let interruption = Interruption::watch("removing the probes")?;
    let interrupted = || interruption.has_come();
    let workload = Workload::bring(runner, &interrupted, expected, able.len())?;
    let pods = workload.ready(&able)?;
    let ports = workload.node_ports()?;
    log::info!("{}", tr!("running tests in {} probes", pods.len()));
    let cluster = Probed {
        pods: &pods,
        ports,
        nodes: &able,
        here: &here,
    };
    probe::ask(&cluster, expected)
}
