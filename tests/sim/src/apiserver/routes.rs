//! What the apiserver answers to an authorized request.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::client::{Client, Reply};
use crate::etcd::Store;
use crate::program::VERSION;
use crate::server::{Request, Response};

const NODES: &str = "/api/v1/nodes";
const ENDPOINTS: &str = "/api/v1/namespaces/kube-system/endpoints/";

/// Answers a request.
pub fn answer(store: &Store, request: &Request) -> Response {
    let result = match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/healthz" | "/healthz/etcd") => Ok(healthz(store)),
        ("GET", "/version") => Ok(Response::json(200, &version())),
        ("GET", "/api") => Ok(Response::json(
            200,
            &json!({"kind": "APIVersions", "versions": ["v1"]}),
        )),
        ("GET", "/api/v1/componentstatuses") => component_statuses(store),
        ("GET", NODES) => list_nodes(store),
        (method, path) => match stored_at(path) {
            Some(key) => object(store, method, &key, request),
            None => Ok(not_found(path)),
        },
    };
    result.unwrap_or_else(|error| status(500, "InternalError", &format!("{error:#}")))
}

/// A failure as the API words it.
pub fn status(code: u16, reason: &str, message: &str) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {},
        "status": "Failure", "message": message, "reason": reason, "code": code,
    });
    Response::json(code, &body)
}

fn not_found(path: &str) -> Response {
    status(
        404,
        "NotFound",
        &format!("the stand-in serves nothing at {path}"),
    )
}

fn healthz(store: &Store) -> Response {
    match store.check() {
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

/// Where an object the stand-ins write is kept in etcd; the same keys as the real
/// server's. Names are checked: they become part of a key.
fn stored_at(path: &str) -> Option<String> {
    let (directory, name) = if let Some(name) = path.strip_prefix("/api/v1/nodes/") {
        ("/minions/", name)
    } else {
        let name = path.strip_prefix(ENDPOINTS)?;
        ("/services/endpoints/kube-system/", name)
    };
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    (!name.is_empty() && name.chars().all(plain)).then(|| format!("{directory}{name}"))
}

fn object(store: &Store, method: &str, key: &str, request: &Request) -> Result<Response> {
    match method {
        "GET" => Ok(match store.get(key)? {
            Some(value) => Response {
                status: 200,
                content_type: "application/json",
                body: value,
            },
            None => status(404, "NotFound", &format!("{} not found", request.path)),
        }),
        "PUT" => {
            let Ok(value) = serde_json::from_slice::<Value>(&request.body) else {
                return Ok(status(400, "BadRequest", "the body is not JSON"));
            };
            store.put(key, value.to_string().as_bytes())?;
            Ok(Response::json(200, &value))
        }
        other => Ok(status(
            405,
            "MethodNotAllowed",
            &format!("the stand-in knows no {other} here"),
        )),
    }
}

fn list_nodes(store: &Store) -> Result<Response> {
    let items = store
        .list("/minions/")?
        .iter()
        .map(|value| serde_json::from_slice(value).context("a node in etcd"))
        .collect::<Result<Vec<Value>>>()?;
    Ok(Response::json(
        200,
        &json!({"kind": "NodeList", "apiVersion": "v1", "metadata": {}, "items": items}),
    ))
}

/// Asks the scheduler and the controller-manager on this machine, as the real
/// server does, and etcd's members.
fn component_statuses(store: &Store) -> Result<Response> {
    let mut items = Vec::new();
    for (name, port) in [("scheduler", 10251), ("controller-manager", 10252)] {
        let asked = Client::plain(&format!("http://127.0.0.1:{port}"))?.get("/healthz");
        items.push(component_status(name, asked, |reply| reply.text() == "ok"));
    }
    for (index, asked) in store.health().into_iter().enumerate() {
        items.push(component_status(&format!("etcd-{index}"), asked, |reply| {
            // etcd has answered "true" since 3.0 and true before.
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
