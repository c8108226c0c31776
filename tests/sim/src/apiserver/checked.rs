//! Completes and checks objects before they are stored.

use serde_json::{Value, json};

use crate::csr;
use crate::kinds::Kind;
use crate::lifecycle;
use crate::names;
use crate::server::Response;
use crate::user::User;

use super::{answers, rbac};

/// Whether an object can have this name. Names become part of a key.
pub fn is_name(kind: &Kind, name: &str) -> bool {
    let free = kind.group == "rbac.authorization.k8s.io" || kind.group == "certificates.k8s.io";
    let bounded = !name.is_empty() && name.len() <= 253 && name != "." && name != "..";
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    let segment = |c: char| c.is_ascii_graphic() && !"/%".contains(c);
    bounded
        && if free {
            name.chars().all(segment)
        } else {
            let ends = |c: char| c.is_ascii_alphanumeric();
            name.chars().all(plain) && name.starts_with(ends) && name.ends_with(ends)
        }
}

/// Whether a PUT creates a missing object of this kind.
pub fn created_by_update(kind: &Kind) -> bool {
    kind.group == "rbac.authorization.k8s.io"
        || ["endpoints", "services", "events"].contains(&kind.resource)
}

/// Checks an object from a client for `namespace`.
///
/// # Errors The refusal: an object of another kind or namespace, or an invalid one.
pub fn object(kind: &Kind, namespace: &str, mut object: Value) -> Result<Value, Response> {
    let of = |name: &str, expected: &str| object[name].is_null() || object[name] == json!(expected);
    if !object.is_object() || !of("kind", kind.kind) || !of("apiVersion", &kind.api_version()) {
        return Err(answers::bad_request(&format!(
            "the object provided is unrecognized: it must be of type {} of {}",
            kind.kind,
            kind.api_version()
        )));
    }
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    let metadata = &mut object["metadata"];
    if kind.namespaced && namespace.is_empty() {
        return Err(answers::bad_request("an empty namespace may not be set"));
    }
    match metadata["namespace"].as_str().unwrap_or_default() {
        "" if kind.namespaced => metadata["namespace"] = json!(namespace),
        "" => {
            metadata
                .as_object_mut()
                .map(|members| members.remove("namespace"));
        }
        stated if stated != namespace => {
            let message = "the namespace of the provided object does not match the namespace \
                           sent on the request";
            return Err(answers::bad_request(message));
        }
        _ => {}
    }
    for texts in ["labels", "annotations"] {
        let members = metadata[texts].as_object();
        if members
            .into_iter()
            .flatten()
            .any(|(_, value)| !value.is_string())
        {
            let message = format!("{}: metadata.{texts} must be texts", kind.kind);
            return Err(answers::bad_request(&message));
        }
    }
    if kind.group == "rbac.authorization.k8s.io" && object["metadata"]["name"].is_string() {
        let problem = rbac::check(kind.kind, &object).err();
        problem.map_or(Ok(()), |problem| {
            let message = format!("{} cannot be handled: {problem:#}", kind.kind);
            Err(answers::bad_request(&message))
        })?;
    }
    Ok(object)
}

/// Completes a new object.
///
/// # Errors The refusal: a required name or part is missing, or the node belongs to another
/// kubelet.
pub fn new(kind: &Kind, mut object: Value, user: &User) -> Result<Value, Response> {
    let metadata = &mut object["metadata"];
    if let (None, Some(start)) = (metadata["name"].as_str(), metadata["generateName"].as_str()) {
        metadata["name"] = json!(format!("{start}{}", names::random_end()));
    }
    let name = metadata["name"].as_str().unwrap_or_default().to_owned();
    if name.is_empty() {
        let problem = "metadata.name: Required value: name or generateName is required";
        return Err(answers::invalid(kind, "", problem));
    }
    if !is_name(kind, &name) {
        let problem = format!("metadata.name: Invalid value: {name:?}");
        return Err(answers::invalid(kind, &name, &problem));
    }
    let restricted = user
        .node()
        .filter(|node| kind.kind == "Node" && *node != name);
    if let Some(node) = restricted {
        let message = format!("nodes {name:?} is forbidden: node {node:?} cannot modify it");
        return Err(answers::status(403, "Forbidden", &message));
    }
    if kind.kind == "CertificateSigningRequest" {
        request(kind, &name, &mut object, user)?;
    }
    Ok(object)
}

/// The requester of a certificate is never read from the object.
fn request(kind: &Kind, name: &str, object: &mut Value, user: &User) -> Result<(), Response> {
    if let Err(problem) = csr::Request::of(object) {
        let problem = format!("spec.request: Invalid value: {problem:#}");
        return Err(answers::invalid(kind, name, &problem));
    }
    let usages = object["spec"]["usages"].as_array();
    if usages.is_none_or(Vec::is_empty) {
        let problem = "spec.usages: Required value: usages must be provided";
        return Err(answers::invalid(kind, name, problem));
    }
    let spec = &mut object["spec"];
    spec["username"] = json!(user.name);
    spec["groups"] = json!(user.groups);
    for member in ["uid", "extra"] {
        spec.as_object_mut().map(|members| members.remove(member));
    }
    object["status"] = json!({});
    Ok(())
}

/// Combines an object with a client's new state of it: separate requests write separate parts of an
/// object.
pub fn changed(kind: &Kind, part: &str, old: &Value, new: Value) -> Value {
    let requested = kind.kind == "CertificateSigningRequest";
    let mut object = match part {
        "" => new,
        "approval" => {
            let mut object = old.clone();
            object["status"]["conditions"] = stamped(new["status"]["conditions"].clone());
            return object;
        }
        _ => {
            let mut object = old.clone();
            object["status"] = new["status"].clone();
            if requested {
                object["status"]["conditions"] = old["status"]["conditions"].clone();
            }
            return object;
        }
    };
    for member in ["uid", "creationTimestamp"] {
        object["metadata"][member] = old["metadata"][member].clone();
    }
    if requested {
        object["spec"] = old["spec"].clone();
    }
    // A request for a node may write its status, too; for all other objects, a separate request
    // writes it.
    if kind.has_status() && kind.kind != "Node" {
        object["status"] = old["status"].clone();
    }
    object
}

fn stamped(mut conditions: Value) -> Value {
    for condition in conditions.as_array_mut().into_iter().flatten() {
        if condition["lastUpdateTime"].is_null() {
            condition["lastUpdateTime"] = json!(lifecycle::now());
        }
    }
    conditions
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn kind(word: &str) -> &'static Kind {
        Kind::named(word).unwrap()
    }

    #[test]
    fn names_cannot_leave_their_directory_in_etcd() {
        for bad in ["", ".", "..", "a/b", "a%2Fb", "a b"] {
            assert!(!is_name(kind("nodes"), bad), "{bad}");
            assert!(!is_name(kind("csr"), bad), "{bad}");
        }
        assert!(is_name(kind("nodes"), "192.0.2.1"));
        assert!(!is_name(kind("nodes"), "system:x"));
        assert!(is_name(kind("clusterrole"), "system:x"));
        assert!(is_name(kind("csr"), "node-csr-Ab_c-D"));
    }

    #[test]
    fn an_object_is_of_its_kind_and_namespace() {
        let check = |object: Value| object_of(object).is_ok();
        fn object_of(object: Value) -> Result<Value, Response> {
            super::object(kind("cm"), "n", object)
        }
        assert!(check(json!({"metadata": {"name": "a"}})));
        assert!(check(
            json!({"kind": "ConfigMap", "metadata": {"namespace": "n"}})
        ));
        assert!(!check(json!({"kind": "Secret"})));
        assert!(!check(json!({"apiVersion": "v2"})));
        assert!(!check(json!({"metadata": {"namespace": "m"}})));
        assert!(!check(json!({"metadata": {"labels": {"a": true}}})));
        assert_eq!(
            object_of(json!({})).ok().unwrap()["metadata"]["namespace"],
            "n"
        );
    }

    #[test]
    fn a_kubelet_makes_no_other_node() {
        let user = User::authenticated("system:node:a".into(), vec!["system:nodes".into()]);
        let make = |name: &str| new(kind("nodes"), json!({"metadata": {"name": name}}), &user);
        assert!(make("a").is_ok());
        assert_eq!(make("b").err().unwrap().status, 403);
        assert_eq!(make("").err().unwrap().status, 422);
    }

    #[test]
    fn a_missing_name_is_made() {
        let object = json!({"metadata": {"generateName": "csr-"}});
        let made = new(kind("cm"), object, &User::anonymous()).ok().unwrap();
        let name = made["metadata"]["name"].as_str().unwrap();
        assert!(name.starts_with("csr-") && name.len() == 9, "{name}");
    }

    #[test]
    fn who_asks_for_a_certificate_is_not_taken_from_the_request() {
        let key = rcgen::KeyPair::generate().unwrap();
        let request = rcgen::CertificateParams::default().serialize_request(&key);
        let text = STANDARD.encode(request.unwrap().pem().unwrap());
        let object = |request: &str| {
            json!({
                "metadata": {"name": "a"},
                "spec": {
                    "request": request, "usages": ["client auth"], "username": "system:node:x",
                    "groups": ["system:masters"], "uid": "1",
                },
                "status": {"conditions": [{"type": "Approved"}]},
            })
        };
        let user = User::authenticated("u".into(), vec!["g".into()]);
        let made = new(kind("csr"), object(&text), &user).ok().unwrap();
        assert_eq!(made["spec"]["username"], "u");
        assert_eq!(made["spec"]["groups"], json!(["g", "system:authenticated"]));
        assert_eq!(made["spec"]["uid"], json!(null));
        assert_eq!(made["status"], json!({}));
        let refused = new(kind("csr"), object("YWJj"), &user).err().unwrap();
        assert_eq!(refused.status, 422);
    }

    #[test]
    fn approval_and_certificate_are_written_apart() {
        let old = json!({"metadata": {}, "spec": {"a": 1}, "status": {}});
        let new = json!({
            "metadata": {}, "spec": {"a": 2},
            "status": {"certificate": "x", "conditions": [{"type": "Approved"}]},
        });
        let approved = changed(kind("csr"), "approval", &old, new.clone());
        assert_eq!(approved["spec"]["a"], 1);
        assert_eq!(approved["status"]["certificate"], json!(null));
        assert!(approved["status"]["conditions"][0]["lastUpdateTime"].is_string());
        let signed = changed(kind("csr"), "status", &old, new.clone());
        assert_eq!(signed["status"]["certificate"], "x");
        assert_eq!(signed["status"]["conditions"], json!(null));
        let neither = changed(kind("csr"), "", &old, new);
        assert_eq!(neither["status"], json!({}));
        assert_eq!(neither["spec"]["a"], 1);
    }
}
