//! What the server serves: groups, versions and resources, in the form in which clients of any
//! version read them, and the schema of the objects.

use serde_json::{Value, json};

use crate::kinds::{KINDS, Kind};
use crate::server::Response;

/// The groups in the order of the real server, and their versions, the preferred one first.
const GROUPS: [(&str, &[&str]); 7] = [
    ("extensions", &["v1beta1"]),
    ("apps", &["v1", "v1beta2", "v1beta1"]),
    ("authentication.k8s.io", &["v1", "v1beta1"]),
    ("authorization.k8s.io", &["v1", "v1beta1"]),
    ("certificates.k8s.io", &["v1beta1"]),
    ("networking.k8s.io", &["v1"]),
    ("rbac.authorization.k8s.io", &["v1"]),
];
/// What can be done with the objects of every kind.
const VERBS: [&str; 7] = [
    "create", "delete", "get", "list", "patch", "update", "watch",
];
/// The kinds that `kubectl get all` shows.
const ALL: [&str; 5] = [
    "pods",
    "services",
    "deployments",
    "daemonsets",
    "replicasets",
];
/// The content type of a schema.
const SCHEMA: &str = "application/com.github.googleapis.gnostic.OpenAPIv2+protobuf; charset=utf-8";

/// Answers a request for a path of the discovery; `None` for other paths.
pub fn answer(path: &str) -> Option<Response> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let found = match parts[..] {
        ["api"] => json!({"kind": "APIVersions", "versions": ["v1"]}),
        ["api", "v1"] => resources("", "v1"),
        ["apis"] => json!({
            "kind": "APIGroupList", "apiVersion": "v1",
            "groups": GROUPS.iter().map(|(name, versions)| group(name, versions)).collect::<Value>(),
        }),
        ["apis", name] => {
            let (_, versions) = GROUPS.iter().find(|(known, _)| *known == name)?;
            let mut found = group(name, versions);
            found["kind"] = json!("APIGroup");
            found["apiVersion"] = json!("v1");
            found
        }
        ["apis", name, version] => {
            let (_, versions) = GROUPS.iter().find(|(known, _)| *known == name)?;
            versions
                .contains(&version)
                .then(|| resources(name, version))?
        }
        ["swagger-2.0.0.pb-v1"] => return Some(schema()),
        _ => return None,
    };
    Some(Response::json(200, &found))
}

fn group(name: &str, versions: &[&str]) -> Value {
    let version =
        |version: &&str| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    json!({
        "name": name,
        "versions": versions.iter().map(version).collect::<Value>(),
        "preferredVersion": versions.first().map(version),
        "serverAddressByClientCIDRs": null,
    })
}

fn resources(group: &str, version: &str) -> Value {
    let own = KINDS
        .iter()
        .filter(|kind| kind.group == group && kind.version == version);
    let mut found: Vec<Value> = own.flat_map(of_kind).collect();
    found.extend(others(group));
    let mut list = json!({"kind": "APIResourceList", "groupVersion": version, "resources": found});
    if !group.is_empty() {
        list["apiVersion"] = json!("v1");
        list["groupVersion"] = json!(format!("{group}/{version}"));
    }
    list
}

/// A kind and its subresources.
fn of_kind(kind: &Kind) -> Vec<Value> {
    let name = kind.resource;
    let mut object = resource(name, kind.kind, kind.namespaced, &VERBS);
    let short: Vec<&str> = kind.names.iter().skip(1).copied().collect();
    if !short.is_empty() {
        object["shortNames"] = json!(short);
    }
    if ALL.contains(&name) {
        object["categories"] = json!(["all"]);
    }
    let mut found = vec![object];
    let mut part = |part: &str, of: &str, verbs: &[&str]| {
        found.push(resource(
            &format!("{name}/{part}"),
            of,
            kind.namespaced,
            verbs,
        ));
    };
    if kind.has_status() {
        part("status", kind.kind, &["get", "patch", "update"]);
    }
    match name {
        "certificatesigningrequests" => part("approval", kind.kind, &["update"]),
        "nodes" => part("proxy", "Node", &["get"]),
        "pods" => {
            part("binding", "Binding", &["create"]);
            part("exec", "Pod", &["create", "get"]);
            part("log", "Pod", &["get"]);
        }
        _ => {}
    }
    found
}

/// Resources that are no objects in etcd.
fn others(group: &str) -> Vec<Value> {
    let created = |name: &str, kind: &str| resource(name, kind, false, &["create"]);
    match group {
        "" => {
            let mut found = resource(
                "componentstatuses",
                "ComponentStatus",
                false,
                &["get", "list"],
            );
            found["shortNames"] = json!(["cs"]);
            vec![found]
        }
        "authentication.k8s.io" => vec![created("tokenreviews", "TokenReview")],
        "authorization.k8s.io" => vec![
            created("selfsubjectaccessreviews", "SelfSubjectAccessReview"),
            created("subjectaccessreviews", "SubjectAccessReview"),
        ],
        _ => Vec::new(),
    }
}

fn resource(name: &str, kind: &str, namespaced: bool, verbs: &[&str]) -> Value {
    json!({
        "name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": verbs,
    })
}

/// A schema in the form of v1.9, which describes no object: a document of `OpenAPIv2` with its
/// version and its title, in Protocol Buffers.
fn schema() -> Response {
    let field = |number: u8, content: &[u8]| {
        let length = u8::try_from(content.len()).unwrap_or_default();
        [&[number << 3 | 2, length], content].concat()
    };
    let info = [field(1, b"Kubernetes"), field(2, b"v1.9.0")].concat();
    Response {
        status: 200,
        content_type: SCHEMA,
        body: [field(1, b"2.0"), field(2, &info)].concat(),
        rest: None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn get(path: &str) -> Value {
        serde_json::from_slice(&answer(path).unwrap().body).unwrap()
    }

    #[test]
    fn every_kind_is_listed_in_its_version_of_its_group() {
        let groups = get("/apis");
        for kind in &KINDS {
            let list = get(&match kind.group {
                "" => format!("/api/{}", kind.version),
                group => format!("/apis/{group}/{}", kind.version),
            });
            assert_eq!(list["groupVersion"], json!(kind.api_version()));
            let listed = list["resources"].as_array().unwrap();
            assert!(listed.iter().any(|r| r["name"] == json!(kind.resource)));
            let known = groups["groups"].as_array().unwrap();
            let known = known.iter().any(|group| group["name"] == json!(kind.group));
            assert!(known || kind.group.is_empty(), "{kind:?}");
        }
        assert_eq!(get("/apis/apps")["preferredVersion"]["version"], "v1");
    }

    #[test]
    fn what_v1_9_does_not_have_is_not_there() {
        for path in [
            "/openapi/v2",
            "/apis/apps/v2",
            "/apis/batch",
            "/api/v2",
            "/",
        ] {
            assert!(answer(path).is_none(), "{path}");
        }
    }

    #[test]
    fn the_schema_is_a_message_with_two_fields() {
        let body = answer("/swagger-2.0.0.pb-v1").unwrap().body;
        assert_eq!(&body[..5], b"\x0a\x032.0");
        assert_eq!((body[5], usize::from(body[6])), (0x12, body.len() - 7));
    }
}
