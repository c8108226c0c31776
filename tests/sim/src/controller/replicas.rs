//! The controllers `deployment` and `replicaset`: the right number of pods, from the right
//! template.

use std::cmp::Reverse;

use anyhow::Result;
use serde_json::{Value, json};

use crate::client::Client;
use crate::{lifecycle, names};

use super::api::{
    create, delete, each, is_active, is_ready, list, owned, owner_reference, pod_of, put,
    put_status, text,
};

/// The label that differs between the sets of a deployment.
const HASH: &str = "pod-template-hash";

/// The most pods of a set that are created at once.
const BURST: usize = 50;

/// Processes every replica set.
///
/// # Errors The first set that failed; the others are still processed.
pub fn sets(api: &Client) -> Result<()> {
    let sets = list(api, "replicasets")?;
    let pods = list(api, "pods")?;
    each(&sets, |set| {
        let mut own = owned(&pods, set);
        own.retain(|pod| is_active(pod));
        let wanted = count(&set["spec"]["replicas"]);
        put_status(api, set, set_status(set, &own))?;
        for _ in own.len()..wanted.min(own.len() + BURST) {
            create(api, "pods", &pod_of(set, &set["spec"]["template"]))?;
        }
        // The order of removal: pods without a node, then pods that are not ready, then the
        // youngest.
        own.sort_by_key(|pod| {
            let bound = !pod["spec"]["nodeName"].is_null();
            (
                bound,
                is_ready(pod),
                Reverse(text(&pod["metadata"]["creationTimestamp"])),
            )
        });
        let many = own.len().saturating_sub(wanted);
        each(own.into_iter().take(many), |pod| delete(api, pod, false))
    })
}

fn set_status(set: &Value, pods: &[&Value]) -> Value {
    let ready = pods.iter().filter(|pod| is_ready(pod)).count();
    json!({
        "replicas": pods.len(), "fullyLabeledReplicas": pods.len(),
        "readyReplicas": ready, "availableReplicas": ready,
        "observedGeneration": set["metadata"]["generation"],
    })
}

fn count(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap_or(0)).unwrap_or(0)
}

/// Processes every deployment.
///
/// # Errors The first deployment that failed; the others are still processed.
pub fn deployments(api: &Client) -> Result<()> {
    let deployments = list(api, "deployments")?;
    let sets = list(api, "replicasets")?;
    each(&deployments, |deployment| {
        let own = owned(&sets, deployment);
        let (new, old): (Vec<&Value>, Vec<&Value>) = own
            .into_iter()
            .partition(|set| is_of(set, &deployment["spec"]["template"]));
        let new = new.first().copied();
        put_status(api, deployment, status(deployment, new, &old))?;
        if deployment["spec"]["paused"] == true {
            return Ok(());
        }
        roll(api, deployment, new, &old)
    })
}

/// Scales the new set up and the old ones down: before that with the strategy Recreate, else as
/// soon as the new pods are ready.
fn roll(api: &Client, deployment: &Value, new: Option<&Value>, old: &[&Value]) -> Result<()> {
    let replicas = &deployment["spec"]["replicas"];
    let recreates = deployment["spec"]["strategy"]["type"] == "Recreate";
    let left: usize = old
        .iter()
        .map(|set| count(&set["status"]["replicas"]))
        .sum();
    let ready = new.map_or(0, |set| count(&set["status"]["readyReplicas"]));
    let is_full = new.is_some() && ready >= count(replicas);
    if recreates || is_full {
        each(old.iter().copied(), |set| scale(api, set, &json!(0)))?;
    }
    if recreates && left > 0 {
        return Ok(());
    }
    match new {
        Some(set) => scale(api, set, replicas),
        None => create(api, "replicasets", &set_of(deployment)).map(drop),
    }
}

fn scale(api: &Client, set: &Value, replicas: &Value) -> Result<()> {
    if set["spec"]["replicas"] == *replicas {
        return Ok(());
    }
    let mut scaled = set.clone();
    scaled["spec"]["replicas"] = replicas.clone();
    put(api, &scaled, "")
}

fn is_of(set: &Value, template: &Value) -> bool {
    let mut own = set["spec"]["template"].clone();
    if let Some(labels) = own["metadata"]
        .get_mut("labels")
        .and_then(Value::as_object_mut)
    {
        labels.remove(HASH);
    }
    own == *template
}

fn set_of(deployment: &Value) -> Value {
    let (metadata, spec) = (&deployment["metadata"], &deployment["spec"]);
    let hash = names::hash(&spec["template"]);
    let mut set = json!({
        "kind": "ReplicaSet", "apiVersion": "extensions/v1beta1",
        "metadata": {
            "name": format!("{}-{hash}", text(&metadata["name"])),
            "namespace": metadata["namespace"],
            "labels": spec["template"]["metadata"]["labels"],
            "ownerReferences": owner_reference(deployment),
        },
        "spec": {
            "replicas": spec["replicas"], "selector": spec["selector"],
            "template": spec["template"],
        },
    });
    set["metadata"]["labels"][HASH] = json!(hash);
    set["spec"]["selector"]["matchLabels"][HASH] = json!(hash);
    set["spec"]["template"]["metadata"]["labels"][HASH] = json!(hash);
    set
}

fn status(deployment: &Value, new: Option<&Value>, old: &[&Value]) -> Value {
    let all = || new.into_iter().chain(old.iter().copied());
    let sum = |member: &str| -> usize { all().map(|set| count(&set["status"][member])).sum() };
    let wanted = count(&deployment["spec"]["replicas"]);
    let (available, updated) = (
        sum("availableReplicas"),
        new.map_or(0, |set| count(&set["status"]["replicas"])),
    );
    let enough = available >= wanted - wanted / 4;
    let complete = updated == wanted && available >= wanted && sum("replicas") == wanted;
    json!({
        "replicas": sum("replicas"), "updatedReplicas": updated,
        "readyReplicas": sum("readyReplicas"), "availableReplicas": available,
        "unavailableReplicas": wanted.saturating_sub(available),
        "observedGeneration": deployment["metadata"]["generation"],
        "conditions": conditions(deployment, enough, complete),
    })
}

/// Conditions: whether enough pods are available, and whether all are new. Each keeps the time of
/// its last change.
fn conditions(deployment: &Value, enough: bool, complete: bool) -> Value {
    let conditions = [
        if enough {
            (
                "Available",
                "True",
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.",
            )
        } else {
            (
                "Available",
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
            )
        },
        if complete {
            (
                "Progressing",
                "True",
                "NewReplicaSetAvailable",
                "ReplicaSet has successfully progressed.",
            )
        } else {
            (
                "Progressing",
                "True",
                "ReplicaSetUpdated",
                "ReplicaSet is progressing.",
            )
        },
    ];
    let had = deployment["status"]["conditions"].as_array();
    json!(conditions.map(|(kind, status, reason, message)| {
        let before = had
            .into_iter()
            .flatten()
            .find(|one| one["type"] == kind && one["status"] == status && one["reason"] == reason);
        let since = before.map_or(json!(lifecycle::now()), |one| {
            one["lastTransitionTime"].clone()
        });
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": since, "lastUpdateTime": since,
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_that_of_its_template_whatever_its_hash() {
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"x": 1}});
        let deployment = json!({
            "metadata": {"name": "d"}, "spec": {"template": template, "replicas": 2},
        });
        let set = set_of(&deployment);
        assert!(is_of(&set, &template));
        assert!(!is_of(
            &set,
            &json!({"metadata": {"labels": {"a": "c"}}, "spec": {"x": 1}})
        ));
        assert_eq!(
            set["spec"]["selector"]["matchLabels"],
            json!({HASH: names::hash(&template)})
        );
    }

    #[test]
    fn a_deployment_is_available_when_its_pods_are() {
        let deployment = json!({"metadata": {"generation": 3}, "spec": {"replicas": 2}});
        let set = |ready: u64| json!({"status": {"replicas": 2, "readyReplicas": ready, "availableReplicas": ready}});
        let one = status(&deployment, Some(&set(1)), &[]);
        assert_eq!(one["conditions"][0]["status"], "False");
        let both = status(&deployment, Some(&set(2)), &[]);
        assert_eq!(both["conditions"][0]["status"], "True");
        assert_eq!(both["conditions"][1]["reason"], "NewReplicaSetAvailable");
        assert_eq!(both["observedGeneration"], 3);
        let rolling = status(&deployment, Some(&set(0)), &[&set(2)]);
        assert_eq!(rolling["replicas"], 4);
        assert_eq!(rolling["conditions"][1]["reason"], "ReplicaSetUpdated");
    }
}
