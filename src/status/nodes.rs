//! Whether Kubernetes calls the nodes Ready: all nodes on a master, its own node on a worker.

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::addons::object::{listed, of_type, text};
use crate::clients::kubectl;
use crate::clients::own_node::OwnNode;
use crate::language::tr;
use crate::sys::process::Runner;
use crate::sys::root::Root;

/// How long a node may be away before that is a problem. Until then it may still come up, as it does after a boot.
const COMING_UP: Duration = Duration::minutes(15);

/// The nodes of the cluster, as far as this node may read them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodesReport {
    /// All nodes on a master; only its own one on a worker.
    pub nodes: Vec<NodeReport>,
    /// Why they are not known.
    pub unknown: Option<String>,
}

/// One node of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// Its state as `kubectl get nodes` shows it: `Ready`, `NotReady`, `Ready,SchedulingDisabled`. A node that the cluster
    /// does not have is `not registered`.
    pub state: String,
    /// Whether Kubernetes calls it Ready.
    pub ready: bool,
    /// Whether it takes no new pods.
    pub cordoned: bool,
    /// Its address in the cluster, if Kubernetes knows it.
    pub address: Option<String>,
    /// The version of its kubelet, if that has reported it.
    pub version: Option<String>,
    /// Since when (RFC 3339), if that is known.
    pub since: Option<String>,
    /// What its kubelet says about it, if it is not Ready.
    pub message: Option<String>,
    /// The problem, if it has one. It has none while it can still come up by itself.
    pub problem: Option<String>,
}

/// The list of all nodes, as the administrator on a master reads it.
pub(super) fn list(runner: &dyn Runner) -> Result<Value> {
    let list = kubectl::get(runner, &["nodes"])?;
    anyhow::ensure!(
        list["items"].is_array(),
        tr!("`kubectl get nodes` printed no list")
    );
    Ok(list)
}

/// The list with the node called `name`, as its kubelet may read it.
pub(super) fn own(root: &Root, name: &str) -> Result<Value> {
    let node = OwnNode::of(root, name)?.context(tr!("the kubelet has no certificate yet"))?;
    let object = node.object()?;
    Ok(json!({ "items": object.into_iter().collect::<Vec<Value>>() }))
}

impl NodesReport {
    /// The report of a list of nodes, or of why there is none, at the time `now`. `own` is the node of this machine, if it
    /// has to be in the list.
    pub(crate) fn of(
        list: Result<Value, String>,
        own: Option<&str>,
        now: OffsetDateTime,
    ) -> NodesReport {
        let list = match list {
            Ok(list) => list,
            Err(why) => {
                return NodesReport {
                    nodes: Vec::new(),
                    unknown: Some(why),
                };
            }
        };
        let mut nodes: Vec<NodeReport> = listed(&list).map(|node| report(node, now)).collect();
        if let Some(own) = own.filter(|own| nodes.iter().all(|node| node.name != **own)) {
            nodes.push(unregistered(own));
        }
        NodesReport {
            nodes,
            unknown: None,
        }
    }
}

fn unregistered(name: &str) -> NodeReport {
    NodeReport {
        name: name.to_owned(),
        state: tr!("not registered"),
        ready: false,
        cordoned: false,
        address: None,
        version: None,
        since: None,
        message: None,
        problem: None,
    }
}

fn report(node: &Value, now: OffsetDateTime) -> NodeReport {
    let condition = of_type(&node["status"]["conditions"], "Ready");
    let said = condition.map(|condition| text(&condition["message"]).to_owned());
    let said = said.unwrap_or_else(|| tr!("its kubelet has not reported yet"));
    let condition = condition.unwrap_or(&Value::Null);
    let ready = condition["status"] == "True";
    let since = text(&condition["lastTransitionTime"]);
    let is_late = || {
        let since = OffsetDateTime::parse(since, &Rfc3339);
        since.is_ok_and(|since| now - since > COMING_UP)
    };
    let mut state = if ready { "Ready" } else { "NotReady" }.to_owned();
    let cordoned = node["spec"]["unschedulable"] == true;
    if cordoned {
        state.push_str(",SchedulingDisabled");
    }
    let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    NodeReport {
        name: text(&node["metadata"]["name"]).to_owned(),
        state,
        ready,
        cordoned,
        address: of_type(&node["status"]["addresses"], "InternalIP")
            .and_then(|entry| named(text(&entry["address"]))),
        version: named(text(&node["status"]["nodeInfo"]["kubeletVersion"])),
        since: named(since),
        message: named(&said).filter(|_| !ready),
        problem: (!ready && is_late()).then(|| {
            tr!("see journalctl -u kubelet on that node; if it is gone for good: `kubectl delete node NAME`")
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn node(name: &str, status: &str, spec: &Value) -> Value {
        json!({"metadata": {"name": name}, "spec": spec, "status": {"conditions": [
            {"type": "DiskPressure", "status": "False"},
            {"type": "Ready", "status": status, "message": "cni config uninitialized",
             "lastTransitionTime": "2026-11-30T10:00:00Z"}]}})
    }

    fn at(time: &str) -> OffsetDateTime {
        OffsetDateTime::parse(time, &Rfc3339).unwrap()
    }

    #[test]
    fn a_node_is_what_kubectl_calls_it_and_late_after_a_quarter_of_an_hour() {
        let list = json!({"items": [
            node("a", "True", &json!({"unschedulable": true})),
            node("b", "Unknown", &json!({})),
        ]});
        let soon = at("2026-11-30T10:15:00Z");
        let report = NodesReport::of(Ok(list.clone()), Some("c"), soon);
        let states: Vec<&str> = report.nodes.iter().map(|node| &*node.state).collect();
        assert_eq!(
            states,
            ["Ready,SchedulingDisabled", "NotReady", "not registered"]
        );
        assert_eq!(report.nodes[0].message, None);
        assert_eq!(
            report.nodes[1].message.as_deref(),
            Some("cni config uninitialized")
        );
        assert!(report.nodes.iter().all(|node| node.problem.is_none()));
        let later = NodesReport::of(Ok(list), Some("a"), at("2026-11-30T10:15:01Z"));
        let late: Vec<bool> = later
            .nodes
            .iter()
            .map(|node| node.problem.is_some())
            .collect();
        assert_eq!(late, [false, true]);
    }
}
