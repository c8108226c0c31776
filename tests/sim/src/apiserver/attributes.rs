//! The attributes of a request, as the API's authorizers use them.

use serde::Deserialize;

use crate::server::Request;

/// A verb and its object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `get`, `list`, `create`, …
    pub verb: String,
    /// The whole path.
    pub path: String,
    /// The resource, if the path names one.
    pub resource: Option<Resource>,
}

/// The resource of a request.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Resource {
    /// The API group; empty for the core one.
    pub group: String,
    /// The version of the group.
    pub version: String,
    /// The namespace; empty for none or all.
    pub namespace: String,
    /// The resource's name, a plural.
    pub resource: String,
    /// The subresource; empty for the object itself.
    pub subresource: String,
    /// The object's name; empty for none.
    pub name: String,
    /// The rest of the path after the subresource.
    #[serde(skip)]
    pub rest: String,
}

impl Attributes {
    /// The attributes of `request`.
    pub fn of(request: &Request) -> Self {
        let resource = resource(&request.path);
        let named = resource.as_ref().is_none_or(|found| !found.name.is_empty());
        let verb = match (request.method.as_str(), named) {
            _ if resource.is_none() => return Self::of_path(&request.method, &request.path),
            ("GET", false) if watches(&request.query) => "watch",
            ("GET", false) => "list",
            ("GET" | "HEAD", _) => "get",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", true) => "delete",
            ("DELETE", false) => "deletecollection",
            _ => "",
        };
        Self {
            verb: verb.to_owned(),
            path: request.path.clone(),
            resource,
        }
    }

    fn of_path(method: &str, path: &str) -> Self {
        Self {
            verb: method.to_lowercase(),
            path: path.to_owned(),
            resource: None,
        }
    }

    /// The resource with its subresource, as rules name it.
    pub fn resource_name(&self) -> String {
        match &self.resource {
            Some(found) if found.subresource.is_empty() => found.resource.clone(),
            Some(found) => format!("{}/{}", found.resource, found.subresource),
            None => String::new(),
        }
    }
}

fn watches(query: &str) -> bool {
    query
        .split('&')
        .any(|pair| matches!(pair, "watch" | "watch=1" | "watch=true"))
}

/// Splits a path: `/api/VERSION` or `/apis/GROUP/VERSION`, then possibly `namespaces/NAME`, then
/// the resource, its name and its subresource.
fn resource(path: &str) -> Option<Resource> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version, rest) = match parts[..] {
        ["api", version, ref rest @ ..] => ("", version, rest),
        ["apis", group, version, ref rest @ ..] => (group, version, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, "status" | "finalize", ..] => (*namespace, rest),
        ["namespaces", namespace, inside @ ..] if !inside.is_empty() => (*namespace, inside),
        ["namespaces", namespace] => (*namespace, rest),
        _ => ("", rest),
    };
    let at = |index: usize| rest.get(index).copied().unwrap_or_default().to_owned();
    Some(Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        namespace: namespace.to_owned(),
        resource: rest.first().filter(|name| !name.is_empty())?.to_string(),
        name: at(1),
        subresource: at(2),
        rest: rest.get(3..).unwrap_or_default().join("/"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn of(method: &str, path: &str) -> Attributes {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        Attributes::of(&Request::test(method, path, query))
    }

    #[test]
    fn takes_paths_apart_as_the_api_does() {
        let asked = of("GET", "/api/v1/nodes/a/proxy/stats/summary");
        assert_eq!(asked.verb, "get");
        assert_eq!(asked.resource_name(), "nodes/proxy");
        let found = asked.resource.unwrap();
        assert_eq!(
            (found.name.as_str(), found.rest.as_str()),
            ("a", "stats/summary")
        );

        let asked = of("POST", "/apis/apps/v1/namespaces/kube-system/deployments");
        assert_eq!(asked.verb, "create");
        let found = asked.resource.unwrap();
        assert_eq!(found.group, "apps");
        assert_eq!(found.namespace, "kube-system");
        assert_eq!(found.resource, "deployments");
    }

    #[test]
    fn a_namespace_is_a_resource_too() {
        let found = of("GET", "/api/v1/namespaces/a").resource.unwrap();
        assert_eq!(found.resource, "namespaces");
        assert_eq!(found.name, "a");
        let found = of("PUT", "/api/v1/namespaces/a/status").resource.unwrap();
        assert_eq!(found.subresource, "status");
    }

    #[test]
    fn verbs_tell_one_object_from_many() {
        assert_eq!(of("GET", "/api/v1/nodes").verb, "list");
        assert_eq!(of("GET", "/api/v1/nodes?watch=true").verb, "watch");
        assert_eq!(of("DELETE", "/api/v1/nodes").verb, "deletecollection");
        assert_eq!(of("DELETE", "/api/v1/nodes/a").verb, "delete");
        assert_eq!(of("GET", "/healthz").verb, "get");
        assert_eq!(of("GET", "/healthz").resource, None);
        assert_eq!(of("GET", "/apis").resource, None);
    }
}
