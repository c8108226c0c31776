//! Runs the bundle's kubectl with the administrator's kubeconfig.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::paths::{self, BIN_DIR};
use crate::sys::process::{Command, Runner};
use crate::sys::retry::transient;
use crate::sys::waiting::awaited;

/// How long the API server may take to come up: as long as `appliance install` waits for a node.
const COMING_UP: Duration = Duration::from_secs(900);
/// The longest pause between two attempts. Nothing tells when an API server comes up, and kubelets wait for these objects.
/// An attempt is a program that is started: on a small machine, that takes longer than the pause.
const PAUSE: Duration = Duration::from_millis(500);

fn kubectl(arguments: &[&str]) -> Command {
    let mut all = vec![
        "--kubeconfig",
        paths::ADMIN_KUBECONFIG,
        "--request-timeout=60s",
    ];
    all.extend(arguments);
    Command::new(&format!("{BIN_DIR}/kubectl"), &all)
}

/// Applies the objects in the file at `path` as soon as the API answers.
pub fn apply(runner: &dyn Runner, path: &str) -> Result<()> {
    awaited("the API server", COMING_UP, PAUSE, || {
        ready(runner).map_err(transient)?;
        // A starting API server refuses some requests that it accepts later: it may restart, answer
        // too late, or not have its roles yet.
        apply_now(runner, path).map_err(transient)
    })
}

/// Fails with the API server's answer unless it says that it is healthy.
pub fn ready(runner: &dyn Runner) -> Result<()> {
    let output = runner.run(&kubectl(&["get", "--raw", "/healthz"]))?;
    if output.success() {
        return Ok(());
    }
    Err(anyhow!("{}", unhealthy(&output.stderr)))
}

/// The failing checks of an API server, if it lists them; else the last line of its answer.
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

/// Applies the objects in the file at `path` now.
pub fn apply_now(runner: &dyn Runner, path: &str) -> Result<()> {
    runner.check(&kubectl(&["apply", "-f", path])).map(drop)
}

/// The objects that `kubectl get` finds with these arguments, as JSON.
pub fn get(runner: &dyn Runner, arguments: &[&str]) -> Result<Value> {
    let arguments = [&["get"], arguments, &["-o", "json"]].concat();
    let output = runner.check(&kubectl(&arguments))?;
    serde_json::from_str(&output.stdout)
        .with_context(|| format!("`kubectl {}` printed invalid JSON", arguments.join(" ")))
}

/// The objects of the file at `path` as they are in the cluster; `None` if one is missing.
pub fn get_file(runner: &dyn Runner, path: &str) -> Result<Option<Value>> {
    let output = runner.run(&kubectl(&["get", "-f", path, "-o", "json"]))?;
    if output.success() {
        let objects = serde_json::from_str(&output.stdout);
        return objects
            .map(Some)
            .with_context(|| format!("`kubectl get -f {path}` printed invalid JSON"));
    }
    if output.stderr.contains("NotFound") {
        return Ok(None);
    }
    bail!("{}", last_line(&output.stderr))
}

/// Deletes the objects that these arguments of `kubectl delete` name. Missing objects are no error, and neither is a
/// namespace that is being deleted already: to that, the API server answers with a conflict.
pub fn delete(runner: &dyn Runner, arguments: &[&str]) -> Result<()> {
    let arguments = [&["delete", "--ignore-not-found"], arguments].concat();
    let command = kubectl(&arguments);
    let output = runner.run(&command)?;
    if is_being_deleted(&output.stderr) {
        return Ok(());
    }
    output.of(&command).map(drop)
}

fn is_being_deleted(said: &str) -> bool {
    said.contains("(Conflict)") && said.contains("is ensuring all content is removed")
}

/// The output of kubectl as text.
pub fn text(runner: &dyn Runner, arguments: &[&str]) -> Result<String> {
    Ok(runner.check(&kubectl(arguments))?.stdout)
}

/// Whether an object of the file at `path` is missing in the cluster. While the API server does not
/// answer, no object counts as missing.
pub fn lacks(runner: &dyn Runner, path: &str) -> Result<bool> {
    let output = runner.run(&kubectl(&["get", "-f", path, "-o", "name"]))?;
    Ok(!output.success() && output.stderr.contains("NotFound"))
}

fn last_line(text: &str) -> &str {
    text.trim().lines().last().unwrap_or("no answer")
}

#[cfg(test)]
mod tests {
    use super::{is_being_deleted, unhealthy};

    #[test]
    fn a_namespace_that_is_being_deleted_is_deleted() {
        let said = "Error from server (Conflict): Operation cannot be fulfilled on namespaces \"a\": The system is \
                    ensuring all content is removed from this namespace.  Upon completion, this namespace will \
                    automatically be purged by the system.\n";
        assert!(is_being_deleted(said));
        let other = "Error from server (Conflict): Operation cannot be fulfilled on pods \"a\": the object has been \
                     modified; please apply your changes to the latest version and try again\n";
        assert!(!is_being_deleted(other));
    }

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
