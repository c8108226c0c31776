//! Objects kept in etcd: listed, read, written, patched and deleted.

use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::client::ANY_VERSION;
use crate::etcd::{Entry, Store};
use crate::kinds::Kind;
use crate::lifecycle;
use crate::server::{Request, Response};
use crate::user::User;

use super::admission::Rules;
use super::attributes::Resource;
use super::checked::{self, is_name};
use super::patches::{merge, merge_strategically};
use super::selector::Selector;
use super::{answers, pod_policies, removal};

/// How often a change is tried again after another change came first.
const TRIES: u32 = 5;

/// A request for objects of a kind.
pub struct Asked<'a> {
    /// Where the objects are kept.
    pub store: &'a Store,
    /// The settings of objects from the flags.
    pub rules: &'a Rules,
    /// The kind of the objects.
    pub kind: &'static Kind,
    /// The object, and its subresource.
    pub resource: &'a Resource,
    /// The user.
    pub user: &'a User,
    /// The request.
    pub request: &'a Request,
}

/// An answer or a refusal.
pub type Answer = Result<Result<Response, Response>>;

/// Answers a request.
///
/// # Errors
/// etcd does not answer.
pub fn answer(asked: &Asked<'_>) -> Result<Response> {
    let Resource {
        namespace,
        name,
        subresource,
        ..
    } = asked.resource;
    let named = !name.is_empty();
    if (!namespace.is_empty() && !is_name(asked.kind, namespace))
        || (named && !is_name(asked.kind, name))
    {
        return Ok(answers::not_found(asked.kind, name));
    }
    let whole = subresource.is_empty();
    let answer = match asked.request.method.as_str() {
        "GET" if !named => list(asked)?,
        "GET" if whole || subresource == "status" => answer_shown(asked, 200)?,
        "POST" if !named => create(asked)?,
        "PUT" if named && asked.has_part() => update(asked)?,
        "PATCH" if named && asked.has_part() => patch(asked)?,
        "DELETE" if named && whole => removal::delete(asked)?,
        _ => Err(answers::status(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )),
    };
    Ok(answer.unwrap_or_else(|refusal| refusal))
}

impl Asked<'_> {
    /// Whether the requested subresource can be written.
    fn has_part(&self) -> bool {
        match self.resource.subresource.as_str() {
            "" => true,
            "status" => self.kind.has_status(),
            "approval" => self.kind.kind == "CertificateSigningRequest",
            _ => false,
        }
    }

    /// The object's key in the store.
    pub fn key(&self) -> String {
        key(self.kind, &self.resource.namespace, &self.resource.name)
    }

    /// The object and the revision that wrote it, if it exists.
    ///
    /// # Errors etcd does not answer.
    pub fn read(&self) -> Result<Option<(Value, i64)>> {
        let entry = self.store.get(&self.key())?;
        entry.map(|entry| decode(&entry)).transpose()
    }

    /// The body as an object of this kind and namespace.
    fn body(&self) -> Result<Value, Response> {
        let object: Value = serde_json::from_slice(&self.request.body)
            .map_err(|_| answers::bad_request("the body is not JSON"))?;
        checked::object(self.kind, &self.resource.namespace, object)
    }
}

fn key(kind: &Kind, namespace: &str, name: &str) -> String {
    let directory = kind.directory;
    if kind.namespaced {
        format!("/{directory}/{namespace}/{name}")
    } else {
        format!("/{directory}/{name}")
    }
}

/// The keys of a kind in a namespace, or in all of them.
pub fn directory(kind: &Kind, namespace: &str) -> String {
    if kind.namespaced && !namespace.is_empty() {
        format!("/{}/{namespace}/", kind.directory)
    } else {
        format!("/{}/", kind.directory)
    }
}

fn decode(entry: &Entry) -> Result<(Value, i64)> {
    let value = serde_json::from_slice(&entry.value).context("an object in etcd")?;
    Ok((value, entry.revision))
}

/// An object in the form for answers: with its kind, which may be served in several groups, and the
/// revision that wrote it.
pub fn shown(kind: &Kind, mut object: Value, revision: i64) -> Value {
    object["kind"] = json!(kind.kind);
    object["apiVersion"] = json!(kind.api_version());
    let metadata = &object["metadata"];
    let path = kind.path(metadata["namespace"].as_str(), metadata["name"].as_str());
    object["metadata"]["selfLink"] = json!(path);
    object["metadata"]["resourceVersion"] = json!(revision.to_string());
    object
}

fn stored(mut object: Value) -> Vec<u8> {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
        metadata.remove("selfLink");
    }
    object.to_string().into_bytes()
}

/// Creates an object. Returns it in the form for answers, or `None` if it exists already.
///
/// # Errors etcd does not answer.
pub fn write_new(store: &Store, kind: &Kind, mut object: Value) -> Result<Option<Value>> {
    let uid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("a new uid")?;
    object["metadata"]["uid"] = json!(uid.trim());
    object["metadata"]["creationTimestamp"] = json!(lifecycle::now());
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
    let key = key(kind, text("namespace"), text("name"));
    let revision = store.create(&key, &stored(object.clone()))?;
    Ok(revision.map(|revision| shown(kind, object, revision)))
}

fn list(asked: &Asked<'_>) -> Answer {
    let kind = asked.kind;
    let selector = match Selector::of(&asked.request.query) {
        Ok(selector) => selector,
        Err(problem) => return Ok(Err(answers::bad_request(&problem.to_string()))),
    };
    let directory = directory(kind, &asked.resource.namespace);
    let query = &asked.request.query;
    let (entries, revision) = if query.split('&').any(|part| part == ANY_VERSION) {
        let entries = asked.store.recent(&directory)?;
        let last = entries.iter().map(|entry| entry.revision).max();
        (entries, last.unwrap_or_default())
    } else {
        let (entries, revision) = asked.store.list_at(&directory)?;
        (Arc::new(entries), revision)
    };
    let mut items = Vec::new();
    for entry in entries.iter() {
        let (object, revision) = decode(entry)?;
        if selector.selects(&object) {
            items.push(shown(kind, object, revision));
        }
    }
    let list = json!({
        "kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(),
        "metadata": {"resourceVersion": revision.to_string()}, "items": items,
    });
    Ok(Ok(Response::json(200, &list)))
}

/// Answers with the object as it is.
///
/// # Errors
/// etcd does not answer.
pub fn answer_shown(asked: &Asked<'_>, status: u16) -> Answer {
    Ok(match asked.read()? {
        Some((object, revision)) => {
            Ok(Response::json(status, &shown(asked.kind, object, revision)))
        }
        None => Err(answers::not_found(asked.kind, &asked.resource.name)),
    })
}

fn create(asked: &Asked<'_>) -> Answer {
    let made = asked
        .body()
        .and_then(|object| checked::new(asked.kind, object, asked.user));
    match made {
        Ok(object) => written(asked, object),
        Err(refusal) => Ok(Err(refusal)),
    }
}

fn written(asked: &Asked<'_>, object: Value) -> Answer {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
    let (namespace, name) = (text("namespace").to_owned(), text("name").to_owned());
    // An object that cannot be created gets no address and no port.
    if asked
        .store
        .get(&key(asked.kind, &namespace, &name))?
        .is_some()
    {
        return Ok(Err(answers::already_exists(asked.kind, &name)));
    }
    let object = match asked.rules.admit(asked.store, asked.kind, object)? {
        Ok(object) => object,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if asked.rules.asks_policies(asked.kind)
        && let Some(refusal) = pod_policies::refusal(asked.store, asked.user, &object)?
    {
        return Ok(Err(refusal));
    }
    Ok(match write_new(asked.store, asked.kind, object)? {
        Some(object) => Ok(Response::json(201, &object)),
        None => Err(answers::already_exists(asked.kind, &name)),
    })
}

fn update(asked: &Asked<'_>) -> Answer {
    let object = match asked.body() {
        Ok(object) => object,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if object["metadata"]["name"] != json!(asked.resource.name) {
        let message = "the name of the object does not match the name on the URL";
        return Ok(Err(answers::bad_request(message)));
    }
    let creates = asked.resource.subresource.is_empty() && checked::created_by_update(asked.kind);
    if creates && asked.read()?.is_none() {
        return written(asked, object);
    }
    change(asked, |_| Ok(object.clone()))
}

fn patch(asked: &Asked<'_>) -> Answer {
    const STRATEGIC: &str = "application/strategic-merge-patch+json";
    const KNOWN: [&str; 2] = ["application/merge-patch+json", STRATEGIC];
    if !KNOWN.contains(&asked.request.content_type.as_str()) {
        let message = format!(
            "the stand-in accepts only patches of {}",
            KNOWN.join(" and ")
        );
        return Ok(Err(answers::status(415, "UnsupportedMediaType", &message)));
    }
    let Ok(patch) = serde_json::from_slice::<Value>(&asked.request.body) else {
        return Ok(Err(answers::bad_request("the body is not JSON")));
    };
    let strategic = asked.request.content_type == STRATEGIC;
    change(asked, |old| {
        let mut object = old.clone();
        // It may have been written in another group.
        object["kind"] = json!(asked.kind.kind);
        object["apiVersion"] = json!(asked.kind.api_version());
        if strategic {
            merge_strategically(&mut object, &patch).map_err(|problem| {
                answers::bad_request(&format!("the stand-in does not know {problem}"))
            })?;
        } else {
            merge(&mut object, &patch);
        }
        let namespace = &asked.resource.namespace;
        let object = checked::object(asked.kind, namespace, object)?;
        if object["metadata"]["name"] != old["metadata"]["name"] {
            return Err(answers::bad_request("a patch cannot change the name"));
        }
        Ok(object)
    })
}

/// Replaces an object by the result of `make`, as far as the request may.
fn change(asked: &Asked<'_>, make: impl Fn(&Value) -> Result<Value, Response>) -> Answer {
    let (name, part) = (&asked.resource.name, &asked.resource.subresource);
    replace(asked, |old, revision| {
        let new = match make(old) {
            Ok(new) => new,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if old["roleRef"] != new["roleRef"] {
            let problem = "roleRef: Invalid value: cannot change roleRef";
            return Ok(Err(answers::invalid(asked.kind, name, problem)));
        }
        let wanted = new["metadata"]["resourceVersion"].as_str();
        if wanted.is_some_and(|wanted| !wanted.is_empty() && wanted != revision.to_string()) {
            return Ok(Err(answers::conflict(asked.kind, name)));
        }
        let object = checked::changed(asked.kind, part, old, new);
        if part.is_empty() {
            return asked.rules.amend(asked.store, asked.kind, old, object);
        }
        Ok(Ok(object))
    })
}

/// Replaces an object by the result of `make`, whatever the request contains.
///
/// # Errors etcd does not answer.
pub fn change_to(asked: &Asked<'_>, make: impl Fn(&Value) -> Result<Value, Response>) -> Answer {
    replace(asked, |old, _| Ok(make(old)))
}

fn replace(
    asked: &Asked<'_>,
    make: impl Fn(&Value, i64) -> Result<Result<Value, Response>>,
) -> Answer {
    let name = &asked.resource.name;
    for _ in 0..TRIES {
        let Some((old, revision)) = asked.read()? else {
            return Ok(Err(answers::not_found(asked.kind, name)));
        };
        let object = match make(&old, revision)? {
            Ok(object) => object,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let text = stored(object.clone());
        if let Some(revision) = asked.store.replace(&asked.key(), &text, revision)? {
            let shown = shown(asked.kind, object, revision);
            return Ok(Ok(Response::json(200, &shown)));
        }
    }
    Ok(Err(answers::conflict(asked.kind, name)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn keys_are_those_of_the_real_server() {
        let of = |word: &str| key(Kind::named(word).unwrap(), "ns", "a");
        assert_eq!(of("nodes"), "/minions/a");
        assert_eq!(of("svc"), "/services/specs/ns/a");
        assert_eq!(of("endpoints"), "/services/endpoints/ns/a");
        assert_eq!(of("clusterroles"), "/clusterroles/a");
    }

    #[test]
    fn what_is_shown_tells_where_it_is_and_what_wrote_it() {
        let kind = Kind::at("apps", "v1", "deployments").unwrap();
        let object = json!({"metadata": {"name": "a", "namespace": "n"}, "apiVersion": "x"});
        let shown = shown(kind, object, 7);
        assert_eq!(shown["apiVersion"], "apps/v1");
        assert_eq!(shown["metadata"]["resourceVersion"], "7");
        assert_eq!(
            shown["metadata"]["selfLink"],
            "/apis/apps/v1/namespaces/n/deployments/a"
        );
        let kept: Value = serde_json::from_slice(&stored(shown)).unwrap();
        assert_eq!(kept["metadata"], json!({"name": "a", "namespace": "n"}));
    }
}
