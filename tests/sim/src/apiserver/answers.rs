//! Failures and successes as the API words them.

use serde_json::{Value, json};

use crate::kinds::Kind;
use crate::server::Response;

/// A failure.
pub fn status(code: u16, reason: &str, message: &str) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {},
        "status": "Failure", "message": message, "reason": reason, "code": code,
    });
    Response::json(code, &body)
}

/// Nothing is served at this path.
pub fn no_path(path: &str) -> Response {
    status(
        404,
        "NotFound",
        &format!("the stand-in serves nothing at {path}"),
    )
}

/// There is no such object.
pub fn not_found(kind: &Kind, name: &str) -> Response {
    let resource = kind.full_resource();
    status(404, "NotFound", &format!("{resource} \"{name}\" not found"))
}

/// There is such an object already.
pub fn already_exists(kind: &Kind, name: &str) -> Response {
    let message = format!("{} \"{name}\" already exists", kind.full_resource());
    status(409, "AlreadyExists", &message)
}

/// The object was changed since the client read it.
pub fn conflict(kind: &Kind, name: &str) -> Response {
    let message = format!(
        "Operation cannot be fulfilled on {} \"{name}\": the object has been modified; please \
         apply your changes to the latest version and try again",
        kind.full_resource()
    );
    status(409, "Conflict", &message)
}

/// An object that breaks a rule of its kind.
pub fn invalid(kind: &Kind, name: &str, problem: &str) -> Response {
    let kind = match kind.group {
        "" => kind.kind.to_owned(),
        group => format!("{}.{group}", kind.kind),
    };
    status(
        422,
        "Invalid",
        &format!("{kind} \"{name}\" is invalid: {problem}"),
    )
}

/// A body that is not what it should be.
pub fn bad_request(message: &str) -> Response {
    status(400, "BadRequest", message)
}

/// What a deletion answers.
pub fn success() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
}
