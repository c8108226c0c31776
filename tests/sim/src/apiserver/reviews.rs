//! Reviews: whether a user may do something, and to whom a token belongs.

use serde::Deserialize;
use serde_json::{Value, json};

use anyhow::Result;

use crate::etcd::Store;
use crate::server::{Request, Response};
use crate::user::User;

use super::answers;
use super::attributes::{Attributes, Resource};
use super::authn::Authenticator;
use super::authz::Authorizer;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    resource_attributes: Option<Value>,
    non_resource_attributes: Option<Path>,
    user: String,
    /// `v1beta1` calls them `group`.
    #[serde(alias = "group")]
    groups: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Path {
    path: String,
    verb: String,
}

/// Answers a `SubjectAccessReview`.
///
/// # Errors
/// The roles cannot be read.
pub fn access(store: &Store, authorizer: &Authorizer, request: &Request) -> Result<Response> {
    let Some((mut review, user, asked)) = read(&request.body) else {
        return Ok(answers::bad_request(
            "not a SubjectAccessReview that asks for a resource or a path",
        ));
    };
    review["status"] = json!({"allowed": authorizer.allows(store, &user, &asked)?});
    Ok(Response::json(201, &review))
}

fn read(body: &[u8]) -> Option<(Value, User, Attributes)> {
    let review: Value = serde_json::from_slice(body).ok()?;
    let spec = Spec::deserialize(&review["spec"]).ok()?;
    let groups = spec.groups.clone().unwrap_or_default();
    if spec.user.is_empty() && groups.is_empty() {
        return None;
    }
    let user = User {
        name: spec.user.clone(),
        groups,
    };
    Some((review, user, attributes(spec)?))
}

/// What a review asks for.
fn attributes(spec: Spec) -> Option<Attributes> {
    Some(
        match (spec.resource_attributes, spec.non_resource_attributes) {
            (Some(resource), None) => Attributes {
                verb: resource["verb"].as_str().unwrap_or_default().to_owned(),
                path: String::new(),
                resource: Some(Resource::deserialize(&resource).ok()?),
            },
            (None, Some(Path { path, verb })) => Attributes {
                verb,
                path,
                resource: None,
            },
            _ => return None,
        },
    )
}

/// Answers a `SelfSubjectAccessReview`: what the user who asks may do.
///
/// # Errors
/// The roles cannot be read.
pub fn own_access(
    store: &Store,
    authorizer: &Authorizer,
    user: &User,
    request: &Request,
) -> Result<Response> {
    let mut review: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let spec = Spec::deserialize(&review["spec"]).ok();
    let Some(asked) = spec.and_then(attributes) else {
        return Ok(answers::bad_request(
            "not a SelfSubjectAccessReview that asks for a resource or a path",
        ));
    };
    review["status"] = json!({"allowed": authorizer.allows(store, user, &asked)?});
    Ok(Response::json(201, &review))
}

/// Answers a `TokenReview`.
///
/// # Errors
/// etcd does not answer.
pub fn token(store: &Store, authenticator: &Authenticator, request: &Request) -> Result<Response> {
    let Ok(mut review) = serde_json::from_slice::<Value>(&request.body) else {
        return Ok(answers::bad_request("the body is not JSON"));
    };
    let token = review["spec"]["token"].as_str().unwrap_or_default();
    review["status"] = match authenticator.token_user(store, token)? {
        Some(user) => json!({
            "authenticated": true,
            "user": {"username": user.name, "groups": user.groups},
        }),
        None => json!({"user": {}, "error": "invalid bearer token"}),
    };
    Ok(Response::json(201, &review))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn reads_reviews_of_both_versions() {
        for groups in ["groups", "group"] {
            let review = json!({"spec": {
                "user": "u", groups: ["g"],
                "resourceAttributes": {
                    "verb": "create", "group": "certificates.k8s.io",
                    "resource": "certificatesigningrequests", "subresource": "nodeclient",
                },
            }});
            let (_, user, asked) = read(review.to_string().as_bytes()).unwrap();
            assert!(user.is_in("g"));
            assert_eq!(asked.verb, "create");
            assert_eq!(
                asked.resource_name(),
                "certificatesigningrequests/nodeclient"
            );
        }
    }

    #[test]
    fn a_review_asks_for_one_thing_of_somebody() {
        let read = |spec: Value| read(json!({"spec": spec}).to_string().as_bytes()).is_some();
        assert!(read(
            json!({"user": "u", "nonResourceAttributes": {"path": "/", "verb": "get"}})
        ));
        assert!(!read(json!({"user": "u"})));
        assert!(!read(
            json!({"nonResourceAttributes": {"path": "/", "verb": "get"}})
        ));
    }
}
