//! How controllers read and write objects.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::client::Client;
use crate::kinds::Kind;

/// Every object of a kind.
///
/// # Errors
/// The API does not answer or refuses.
pub fn list(api: &Client, resource: &str) -> Result<Vec<Value>> {
    let kind = Kind::named(resource).with_context(|| format!("no kind of {resource}"))?;
    api.list(&kind.path(None, None))
}

/// The path of an object, or of a subresource.
///
/// # Errors An object of an unknown kind.
pub fn path(object: &Value, part: &str) -> Result<String> {
    let kind = Kind::of(&text(&object["apiVersion"]), &text(&object["kind"]));
    let kind = kind.context("an object of an unknown kind")?;
    let metadata = &object["metadata"];
    let path = kind.path(metadata["namespace"].as_str(), metadata["name"].as_str());
    Ok(if part.is_empty() {
        path
    } else {
        format!("{path}/{part}")
    })
}

/// Writes an object, or a subresource.
///
/// # Errors The API does not answer or refuses.
pub fn put(api: &Client, object: &Value, part: &str) -> Result<()> {
    let path = path(object, part)?;
    api.put(&path, object)?.json().context(path)?;
    Ok(())
}

/// Creates an object.
///
/// # Errors The API does not answer or refuses.
pub fn create(api: &Client, resource: &str, object: &Value) -> Result<Value> {
    let kind = Kind::named(resource).with_context(|| format!("no kind of {resource}"))?;
    let path = kind.path(object["metadata"]["namespace"].as_str(), None);
    api.post(&path, object)?.json().context(path)
}

/// Deletes an object. A missing object is no error.
///
/// # Errors The API does not answer or refuses.
pub fn delete(api: &Client, object: &Value, at_once: bool) -> Result<()> {
    let mut path = path(object, "")?;
    if at_once {
        path.push_str("?gracePeriodSeconds=0");
    }
    let reply = api.delete(&path)?;
    if !matches!(reply.status, 200 | 404) {
        bail!("{path}: answered {}: {}", reply.status, reply.text());
    }
    Ok(())
}

/// Does the same with every object, and returns the first failure.
///
/// # Errors The error of the first object that failed.
pub fn each<'a>(
    objects: impl IntoIterator<Item = &'a Value>,
    mut act: impl FnMut(&Value) -> Result<()>,
) -> Result<()> {
    let mut done = Ok(());
    for object in objects {
        let acted = act(object).with_context(|| named(object));
        done = done.and(acted);
    }
    done
}

/// The object's kind, namespace and name, for messages.
pub fn named(object: &Value) -> String {
    let metadata = &object["metadata"];
    format!(
        "{} {}/{}",
        text(&object["kind"]),
        text(&metadata["namespace"]),
        text(&metadata["name"])
    )
}

/// The text of a value; empty if it is not text.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The owner reference that names `owner`.
pub fn owner_reference(owner: &Value) -> Value {
    json!([{
        "apiVersion": owner["apiVersion"], "kind": owner["kind"],
        "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true,
    }])
}

/// The uid of an object's owner.
pub fn owner(object: &Value) -> Option<&str> {
    let references = object["metadata"]["ownerReferences"].as_array()?;
    let mut owners = references.iter().filter(|one| one["controller"] == true);
    owners.next()?["uid"].as_str()
}

/// The objects that belong to `owner`.
pub fn owned<'a>(objects: &'a [Value], owner: &Value) -> Vec<&'a Value> {
    let uid = owner["metadata"]["uid"].as_str();
    let own = objects.iter().filter(|object| self::owner(object) == uid);
    own.collect()
}

/// Whether the pod is ready.
pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Whether the pod runs or will run: it has not ended and is not being deleted.
pub fn is_active(pod: &Value) -> bool {
    let ended = ["Failed", "Succeeded"].contains(&text(&pod["status"]["phase"]).as_str());
    !ended && pod["metadata"]["deletionTimestamp"].is_null()
}

/// A pod from a template, with the owner `owner`.
pub fn pod_of(owner: &Value, template: &Value) -> Value {
    let metadata = &template["metadata"];
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "generateName": format!("{}-", text(&owner["metadata"]["name"])),
            "namespace": owner["metadata"]["namespace"],
            "labels": metadata["labels"], "annotations": metadata["annotations"],
            "ownerReferences": owner_reference(owner),
        },
        "spec": template["spec"],
    })
}

/// Writes an object's status, if it has changed.
///
/// # Errors The API does not answer or refuses.
pub fn put_status(api: &Client, object: &Value, status: Value) -> Result<()> {
    if object["status"] == status {
        return Ok(());
    }
    let mut changed = object.clone();
    changed["status"] = status;
    put(api, &changed, "status")
}
