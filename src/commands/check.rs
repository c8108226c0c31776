//! `appliance check`.

use anyhow::{Context, Result, bail};

use super::preflight::check_user;
use super::{Outcome, print};
use crate::apply::state::State;
use crate::check::facts::{self, Facts, Node, Probes, told};
use crate::check::workload::Workload;
use crate::check::{self, Expected, probe, serve};
use crate::cli::{Check, CheckCommand};
use crate::components::EXPECTED;
use crate::join::registry;
use crate::spec::Refused;
use crate::sys::interrupt::Interruption;
use crate::sys::process::{Runner, System};
use crate::sys::root::Root;

/// Checks the cluster, or runs as a probe of a check.
pub fn run(arguments: &Check) -> Result<Outcome> {
    if let Some(CheckCommand::Serve { port, node }) = &arguments.command {
        serve::run(*port, node)?;
        return Ok(Outcome::Done);
    }
    let root = Root::open("/".as_ref())?;
    check_user(&root)?;
    let Some(state) = State::read(&root)? else {
        log::warn!("this machine is not installed; run `appliance install`");
        return Ok(Outcome::NotInstalled);
    };
    let Some(expected) = root.read(EXPECTED)? else {
        bail!(Refused {
            problems: vec![format!(
                "this node is a {}; run `appliance check` on a master of the cluster",
                state.role
            )],
        });
    };
    let expected: Expected = serde_json::from_slice(&expected).context(EXPECTED)?;
    let facts = find_out(&root, &System, &expected, arguments.no_pods)?;
    let checked = check::judge(&expected, &facts);
    print::checked(&checked, arguments.output)?;
    Ok(if check::is_sound(&checked) {
        Outcome::Done
    } else {
        Outcome::Degraded
    })
}

fn find_out(root: &Root, runner: &dyn Runner, expected: &Expected, no_pods: bool) -> Result<Facts> {
    let nodes = told(facts::nodes(runner));
    let probes = match &nodes {
        _ if no_pods => Err("--no-pods".to_owned()),
        Ok(nodes) => told(probes(runner, expected, nodes)),
        Err(why) => Err(why.clone()),
    };
    let joined = told(registry::open(root).and_then(|(_, nodes)| nodes.all()));
    Ok(Facts {
        versions: told(facts::versions(runner)),
        components: told(facts::components(runner)),
        nodes,
        joined: joined.map(|nodes| nodes.into_keys().collect()),
        peers: told(facts::peers(root)),
        pools: told(facts::pools(runner)),
        probes,
    })
}

/// Starts the probes, sends requests to them, and removes them, even after an interruption.
fn probes(runner: &dyn Runner, expected: &Expected, nodes: &[Node]) -> Result<Probes> {
    let able: Vec<Node> = nodes
        .iter()
        .filter(|node| node.ready && node.schedulable)
        .cloned()
        .collect();
    if able.is_empty() {
        bail!("no node can run pods (ready, and not cordoned); see `kubectl get nodes`");
    }
    let interruption = Interruption::watch("removing the probes")?;
    let interrupted = || interruption.has_come();
    let workload = Workload::bring(runner, &interrupted, expected, able.len())?;
    let pods = workload.ready(&able)?;
    let ports = workload.node_ports()?;
    log::info!("running tests in {} probes", pods.len());
    probe::ask(&pods, ports, &able, expected)
}
