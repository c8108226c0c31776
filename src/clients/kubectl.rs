//! Talking to the cluster through the bundle's own kubectl, as its administrator.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::paths::{self, BIN_DIR};
use crate::sys::process::{Command, Runner};
use crate::sys::retry::{Failure, Schedule, retried, transient};

/// How long the API server may take to come up: what `appliance install` waits for a node.
const COMING_UP: Duration = Duration::from_secs(900);
/// The longest pause between two tries.
const PAUSE: Duration = Duration::from_secs(5);

fn kubectl(arguments: &[&str]) -> Command {
    let mut all = vec![
        "--kubeconfig",
        paths::ADMIN_KUBECONFIG,
        "--request-timeout=60s",
    ];
    all.extend(arguments);
    Command::new(&format!("{BIN_DIR}/kubectl"), &all)
}

/// Gives the cluster the objects in the file at `path`, once its API answers.
pub fn apply(runner: &dyn Runner, path: &str) -> Result<()> {
    let schedule = Schedule::until(Instant::now() + COMING_UP, PAUSE);
    let applied = retried("waiting for the API server", schedule, || {
        ready(runner).map_err(transient)?;
        // A server that is starting refuses for a while what it takes later: it may be gone again a
        // moment after its first word, be too slow to answer in time, or not know its roles yet.
        apply_now(runner, path).map_err(transient)
    });
    applied.map_err(Failure::into_error)
}

/// Fails, with what was said, unless the API server answers that it is healthy.
pub fn ready(runner: &dyn Runner) -> Result<()> {
    let output = runner.run(&kubectl(&["get", "--raw", "/healthz"]))?;
    if output.success() {
        return Ok(());
    }
    Err(anyhow!("{}", unhealthy(&output.stderr)))
}

/// Which of an API server's own checks fail, where it lists them; else the last line of what was said.
fn unhealthy(said: &str) -> String {
    let checks = said
        .split("\\n")
        .filter_map(|check| check.split_once("[-]"));
    let failing: Vec<&str> = checks.map(|(_, check)| check).collect();
    if failing.is_empty() {
        return last_line(said).to_owned();
    }
    format!("the API server is not healthy yet: {}", failing.join("; "))
}

/// Gives the cluster the objects in the file at `path`.
pub fn apply_now(runner: &dyn Runner, path: &str) -> Result<()> {
    runner.check(&kubectl(&["apply", "-f", path])).map(drop)
}

/// What `kubectl get` with these arguments finds, as the API has it.
pub fn get(runner: &dyn Runner, arguments: &[&str]) -> Result<Value> {
    let arguments = [&["get"], arguments, &["-o", "json"]].concat();
    let output = runner.check(&kubectl(&arguments))?;
    serde_json::from_str(&output.stdout)
        .with_context(|| format!("what `kubectl {}` prints", arguments.join(" ")))
}

/// The objects in the file at `path` as the cluster has them; `None` if it lacks any.
pub fn get_file(runner: &dyn Runner, path: &str) -> Result<Option<Value>> {
    let output = runner.run(&kubectl(&["get", "-f", path, "-o", "json"]))?;
    if output.success() {
        let objects = serde_json::from_str(&output.stdout);
        return objects.map(Some).context("what `kubectl get -f` prints");
    }
    if output.stderr.contains("NotFound") {
        return Ok(None);
    }
    bail!("{}", last_line(&output.stderr))
}

/// Removes what these arguments of `kubectl delete` name; what is not there is as good as removed.
pub fn delete(runner: &dyn Runner, arguments: &[&str]) -> Result<()> {
    let arguments = [&["delete", "--ignore-not-found"], arguments].concat();
    runner.check(&kubectl(&arguments)).map(drop)
}

/// What kubectl prints that is no list of objects.
pub fn text(runner: &dyn Runner, arguments: &[&str]) -> Result<String> {
    Ok(runner.check(&kubectl(arguments))?.stdout)
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

#[cfg(test)]
mod tests {
    use super::unhealthy;

    #[test]
    fn of_an_unhealthy_api_server_the_failing_checks_are_named() {
        let said = "Error from server (InternalError): an error on the server (\"[+]ping ok\\n[-]etcd failed: \
                    reason withheld\\n[+]autoregister-completion ok\\nhealthz check failed\") has prevented\n";
        assert_eq!(
            unhealthy(said),
            "the API server is not healthy yet: etcd failed: reason withheld"
        );
        assert_eq!(unhealthy("x\nconnection refused\n"), "connection refused");
    }
}
