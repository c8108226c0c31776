//! Whether the controllers of the cluster act. They follow an API server that was restarted only after a while: until
//! then, nobody takes the pods of a drained node out of services, and nobody starts them elsewhere.

use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::clients::kubectl;
use crate::language::tr;
use crate::sys::process::Runner;
use crate::sys::retry::transient;
use crate::sys::waiting::awaited;

/// How long they may take: another controller manager takes over within 15 seconds, and then starts one after the other.
const LIMIT: Duration = Duration::from_secs(300);
/// The pause between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// A service without pods. The controllers answer a new service with its list of endpoints.
const PROBE: &str = "appliance-upgrade";
/// Where it is.
const NAMESPACE: &str = "--namespace=kube-system";

/// Waits until they act.
///
/// # Errors
/// If they do not within five minutes.
pub fn until_they_act(runner: &dyn Runner) -> Result<()> {
    // A cluster may have no controller that makes such lists.
    if !has_endpoints(runner, "kube-dns")? {
        return Ok(());
    }
    remove(runner)?;
    let create = [
        "create",
        "service",
        "clusterip",
        PROBE,
        "--clusterip=None",
        "--tcp=1",
        NAMESPACE,
    ];
    kubectl::text(runner, &create)?;
    let acted = awaited(
        "the controllers of the cluster (`journalctl -u kube-controller-manager`)",
        LIMIT,
        LOOK,
        || match has_endpoints(runner, PROBE).map_err(transient)? {
            true => Ok(()),
            false => Err(transient(anyhow!(tr!(
                "they do not make a list of endpoints for a new service"
            )))),
        },
    );
    remove(runner)?;
    acted
}

fn has_endpoints(runner: &dyn Runner, service: &str) -> Result<bool> {
    let get = [
        "get",
        "endpoints",
        service,
        NAMESPACE,
        "--ignore-not-found",
        "--output=name",
    ];
    Ok(!kubectl::text(runner, &get)?.trim().is_empty())
}

/// Removes the service, also that of a run that was cut.
fn remove(runner: &dyn Runner) -> Result<()> {
    kubectl::delete(runner, &["service,endpoints", PROBE, NAMESPACE])
}
