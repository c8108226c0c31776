//! A pod's status, from the state of its containers.

use serde_json::{Value, json};

use crate::lifecycle;

use super::container::RESTARTS;
use super::settings::Settings;

/// The facts about one of a pod's containers.
pub struct Shown<'a> {
    /// The container in the pod's spec.
    pub container: &'a Value,
    /// The state in docker of the container with that name, if it exists.
    pub current: Option<Value>,
    /// The state in docker of the one before it.
    pub last: Option<Value>,
    /// Why it waits, if it should run and does not.
    pub waiting: Option<(String, String)>,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether it will be restarted after it ended.
    pub again: bool,
}

impl Shown<'_> {
    /// The number of earlier starts.
    pub fn restarts(&self) -> u64 {
        let current = self.current.as_ref();
        current.map_or(0, |one| restarts(&one["Config"]).unwrap_or(0))
    }

    fn runs(&self) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|one| one["State"]["Running"] == true)
    }

    /// Whether it ended with success.
    pub fn is_done(&self) -> bool {
        self.ended() == Some(0)
    }

    /// Its exit code, if it ended and will not be restarted.
    fn ended(&self) -> Option<i64> {
        if self.waiting.is_some() || self.again || self.runs() {
            return None;
        }
        self.current.as_ref()?["State"]["ExitCode"].as_i64()
    }

    fn status(&self) -> Value {
        let current = self.current.as_ref();
        let ended = |one: &Value| json!({"terminated": terminated(one)});
        let mut last = self.last.as_ref().map_or(json!({}), ended);
        let state = match (&self.waiting, current) {
            (Some((reason, message)), _) => {
                if let Some(current) = current {
                    last = ended(current);
                }
                let mut waiting = json!({"reason": reason});
                if !message.is_empty() {
                    waiting["message"] = json!(message);
                }
                json!({"waiting": waiting})
            }
            (None, Some(one)) if one["State"]["Running"] == true => {
                json!({"running": {"startedAt": time(&one["State"]["StartedAt"])}})
            }
            (None, Some(one)) => ended(one),
            (None, None) => json!({"waiting": {"reason": "PodInitializing"}}),
        };
        let id = |member: &str| {
            let text = current.and_then(|one| one[member].as_str());
            text.map(|id| format!("docker://{id}")).unwrap_or_default()
        };
        json!({
            "name": self.container["name"], "image": self.container["image"],
            "imageID": id("Image"), "containerID": id("Id"), "ready": self.ready,
            "restartCount": self.restarts(), "state": state, "lastState": last,
        })
    }
}

/// The number of earlier starts of a container, from its labels.
pub fn restarts(container: &Value) -> Option<u64> {
    container["Labels"][RESTARTS].as_str()?.parse().ok()
}

fn terminated(one: &Value) -> Value {
    let state = &one["State"];
    let code = state["ExitCode"].as_i64().unwrap_or(0);
    let reason = match code {
        _ if state["OOMKilled"] == true => "OOMKilled",
        0 => "Completed",
        _ => "Error",
    };
    json!({
        "exitCode": code, "reason": reason, "startedAt": time(&state["StartedAt"]),
        "finishedAt": time(&state["FinishedAt"]),
        "containerID": format!("docker://{}", one["Id"].as_str().unwrap_or_default()),
    })
}

/// Docker's times without the fractions of seconds.
fn time(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    text.get(..19)
        .map(|start| format!("{start}Z"))
        .unwrap_or_default()
}

/// The pod's status.
pub fn of(
    settings: &Settings,
    pod: &Value,
    ip: Option<&str>,
    init: &[Shown<'_>],
    containers: &[Shown<'_>],
) -> Value {
    let phase = phase(containers);
    let waits = !init.iter().all(Shown::is_done);
    let unready: Vec<&str> = containers
        .iter()
        .filter(|one| !one.ready)
        .filter_map(|one| one.container["name"].as_str())
        .collect();
    let had = &pod["status"];
    let unready = match phase {
        "Succeeded" => Some(("PodCompleted", String::new())),
        _ if unready.is_empty() => None,
        _ => {
            let names = unready.join(" ");
            let message = format!("containers with unready status: [{names}]");
            Some(("ContainersNotReady", message))
        }
    };
    let initialized = waits.then(|| ("ContainersNotInitialized", String::new()));
    let conditions = [
        condition(had, "Initialized", initialized),
        condition(had, "Ready", unready),
        condition(had, "PodScheduled", None),
    ];
    let statuses = |all: &[Shown<'_>]| all.iter().map(Shown::status).collect::<Vec<_>>();
    let mut status = json!({
        "phase": phase, "conditions": conditions, "qosClass": had["qosClass"],
        "containerStatuses": statuses(containers),
        "startTime": if had["startTime"].is_string() {
            had["startTime"].clone()
        } else {
            json!(lifecycle::now())
        },
    });
    if !init.is_empty() {
        status["initContainerStatuses"] = json!(statuses(init));
    }
    if let Some(address) = settings.address {
        status["hostIP"] = json!(address);
    }
    if let Some(ip) = ip.filter(|ip| !ip.is_empty()) {
        status["podIP"] = json!(ip);
    }
    status
}

fn phase(containers: &[Shown<'_>]) -> &'static str {
    let ended: Vec<i64> = containers.iter().filter_map(Shown::ended).collect();
    if ended.len() == containers.len() {
        return if ended.iter().all(|&code| code == 0) {
            "Succeeded"
        } else {
            "Failed"
        };
    }
    let began = |one: &Shown<'_>| one.current.is_some() || one.last.is_some();
    if containers.iter().all(began) {
        "Running"
    } else {
        "Pending"
    }
}

/// A condition, which is true without a problem; it keeps the time of its last change.
fn condition(had: &Value, kind: &str, problem: Option<(&str, String)>) -> Value {
    let state = if problem.is_none() { "True" } else { "False" };
    let before = had["conditions"].as_array().into_iter().flatten();
    let mut before = before.filter(|one| one["type"] == kind && one["status"] == state);
    let since = before.next().map(|one| one["lastTransitionTime"].clone());
    let mut condition = json!({
        "type": kind, "status": state, "lastProbeTime": null,
        "lastTransitionTime": since.unwrap_or_else(|| json!(lifecycle::now())),
    });
    if let Some((reason, message)) = problem {
        condition["reason"] = json!(reason);
        if !message.is_empty() {
            condition["message"] = json!(message);
        }
    }
    condition
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown<'a>(container: &'a Value, state: Option<Value>, waits: bool) -> Shown<'a> {
        Shown {
            container,
            current: state.map(|state| json!({"State": state})),
            last: None,
            waiting: waits.then(|| ("R".to_owned(), "m".to_owned())),
            ready: false,
            again: false,
        }
    }

    #[test]
    fn a_pod_is_in_the_phase_its_containers_are_in() {
        let c = json!({"name": "c"});
        let runs = || shown(&c, Some(json!({"Running": true})), false);
        let ended = |code: i64| shown(&c, Some(json!({"ExitCode": code})), false);
        let crashes = || shown(&c, Some(json!({"ExitCode": 1})), true);
        let waits = || shown(&c, None, true);
        assert_eq!(phase(&[runs(), ended(0)]), "Running");
        assert_eq!(phase(&[runs(), waits()]), "Pending");
        assert_eq!(phase(&[crashes()]), "Running");
        assert_eq!(phase(&[ended(0), ended(0)]), "Succeeded");
        assert_eq!(phase(&[ended(0), ended(1)]), "Failed");
        let mut again = ended(0);
        again.again = true;
        assert_eq!(phase(&[again]), "Running");
    }

    #[test]
    fn a_container_that_waits_tells_how_it_ended_before() {
        let c = json!({"name": "c"});
        let status = shown(&c, Some(json!({"ExitCode": 3})), true).status();
        assert_eq!(status["state"]["waiting"]["reason"], "R");
        assert_eq!(status["lastState"]["terminated"]["exitCode"], 3);
    }
}
