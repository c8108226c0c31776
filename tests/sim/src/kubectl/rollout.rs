//! `rollout status`: waits until all pods are made from the current template.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::checks;

use super::command::Command;
use super::get;

/// How often to read the object.
const LOOK: Duration = Duration::from_secs(1);

/// `rollout status KIND NAME`.
///
/// # Errors A missing object, one that cannot roll out, or the end of `--timeout`.
pub fn status(command: &Command, wanted: &[&str]) -> Result<()> {
    let [(kind, Some(name))] = get::named(wanted)?[..] else {
        bail!("error: name one object");
    };
    let path = kind.path(Some(command.namespace()), Some(name));
    let limit = command.option("--timeout").map(checks::duration);
    let limit = limit
        .map(|limit| limit.context("error: invalid --timeout"))
        .transpose()?;
    let start = Instant::now();
    let mut said = String::new();
    loop {
        let object = command.ask(&path)?.json()?;
        let (text, is_done) = match kind.resource {
            "deployments" => deployment(name, &object),
            "daemonsets" => daemon_set(name, &object),
            other => bail!("error: {other} do not roll out"),
        };
        if text != said {
            println!("{text}");
            said = text;
        }
        if is_done || command.option("--watch") == Some("false") {
            return Ok(());
        }
        if limit.is_some_and(|limit| start.elapsed() > limit) {
            bail!("error: timed out waiting for the condition");
        }
        thread::sleep(LOOK);
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn is_seen(object: &Value) -> bool {
    number(&object["status"]["observedGeneration"]) >= number(&object["metadata"]["generation"])
}

const UNSEEN: &str = "Waiting for rollout to finish: the new spec was not seen yet...";

fn deployment(name: &str, object: &Value) -> (String, bool) {
    let of = |member: &str| number(&object["status"][member]);
    let (wanted, updated) = (number(&object["spec"]["replicas"]), of("updatedReplicas"));
    let (all, available) = (of("replicas"), of("availableReplicas"));
    let waits = |text: String| (format!("Waiting for rollout to finish: {text}..."), false);
    if !is_seen(object) {
        return (UNSEEN.to_owned(), false);
    }
    if updated < wanted {
        return waits(format!(
            "{updated} out of {wanted} new replicas have been updated"
        ));
    }
    if all > updated {
        let old = all - updated;
        return waits(format!("{old} old replicas are pending termination"));
    }
    if available < updated {
        return waits(format!(
            "{available} of {updated} updated replicas are available"
        ));
    }
    (format!("deployment {name:?} successfully rolled out"), true)
}

fn daemon_set(name: &str, object: &Value) -> (String, bool) {
    let of = |member: &str| number(&object["status"][member]);
    let (wanted, updated) = (of("desiredNumberScheduled"), of("updatedNumberScheduled"));
    let available = of("numberAvailable");
    let waits = |text: String| (format!("Waiting for rollout to finish: {text}..."), false);
    if !is_seen(object) {
        return (UNSEEN.to_owned(), false);
    }
    if updated < wanted {
        return waits(format!(
            "{updated} out of {wanted} new pods have been updated"
        ));
    }
    if available < wanted {
        return waits(format!(
            "{available} of {wanted} updated pods are available"
        ));
    }
    (format!("daemon set {name:?} successfully rolled out"), true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rollout_is_done_when_the_new_pods_are_available_and_the_old_gone() {
        let of = |all: u64, updated: u64, available: u64, seen: u64| {
            deployment(
                "d",
                &json!({
                    "metadata": {"generation": 2}, "spec": {"replicas": 2},
                    "status": {
                        "replicas": all, "updatedReplicas": updated,
                        "availableReplicas": available, "observedGeneration": seen,
                    },
                }),
            )
        };
        assert!(!of(2, 2, 2, 1).1);
        assert!(of(2, 1, 2, 2).0.contains("1 out of 2 new replicas"));
        assert!(of(3, 2, 2, 2).0.contains("1 old replicas"));
        assert!(of(2, 2, 1, 2).0.contains("1 of 2 updated replicas"));
        assert_eq!(
            of(2, 2, 2, 2),
            ("deployment \"d\" successfully rolled out".to_owned(), true)
        );
    }
}
