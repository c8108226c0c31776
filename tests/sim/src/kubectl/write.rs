//! `apply`, `delete` and `certificate`.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use crate::kinds::Kind;
use crate::lifecycle;

use super::command::{Command, accepted};
use super::manifests::{self, Manifest};

/// The annotation with the object that kubectl applied last.
const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// `apply -f FILE`: creates the objects, or changes them to the content of the files.
///
/// # Errors No file, or objects that the server does not accept; the others are still applied.
pub fn apply(command: &Command) -> Result<()> {
    if command.files.is_empty() {
        bail!("error: You must provide one or more resources by argument or filename.");
    }
    each(manifests::read(command)?, |manifest| {
        let operation = apply_one(command, manifest)?;
        tell(command, manifest.kind, &manifest.name, operation);
        Ok(())
    })
}

/// `create -f FILE`: creates the objects.
///
/// # Errors No file, or objects that the server does not accept; the others are still created.
pub fn create(command: &Command) -> Result<()> {
    if command.files.is_empty() {
        bail!("error: You must provide one or more resources by argument or filename.");
    }
    each(manifests::read(command)?, |manifest| {
        let made = command.send(|client| client.post(&manifest.directory(), &manifest.object))?;
        accepted(made)?;
        tell(command, manifest.kind, &manifest.name, "created");
        Ok(())
    })
}

/// Does the same with all objects, and returns the last failure.
fn each(manifests: Vec<Manifest>, act: impl Fn(&Manifest) -> Result<()>) -> Result<()> {
    let mut failed = None;
    for manifest in manifests {
        if let Err(error) = act(&manifest)
            && let Some(earlier) = failed.replace(error)
        {
            eprintln!("{earlier:#}");
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Prints the change of an object.
pub fn tell(command: &Command, kind: &Kind, name: &str, operation: &str) {
    let singular = kind.singular();
    if command.output.as_deref() == Some("name") {
        println!("{singular}/{name}");
    } else {
        println!("{singular} \"{name}\" {operation}");
    }
}

fn apply_one(command: &Command, manifest: &Manifest) -> Result<&'static str> {
    let path = manifest.path();
    let mut new = manifest.object.clone();
    let mut applied = new.clone();
    if !applied["metadata"]["annotations"].is_object() {
        applied["metadata"]["annotations"] = json!({});
    }
    new["metadata"]["annotations"][APPLIED] = json!(format!("{applied}\n"));
    let reply = command.send(|client| client.get(&path))?;
    if reply.status == 404 {
        let made = command.send(|client| client.post(&manifest.directory(), &new))?;
        accepted(made).context("error when creating")?;
        return Ok("created");
    }
    let live = accepted(reply)?.json()?;
    let old = live["metadata"]["annotations"][APPLIED].as_str();
    let old = old.and_then(|old| serde_json::from_str(old).ok());
    let patch = difference(&old.unwrap_or_default(), &new, &live);
    // v1.9 sends an empty namespace with every object that has none, and therefore reports it as
    // configured.
    if patch.is_empty() && manifest.kind.namespaced {
        return Ok("unchanged");
    }
    let changed = command.send(|client| client.patch(&path, &json!(patch)))?;
    accepted(changed).context("error when applying patch")?;
    Ok("configured")
}

/// The patch from `live` to `new`; values that were applied before and are not in `new` are
/// removed. Lists are changed as a whole.
fn difference(old: &Value, new: &Value, live: &Value) -> Map<String, Value> {
    let mut patch = Map::new();
    for (name, wanted) in new.as_object().into_iter().flatten() {
        let found = &live[name];
        if wanted.is_object() && found.is_object() {
            let inner = difference(&old[name], wanted, found);
            if !inner.is_empty() {
                patch.insert(name.clone(), json!(inner));
            }
        } else if wanted != found
            && !(wanted.is_array() && *wanted == old[name] && says(found, wanted))
        {
            patch.insert(name.clone(), wanted.clone());
        }
    }
    for (name, _) in old.as_object().into_iter().flatten() {
        if new[name].is_null() && !live[name].is_null() {
            patch.insert(name.clone(), Value::Null);
        }
    }
    patch
}

/// Whether everything in `wanted` is in `found`: the server completes the items of lists.
fn says(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(_), Value::Object(wanted)) => wanted
            .iter()
            .all(|(name, value)| value.is_null() || says(&found[name], value)),
        (Value::Array(found), Value::Array(wanted)) => {
            let pairs = found.iter().zip(wanted);
            found.len() == wanted.len() && pairs.into_iter().all(|(f, w)| says(f, w))
        }
        _ => found == wanted,
    }
}

/// `delete KIND NAME…`, `delete KIND/NAME` or `delete -f FILE`.
///
/// # Errors No object named, or a missing object.
pub fn delete(command: &Command, wanted: &[&str]) -> Result<()> {
    if !command.files.is_empty() {
        return each(manifests::read(command)?, |manifest| {
            delete_one(command, manifest.kind, &manifest.path(), &manifest.name)
        });
    }
    let mut named = Vec::new();
    for (kind, name) in super::get::named(wanted)? {
        match name {
            Some(name) => named.push((kind, name.to_owned())),
            None if command.all || command.selector.is_some() => {
                let items = super::get::list(command, kind)?;
                let names = items
                    .iter()
                    .filter_map(|item| item["metadata"]["name"].as_str());
                named.extend(names.map(|name| (kind, name.to_owned())));
            }
            None => bail!(
                "error: resource(s) were provided, but no name, label selector, or --all flag \
                 specified"
            ),
        }
    }
    if wanted.is_empty() {
        bail!("error: You must provide one or more resources by argument or filename.");
    }
    for (kind, name) in named {
        let path = kind.path(Some(command.namespace()), Some(&name));
        delete_one(command, kind, &path, &name)?;
    }
    Ok(())
}

fn delete_one(command: &Command, kind: &Kind, path: &str, name: &str) -> Result<()> {
    let path = match command.option("--grace-period") {
        Some(seconds) => format!("{path}?gracePeriodSeconds={seconds}"),
        None => path.to_owned(),
    };
    let reply = command.send(|client| client.delete(&path))?;
    if reply.status == 404 && command.ignore_not_found {
        return Ok(());
    }
    accepted(reply)?;
    tell(command, kind, name, "deleted");
    Ok(())
}

/// `certificate approve NAME…` and `certificate deny NAME…`.
///
/// # Errors No name, or a missing request.
pub fn certificate(command: &Command, verdict: &str, names: &[&str]) -> Result<()> {
    if names.is_empty() {
        bail!("error: one or more CSRs must be specified as <name> or -f <filename>");
    }
    let kind = Kind::named("csr").context("no kind of signing requests")?;
    let (condition, reason, done) = match verdict {
        "approve" => ("Approved", "KubectlApprove", "approved"),
        _ => ("Denied", "KubectlDeny", "denied"),
    };
    for name in names {
        let path = kind.path(None, Some(name));
        let mut object = command.ask(&path)?.json()?;
        let conditions = object["status"]["conditions"].as_array().cloned();
        let mut conditions = conditions.unwrap_or_default();
        if !conditions.iter().any(|found| found["type"] == condition) {
            conditions.push(json!({
                "type": condition, "reason": reason,
                "message": format!("This CSR was {done} by kubectl certificate {verdict}."),
                "lastUpdateTime": lifecycle::now(),
            }));
        }
        object["status"]["conditions"] = json!(conditions);
        accepted(command.send(|client| client.put(&format!("{path}/approval"), &object))?)?;
        tell(command, kind, name, done);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_what_the_file_says_otherwise_or_no_more() {
        let old = json!({"a": {"b": 1, "gone": 1}, "never": 1});
        let new = json!({"a": {"b": 1, "c": [1]}, "d": 2});
        let live = json!({"a": {"b": 1, "c": [1, 2], "gone": 1, "others": 1}, "d": 2});
        let patch = difference(&old, &new, &live);
        assert_eq!(json!(patch), json!({"a": {"c": [1], "gone": null}}));
        let live = json!({"a": {"b": 1, "c": [1], "others": 1}, "d": 2});
        assert!(difference(&old, &new, &live).is_empty());
    }

    #[test]
    fn what_the_server_adds_in_lists_is_no_difference() {
        let file = |port: u64| json!({"ports": [{"port": port}]});
        let live = json!({"ports": [{"port": 1, "nodePort": 20000}]});
        assert!(difference(&file(1), &file(1), &live).is_empty());
        assert_eq!(json!(difference(&file(1), &file(2), &live)), file(2));
        // Remove values that were in the file before and are not in it now.
        assert_eq!(json!(difference(&live, &file(1), &live)), file(1));
    }
}
