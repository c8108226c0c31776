//! The controller `node`, as far as it tells that a kubelet went silent.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use crate::client::Client;
use crate::kinds::Kind;
use crate::lifecycle;

/// What is known of the nodes' kubelets.
pub struct Monitor {
    grace: Duration,
    heard: HashMap<String, (String, Instant)>,
}

impl Monitor {
    /// A monitor that waits as long as `grace` for a kubelet's next word.
    pub fn new(grace: Duration) -> Self {
        Self {
            grace,
            heard: HashMap::new(),
        }
    }

    /// Looks at every node, and marks those whose kubelet went silent.
    ///
    /// # Errors
    /// The nodes cannot be listed or written.
    pub fn look(&mut self, api: &Client) -> Result<()> {
        let Some(kind) = Kind::at("", "v1", "nodes") else {
            return Ok(());
        };
        let list = api.get(&kind.path(None, None))?.json()?;
        let nodes = list["items"].as_array().map_or(&[][..], Vec::as_slice);
        for node in nodes {
            if self.is_silent(node, Instant::now())
                && let Some(unknown) = unknown(node)
            {
                eprintln!("node {} went silent", node["metadata"]["name"]);
                super::put_part(api, &unknown, "status")?;
            }
        }
        Ok(())
    }

    /// What counts is when a new heartbeat was seen here: the nodes' clocks may differ.
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

fn ready(node: &Value) -> Option<&Value> {
    let conditions = node["status"]["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == "Ready")
}

/// The node, marked as not heard of; none if it is so marked already.
fn unknown(node: &Value) -> Option<Value> {
    if ready(node)?["status"] == "Unknown" {
        return None;
    }
    let mut node = node.clone();
    let conditions = node["status"]["conditions"].as_array_mut()?;
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
        let mut monitor = Monitor::new(Duration::from_secs(40));
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
