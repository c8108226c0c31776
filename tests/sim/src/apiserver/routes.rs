//! The apiserver's answers to authorized requests.

use anyhow::Result;
use serde_json::{Value, json};

use crate::client::{Client, Reply};
use crate::etcd::Store;
use crate::kinds::Kind;
use crate::program::VERSION;
use crate::server::{Request, Response};
use crate::user::User;

use super::attributes::{Attributes, Resource};
use super::objects::{self, Asked};
use super::{Gate, answers, discovery, pods, removal, reviews, watches};

/// Answers an authorized request.
pub fn answer(gate: &Gate, user: &User, asked: &Attributes, request: &Request) -> Response {
    let result = match &asked.resource {
        Some(resource) => of_resource(gate, user, resource, request),
        None => Ok(of_path(&gate.store, request)),
    };
    result.unwrap_or_else(|error| answers::status(500, "InternalError", &format!("{error:#}")))
}

fn of_path(store: &Store, request: &Request) -> Response {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/healthz" | "/healthz/etcd") => healthz(store),
        ("GET", "/version") => Response::json(200, &version()),
        ("GET", path) => discovery::answer(path).unwrap_or_else(|| answers::no_path(path)),
        (_, path) => answers::no_path(path),
    }
}

fn of_resource(
    gate: &Gate,
    user: &User,
    resource: &Resource,
    request: &Request,
) -> Result<Response> {
    let Resource {
        group,
        version,
        resource: name,
        subresource,
        ..
    } = resource;
    let creates = request.method == "POST" && resource.name.is_empty();
    match (group.as_str(), version.as_str(), name.as_str()) {
        ("", "v1", "componentstatuses") if request.method == "GET" && resource.name.is_empty() => {
            component_statuses(&gate.store)
        }
        ("", "v1", "nodes") if subresource == "proxy" => {
            gate.kubelets.answer(&gate.store, resource, request)
        }
        ("", "v1", "pods") if subresource == "log" || subresource == "exec" => {
            gate.kubelets.of_pod(&gate.store, resource, request)
        }
        ("authorization.k8s.io", "v1" | "v1beta1", "subjectaccessreviews") if creates => {
            reviews::access(&gate.store, &gate.authorizer, request)
        }
        ("authorization.k8s.io", "v1" | "v1beta1", "selfsubjectaccessreviews") if creates => {
            reviews::own_access(&gate.store, &gate.authorizer, user, request)
        }
        ("authentication.k8s.io", "v1" | "v1beta1", "tokenreviews") if creates => {
            reviews::token(&gate.store, &gate.authenticator, request)
        }
        _ => match Kind::at(group, version, name) {
            Some(kind)
                if request.method == "GET"
                    && resource.name.is_empty()
                    && watches::is_watch(&request.query) =>
            {
                watches::answer(&gate.store, kind, resource, &request.query)
            }
            Some(kind) => {
                let asked = Asked {
                    store: &gate.store,
                    rules: &gate.rules,
                    kind,
                    resource,
                    user,
                    request,
                };
                if name == "pods" && subresource == "binding" && request.method == "POST" {
                    return bind(&asked);
                }
                if name == "pods" && subresource == "eviction" && request.method == "POST" {
                    return evict(&asked);
                }
                objects::answer(&asked)
            }
            None => Ok(answers::no_path(&request.path)),
        },
    }
}

/// Binds a pod to the node the request names.
fn bind(asked: &Asked<'_>) -> Result<Response> {
    let body: Value = serde_json::from_slice(&asked.request.body).unwrap_or_default();
    let Some(node) = body["target"]["name"].as_str() else {
        return Ok(answers::bad_request(
            "not a Binding with the name of a node",
        ));
    };
    let bound = objects::change_to(asked, |old| {
        let mut pod = old.clone();
        pods::bind(&mut pod, node)
            .map(|()| pod)
            .map_err(|problem| answers::status(409, "Conflict", &problem))
    })?;
    Ok(match bound {
        Ok(_) => Response::json(201, &answers::success()),
        Err(refusal) => refusal,
    })
}

/// Ends a pod as its deletion does: there are no PodDisruptionBudgets.
fn evict(asked: &Asked<'_>) -> Result<Response> {
    Ok(match removal::delete(asked)? {
        Ok(_) => Response::json(201, &answers::success()),
        Err(refusal) => refusal,
    })
}

/// As in v1.9: it is enough that etcd accepts connections, with or without a leader.
fn healthz(store: &Store) -> Response {
    match store.reach() {
        Ok(()) => Response::text(200, "ok"),
        Err(error) => {
            eprintln!("healthz check failed: {error:#}");
            Response::text(
                500,
                "[+]ping ok\n[-]etcd failed: reason withheld\nhealthz check failed\n",
            )
        }
    }
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "9", "gitVersion": VERSION,
        "gitTreeState": "appliance test stand-in; not the real kube-apiserver",
        "platform": "linux/amd64",
    })
}

/// Asks the scheduler and the controller-manager on this machine, like the real server, and etcd's
/// members.
fn component_statuses(store: &Store) -> Result<Response> {
    let mut items = Vec::new();
    for (name, port) in [("scheduler", 10251), ("controller-manager", 10252)] {
        let asked = Client::plain(&format!("http://127.0.0.1:{port}"))?.get("/healthz");
        items.push(component_status(name, asked, |reply| reply.text() == "ok"));
    }
    for (index, asked) in store.health().into_iter().enumerate() {
        items.push(component_status(&format!("etcd-{index}"), asked, |reply| {
            // etcd answers "true" since 3.0, and true before.
            reply.json().is_ok_and(|health| {
                health["health"] == json!("true") || health["health"] == json!(true)
            })
        }));
    }
    let list = json!({
        "kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": items,
    });
    Ok(Response::json(200, &list))
}

fn component_status(name: &str, asked: Result<Reply>, healthy: impl Fn(&Reply) -> bool) -> Value {
    let (state, message) = match asked {
        Ok(reply) if reply.status == 200 && healthy(&reply) => ("True", reply.text()),
        Ok(reply) => ("False", reply.text()),
        Err(error) => ("False", format!("{error:#}")),
    };
    json!({
        "metadata": {"name": name},
        "conditions": [{"type": "Healthy", "status": state, "message": message}],
    })
}
