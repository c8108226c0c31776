//! The controller `daemonset`: a pod on every suitable node.

use anyhow::Result;
use serde_json::{Value, json};

use crate::client::Client;
use crate::{fit, names};

use super::api::{create, delete, each, is_active, is_ready, list, owned, pod_of, put_status};

/// The label with the hash of a pod's template.
const HASH: &str = "controller-revision-hash";

/// Processes every daemon set.
///
/// # Errors The first set that failed; the others are still processed.
pub fn sets(api: &Client) -> Result<()> {
    let sets = list(api, "daemonsets")?;
    if sets.is_empty() {
        return Ok(());
    }
    let nodes = list(api, "nodes")?;
    let pods = list(api, "pods")?;
    each(&sets, |set| {
        let template = &set["spec"]["template"];
        let hash = names::hash(template);
        let mut own = owned(&pods, set);
        own.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        let (wanted, unwanted): (Vec<&Value>, Vec<&Value>) = nodes
            .iter()
            .partition(|node| fit::unfit(&tolerant(&template["spec"]), node).is_none());
        put_status(api, set, status(set, &hash, &wanted, &own))?;
        each(unwanted, |node| {
            each(on(&own, node), |pod| delete(api, pod, false))
        })?;
        each(own.iter().copied().filter(|pod| !is_active(pod)), |pod| {
            delete(api, pod, false)
        })?;
        each(wanted.iter().copied(), |node| {
            let here = on(&own, node);
            if here.is_empty() {
                let pod = pod_on(set, node, &hash);
                create(api, "pods", &pod)?;
            }
            each(here.into_iter().skip(1), |pod| delete(api, pod, false))
        })?;
        replace_one(api, set, &hash, &own, wanted.len())
    })
}

fn on<'a>(pods: &[&'a Value], node: &Value) -> Vec<&'a Value> {
    let name = &node["metadata"]["name"];
    let here = pods.iter().copied();
    here.filter(|pod| pod["spec"]["nodeName"] == *name)
        .collect()
}

/// Daemons stay on nodes that are not ready.
fn tolerant(spec: &Value) -> Value {
    let mut spec = spec.clone();
    let mut tolerations = spec["tolerations"].as_array().cloned().unwrap_or_default();
    for key in [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ] {
        tolerations.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute"}));
    }
    spec["tolerations"] = json!(tolerations);
    spec
}

fn pod_on(set: &Value, node: &Value, hash: &str) -> Value {
    let mut pod = pod_of(set, &set["spec"]["template"]);
    pod["metadata"]["labels"][HASH] = json!(hash);
    pod["spec"] = tolerant(&pod["spec"]);
    pod["spec"]["nodeName"] = node["metadata"]["name"].clone();
    pod
}

/// Removes one pod of another template, as long as no other pod is missing.
fn replace_one(
    api: &Client,
    set: &Value,
    hash: &str,
    pods: &[&Value],
    wanted: usize,
) -> Result<()> {
    let ready = pods.iter().filter(|pod| is_ready(pod)).count();
    let old = pods
        .iter()
        .find(|pod| pod["metadata"]["labels"][HASH] != hash);
    match old {
        Some(pod) if set["spec"]["updateStrategy"]["type"] != "OnDelete" => {
            if ready >= wanted || !is_ready(pod) {
                delete(api, pod, false)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn status(set: &Value, hash: &str, wanted: &[&Value], pods: &[&Value]) -> Value {
    let here: Vec<&Value> = wanted.iter().flat_map(|node| on(pods, node)).collect();
    let ready = here.iter().filter(|pod| is_ready(pod)).count();
    let updated = here
        .iter()
        .filter(|pod| pod["metadata"]["labels"][HASH] == hash)
        .count();
    json!({
        "desiredNumberScheduled": wanted.len(), "currentNumberScheduled": here.len(),
        "numberMisscheduled": pods.len() - here.len(), "numberReady": ready,
        "numberAvailable": ready, "numberUnavailable": wanted.len().saturating_sub(ready),
        "updatedNumberScheduled": updated,
        "observedGeneration": set["metadata"]["generation"],
    })
}
