//! The part of Keystone that a client needs to log in: one user of one project, and a catalogue
//! with the addresses of other services.

use serde_json::{Value, json};

use crate::server::{Answer, Request};

/// The only user.
pub const USER: &str = "operator";
/// Its password.
pub const PASSWORD: &str = "opensesame";
/// Its project.
pub const PROJECT: &str = "cluster";
/// The region of the services.
pub const REGION: &str = "RegionOne";

/// The answer to a request; `url` is the address of this Keystone.
pub fn answer(url: &str, request: &Request) -> Answer {
    match (request.method.as_str(), request.target.as_str()) {
        ("POST", "/v3/auth/tokens") => log_in(url, &request.body),
        ("GET", "/v3" | "/v3/") => Answer::status("200 OK")
            .header("Content-Type", "application/json")
            .body(version(url).to_string().as_bytes()),
        _ => Answer::status("404 Not Found"),
    }
}

fn version(url: &str) -> Value {
    json!({ "version": {
        "id": "v3.14",
        "status": "stable",
        "links": [{ "rel": "self", "href": format!("{url}/v3/") }],
    } })
}

fn log_in(url: &str, body: &[u8]) -> Answer {
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    let user = &asked["auth"]["identity"]["password"]["user"];
    let project = &asked["auth"]["scope"]["project"]["name"];
    if user["name"] != USER || user["password"] != PASSWORD || project != PROJECT {
        return Answer::status("401 Unauthorized");
    }
    Answer::status("201 Created")
        .header("Content-Type", "application/json")
        .header("X-Subject-Token", "gAAAAABtoken")
        .body(token(url).to_string().as_bytes())
}

/// A token with the services in whose catalogue entries clients look for endpoints.
fn token(url: &str) -> Value {
    let service = |name: &str, kind: &str, path: &str| {
        let endpoint = |interface: &str| {
            json!({
                "id": format!("{name}-{interface}"),
                "interface": interface,
                "region": REGION,
                "region_id": REGION,
                "url": format!("{url}{path}"),
            })
        };
        json!({
            "id": name,
            "name": name,
            "type": kind,
            "endpoints": [endpoint("public"), endpoint("internal"), endpoint("admin")],
        })
    };
    json!({ "token": {
        "methods": ["password"],
        "issued_at": "2026-01-01T00:00:00.000000Z",
        "expires_at": "2126-01-01T00:00:00.000000Z",
        "user": { "id": "1", "name": USER, "domain": { "id": "default", "name": "Default" } },
        "project": { "id": "2", "name": PROJECT, "domain": { "id": "default", "name": "Default" } },
        "roles": [{ "id": "3", "name": "member" }],
        "catalog": [
            service("keystone", "identity", "/v3"),
            service("nova", "compute", "/compute/v2.1"),
            service("neutron", "network", "/network"),
            service("glance", "image", "/image"),
            service("cinder", "volumev3", "/volume/v3"),
        ],
    } })
}
