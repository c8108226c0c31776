//! The pods in a list of `kubectl get pods -o json`.

use serde_json::Value;

/// The pods, as `NAMESPACE/NAME`, that have not ended, are not being deleted, and for which `is_wanted` is true.
pub fn running(list: &Value, is_wanted: impl Fn(&Value) -> bool) -> Vec<String> {
    let pods = list["items"].as_array().into_iter().flatten();
    let runs = |pod: &&Value| {
        let phase = pod["status"]["phase"].as_str();
        !matches!(phase, Some("Succeeded" | "Failed"))
            && pod["metadata"]["deletionTimestamp"].is_null()
    };
    let name = |pod: &Value| {
        let part = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
        format!("{}/{}", part("namespace"), part("name"))
    };
    pods.filter(runs)
        .filter(|pod| is_wanted(pod))
        .map(name)
        .collect()
}
