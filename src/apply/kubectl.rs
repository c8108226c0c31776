//! Talking to the cluster through the bundle's own kubectl, as its administrator.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::components::ADMIN_KUBECONFIG;
use crate::desired::CURRENT;
use crate::sys::process::{Command, Runner};
use crate::sys::retry::{Failure, Schedule, permanent, retried, transient};

/// How long the API server may take to come up: what `appliance install` waits for a node.
const COMING_UP: Duration = Duration::from_secs(900);
/// The longest pause between two tries.
const PAUSE: Duration = Duration::from_secs(5);

fn kubectl(arguments: &[&str]) -> Command {
    let mut all = vec!["--kubeconfig", ADMIN_KUBECONFIG, "--request-timeout=20s"];
    all.extend(arguments);
    Command::new(&format!("{CURRENT}/bin/kubectl"), &all)
}

/// Gives the cluster the objects in the file at `path`, once its API answers.
pub fn apply(runner: &dyn Runner, path: &str) -> Result<()> {
    let schedule = Schedule::until(Instant::now() + COMING_UP, PAUSE);
    let applied = retried("waiting for the API server", schedule, || {
        check_health(runner)?;
        runner
            .check(&kubectl(&["apply", "-f", path]))
            .map(drop)
            // An API server that is starting may be gone again a moment after its first word.
            .map_err(|error| check_health(runner).err().unwrap_or(permanent(error)))
    });
    applied.map_err(Failure::into_error)
}

/// Whether the API server is healthy; it may become so.
fn check_health(runner: &dyn Runner) -> Result<(), Failure> {
    let output = runner
        .run(&kubectl(&["get", "--raw", "/healthz"]))
        .map_err(transient)?;
    if output.success() {
        return Ok(());
    }
    Err(transient(anyhow!("{}", last_line(&output.stderr))))
}

/// Whether the API server says that it lacks an object in the file at `path`. While it says
/// nothing at all, nothing is known to be missing.
pub fn lacks(runner: &dyn Runner, path: &str) -> Result<bool> {
    let output = runner.run(&kubectl(&["get", "-f", path, "-o", "name"]))?;
    Ok(!output.success() && output.stderr.contains("NotFound"))
}

fn last_line(text: &str) -> &str {
    text.trim().lines().last().unwrap_or("no answer")
}
