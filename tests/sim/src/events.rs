//! Events of objects.

use serde_json::{Value, json};

use crate::client::Client;
use crate::lifecycle;
use crate::names;

/// Records an event of a pod. If it cannot be written, that is only logged: events are for people.
pub fn record(api: &Client, component: &str, pod: &Value, what: (&str, &str, &str)) {
    let (kind, reason, message) = what;
    let metadata = &pod["metadata"];
    let (namespace, name) = (
        metadata["namespace"].as_str().unwrap_or_default(),
        metadata["name"].as_str().unwrap_or_default(),
    );
    let now = lifecycle::now();
    let event = json!({
        "kind": "Event", "apiVersion": "v1",
        "metadata": {
            "name": format!("{name}.{}{}", names::random_end(), names::random_end()),
            "namespace": namespace,
        },
        "involvedObject": {
            "kind": "Pod", "apiVersion": "v1", "namespace": namespace, "name": name,
            "uid": metadata["uid"],
        },
        "type": kind, "reason": reason, "message": message, "count": 1,
        "source": {"component": component}, "firstTimestamp": now, "lastTimestamp": now,
    });
    let path = format!("/api/v1/namespaces/{namespace}/events");
    if let Err(error) = api.post(&path, &event).and_then(|reply| reply.json()) {
        eprintln!("event {reason} of pod {namespace}/{name}: {error:#}");
    }
}
