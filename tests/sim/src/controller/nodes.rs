//! The controller `node`: marks a node whose kubelet went silent and its pods as not ready, and
//! removes the pods if it stays silent.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use crate::client::Client;
use crate::{fit, lifecycle};

use super::api::{delete, each, is_ready, list, put};

/// The state of the nodes' kubelets.
pub struct Monitor {
    grace: Duration,
    eviction: Duration,
    heard: HashMap<String, (String, Instant)>,
    unready: HashMap<String, Instant>,
}

impl Monitor {
    /// A monitor that waits for `grace` until a kubelet's next heartbeat, and for `eviction` until
    /// a node becomes ready again.
    pub fn new(grace: Duration, eviction: Duration) -> Self {
        Self {
            grace,
            eviction,
            heard: HashMap::new(),
            unready: HashMap::new(),
        }
    }

    /// Checks every node, and marks those whose kubelet went silent.
    ///
    /// # Errors The nodes cannot be listed or written.
    pub fn look(&mut self, api: &Client) -> Result<()> {
        let nodes = list(api, "nodes")?;
        let mut lost = Vec::new();
        for node in &nodes {
            if self.is_silent(node, Instant::now())
                && let Some(unknown) = unknown(node)
            {
                eprintln!("node {} went silent", node["metadata"]["name"]);
                put(api, &unknown, "status")?;
            }
            if !fit::is_ready(node) {
                lost.push((
                    &node["metadata"]["name"],
                    self.is_over(node, Instant::now()),
                ));
            } else if let Some(name) = node["metadata"]["name"].as_str() {
                self.unready.remove(name);
            }
        }
        if lost.is_empty() {
            return Ok(());
        }
        let pods = list(api, "pods")?;
        each(&pods, |pod| {
            match lost
                .iter()
                .find(|(name, _)| pod["spec"]["nodeName"] == **name)
            {
                Some((_, over)) => lose(api, pod, *over),
                None => Ok(()),
            }
        })
    }

    /// Whether a node that is not ready has been so for too long.
    fn is_over(&mut self, node: &Value, now: Instant) -> bool {
        let name = node["metadata"]["name"].as_str().unwrap_or_default();
        let since = self.unready.entry(name.to_owned()).or_insert(now);
        now.duration_since(*since) > self.eviction
    }

    /// The time when a new heartbeat was seen here counts: the nodes' clocks may differ.
    fn is_silent(&mut self, node: &Value, now: Instant) -> bool {
        let name = node["metadata"]["name"].as_str().unwrap_or_default();
        let beat = ready(node).and_then(|condition| condition["lastHeartbeatTime"].as_str());
        let beat = beat.unwrap_or_default();
        let known = self
            .heard
            .entry(name.to_owned())
            .or_insert_with(|| (beat.to_owned(), now));
        if known.0 != beat {
            *known = (beat.to_owned(), now);
        }
        now.duration_since(known.1) > self.grace
    }
}

/// Marks a pod of a lost node as not ready. `over` also deletes it, as far as that is possible
/// without its kubelet. Pods of daemon sets stay.
fn lose(api: &Client, pod: &Value, over: bool) -> Result<()> {
    let mut changed = pod.clone();
    if is_ready(pod) {
        let conditions = changed["status"]
            .get_mut("conditions")
            .and_then(Value::as_array_mut);
        for condition in conditions
            .into_iter()
            .flatten()
            .filter(|c| c["type"] == "Ready")
        {
            condition["status"] = json!("False");
            condition["lastTransitionTime"] = json!(lifecycle::now());
        }
        put(api, &changed, "status")?;
    }
    let is_daemon = pod["metadata"]["ownerReferences"][0]["kind"] == "DaemonSet";
    if !over || is_daemon || !pod["metadata"]["deletionTimestamp"].is_null() {
        return Ok(());
    }
    if let Some(metadata) = changed.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
    }
    changed["status"]["reason"] = json!("NodeLost");
    changed["status"]["message"] = json!(format!(
        "Node {} which was running pod {} is unresponsive",
        pod["spec"]["nodeName"].as_str().unwrap_or_default(),
        pod["metadata"]["name"].as_str().unwrap_or_default()
    ));
    put(api, &changed, "status")?;
    delete(api, pod, false)
}

fn ready(node: &Value) -> Option<&Value> {
    let conditions = node["status"]["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == "Ready")
}

/// The node, marked as silent; `None` if it is marked already.
fn unknown(node: &Value) -> Option<Value> {
    if ready(node)?["status"] == "Unknown" {
        return None;
    }
    let mut node = node.clone();
    let conditions = node["status"]
        .get_mut("conditions")
        .and_then(Value::as_array_mut)?;
    for condition in conditions.iter_mut().filter(|c| c["type"] == "Ready") {
        condition["status"] = json!("Unknown");
        condition["reason"] = json!("NodeStatusUnknown");
        condition["message"] = json!("Kubelet stopped posting node status.");
        condition["lastTransitionTime"] = json!(lifecycle::now());
    }
    Some(node)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn node(beat: &str) -> Value {
        json!({"metadata": {"name": "a"}, "status": {"conditions": [
            {"type": "Ready", "status": "True", "lastHeartbeatTime": beat},
            {"type": "Other", "status": "True"},
        ]}})
    }

    #[test]
    fn a_kubelet_is_silent_when_its_heartbeat_stays_the_same() {
        let mut monitor = Monitor::new(Duration::from_secs(40), Duration::from_secs(300));
        let start = Instant::now();
        let mut silent = |beat: &str, seconds| {
            let now = start + Duration::from_secs(seconds);
            monitor.is_silent(&node(beat), now)
        };
        assert!(!silent("1", 0));
        assert!(!silent("1", 40));
        assert!(silent("1", 41));
        assert!(!silent("2", 42));
        assert!(!silent("2", 80));
        assert!(silent("2", 83));
    }

    #[test]
    fn a_silent_node_is_marked_once() {
        let marked = unknown(&node("1")).unwrap();
        let condition = ready(&marked).unwrap();
        assert_eq!(condition["status"], "Unknown");
        assert_eq!(condition["reason"], "NodeStatusUnknown");
        assert_eq!(condition["lastHeartbeatTime"], "1");
        assert_eq!(marked["status"]["conditions"][1]["status"], "True");
        assert_eq!(unknown(&marked), None);
    }
}
