//! Deletion: pods end gracefully, namespaces with everything in them, and services release their
//! addresses and ports.

use reqwest::Url;
use serde_json::{Value, json};

use crate::kinds::KINDS;
use crate::lifecycle;
use crate::server::Response;

use super::answers;
use super::objects::{Answer, Asked, answer_shown, change_to};

/// The namespaces of every cluster.
const LASTING: [&str; 3] = ["default", "kube-public", "kube-system"];

/// Deletes the requested object.
///
/// # Errors etcd does not answer.
pub fn delete(asked: &Asked<'_>) -> Answer {
    let name = &asked.resource.name;
    let Some((object, _)) = asked.read()? else {
        return Ok(Err(answers::not_found(asked.kind, name)));
    };
    match asked.kind.resource {
        "pods" if !at_once(asked, &object) => gracefully(asked, &object),
        "namespaces" if LASTING.contains(&name.as_str()) => {
            let message =
                format!("namespaces {name:?} is forbidden: this namespace may not be deleted");
            Ok(Err(answers::status(403, "Forbidden", &message)))
        }
        "namespaces" => namespace(asked, &object),
        _ => {
            asked.store.delete(&asked.key())?;
            if asked.kind.resource == "services" {
                asked.rules.ranges.release(asked.store, &object)?;
            }
            Ok(Ok(Response::json(200, &deleted(asked, &object))))
        }
    }
}

/// The answer to a deletion, with the object that is gone.
fn deleted(asked: &Asked<'_>, object: &Value) -> Value {
    let mut status = answers::success();
    status["details"] = json!({
        "name": asked.resource.name, "kind": asked.kind.resource,
        "uid": object["metadata"]["uid"],
    });
    if !asked.kind.group.is_empty() {
        status["details"]["group"] = json!(asked.kind.group);
    }
    status
}

/// The number of seconds for a pod to end, if the request has one.
fn grace(asked: &Asked<'_>) -> Option<u64> {
    let url = Url::parse(&format!("http://query/?{}", asked.request.query)).ok()?;
    let mut pairs = url.query_pairs();
    let stated = pairs.find(|(name, _)| name == "gracePeriodSeconds");
    let body: Value = serde_json::from_slice(&asked.request.body).unwrap_or_default();
    let stated = stated.and_then(|(_, value)| value.parse().ok());
    stated.or_else(|| body["gracePeriodSeconds"].as_u64())
}

/// A pod without a kubelet is removed at once.
fn at_once(asked: &Asked<'_>, pod: &Value) -> bool {
    grace(asked) == Some(0) || pod["spec"]["nodeName"].is_null()
}

fn gracefully(asked: &Asked<'_>, pod: &Value) -> Answer {
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return answer_shown(asked, 200);
    }
    let seconds = grace(asked).or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_u64());
    change_to(asked, |pod| {
        let mut pod = pod.clone();
        pod["metadata"]["deletionTimestamp"] = json!(lifecycle::now());
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(seconds.unwrap_or(30));
        Ok(pod)
    })
}

/// Objects in the namespace are removed with it; kubelets end pods that no longer exist.
fn namespace(asked: &Asked<'_>, object: &Value) -> Answer {
    let name = &asked.resource.name;
    let mut dying = object.clone();
    dying["status"]["phase"] = json!("Terminating");
    asked
        .store
        .put(&asked.key(), dying.to_string().as_bytes())?;
    for kind in KINDS.iter().filter(|kind| kind.namespaced) {
        for entry in asked.store.list(&format!("/{}/{name}/", kind.directory))? {
            let found: Value = serde_json::from_slice(&entry.value)?;
            if kind.resource == "services" {
                asked.rules.ranges.release(asked.store, &found)?;
            }
            let inside = found["metadata"]["name"].as_str().unwrap_or_default();
            asked
                .store
                .delete(&format!("/{}/{name}/{inside}", kind.directory))?;
        }
    }
    asked.store.delete(&asked.key())?;
    Ok(Ok(Response::json(200, &answers::success())))
}
