//! Failures and successes in the API's words.

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

/// This path does not exist.
pub fn no_path(path: &str) -> Response {
    status(
        404,
        "NotFound",
        &format!("the stand-in serves nothing at {path}"),
    )
}

/// The object does not exist.
pub fn not_found(kind: &Kind, name: &str) -> Response {
    let resource = kind.full_resource();
    status(404, "NotFound", &format!("{resource} \"{name}\" not found"))
}

/// The object exists already.
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

/// An invalid body.
pub fn bad_request(message: &str) -> Response {
    status(400, "BadRequest", message)
}

/// The answer to a deletion.
pub fn success() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
}
