//! The kubelet's ports, and their authorization.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::Url;
use serde_json::json;

use crate::client::Client;
use crate::flags::Flags;
use crate::server::{Request, Response, Server};
use crate::tls::{self, Identity};
use crate::user::User;

use super::container::{NAME, NAMESPACE, POD};
use super::settings::Settings;
use super::{pods, status};

/// How long a command in a container may take.
const RUN_LIMIT: Duration = Duration::from_secs(60);

/// The kubelet's ports.
pub struct Ports {
    health: Option<SocketAddr>,
    read_only: Option<SocketAddr>,
    cadvisor: Option<SocketAddr>,
    secure: Option<(SocketAddr, rustls::ServerConfig)>,
    guard: Guard,
}

impl Ports {
    /// From the flags; `api` decides who may use the secure port.
    ///
    /// # Errors Flags or files with which the real program would not run.
    pub fn read(flags: &Flags, node: &str, api: &Client) -> Result<Self> {
        let address = flags.address("address", IpAddr::V4(Ipv4Addr::UNSPECIFIED))?;
        let health = flags.address("healthz-bind-address", IpAddr::V4(Ipv4Addr::LOCALHOST))?;
        let at = |address, port| (port != 0).then_some(SocketAddr::new(address, port));
        let secure = SocketAddr::new(address, flags.port("port", 10250)?);
        Ok(Self {
            health: at(health, flags.port("healthz-port", 10248)?),
            read_only: at(address, flags.port("read-only-port", 10255)?),
            cadvisor: at(address, flags.port("cadvisor-port", 4194)?),
            secure: server_config(flags)?.map(|config| (secure, config)),
            guard: Guard {
                anonymous: flags.boolean("anonymous-auth", true),
                asks_about_tokens: flags.boolean("authentication-token-webhook", false),
                asks_about_users: asks_about_users(flags)?,
                node: node.to_owned(),
                api: api.clone(),
            },
        })
    }

    /// Listens on them.
    ///
    /// # Errors An address that cannot be bound. For cAdvisor's port, this is only logged.
    pub fn listen(self, server: &Server, settings: &Arc<Settings>) -> Result<()> {
        let handler = || {
            let settings = settings.clone();
            Arc::new(move |request: Request| answer(&settings, &request))
        };
        for address in [self.health, self.read_only].into_iter().flatten() {
            server.listen(address, None, handler())?;
        }
        if let Some(address) = self.cadvisor
            && let Err(error) = server.listen(address, None, handler())
        {
            eprintln!("cAdvisor: {error:#}");
        }
        if let Some((address, config)) = self.secure {
            let (guard, settings) = (self.guard, settings.clone());
            let handler = Arc::new(move |request: Request| match guard.check(&request) {
                Ok(()) => answer(&settings, &request),
                Err(refusal) => refusal,
            });
            server.listen(address, Some(config), handler)?;
        }
        Ok(())
    }
}

fn asks_about_users(flags: &Flags) -> Result<bool> {
    match flags.text("authorization-mode") {
        None | Some("AlwaysAllow") => Ok(false),
        Some("Webhook") => Ok(true),
        Some(other) => bail!("unknown authorization mode {other}"),
    }
}

/// Without a certificate, the real kubelet would make one; the stand-in then does not serve that
/// port.
fn server_config(flags: &Flags) -> Result<Option<rustls::ServerConfig>> {
    let (certificate, key) = (
        flags.text("tls-cert-file"),
        flags.text("tls-private-key-file"),
    );
    let (Some(certificate), Some(key)) = (certificate, key) else {
        return Ok(None);
    };
    let identity = Identity::from_files(Path::new(certificate), Path::new(key))?;
    let authority = flags.text("client-ca-file").map(Path::new);
    tls::server(identity, authority).map(Some)
}

/// Decides who may use the secure port.
struct Guard {
    anonymous: bool,
    asks_about_tokens: bool,
    asks_about_users: bool,
    node: String,
    api: Client,
}

impl Guard {
    fn check(&self, request: &Request) -> Result<(), Response> {
        let user = self
            .user(request)
            .ok_or_else(|| Response::text(401, "Unauthorized"))?;
        if !self.asks_about_users {
            return Ok(());
        }
        let (verb, part) = (verb(&request.method), subresource(&request.path));
        let who = format!(
            "(user={}, verb={verb}, resource=nodes, subresource={part})",
            user.name
        );
        match self.may(&user, verb, part) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Response::text(403, format!("Forbidden {who}"))),
            Err(error) => {
                eprintln!("Authorization error {who}: {error:#}");
                Err(Response::text(500, format!("Authorization error {who}")))
            }
        }
    }

    fn user(&self, request: &Request) -> Option<User> {
        if let Some(certificate) = &request.certificate {
            return User::of_certificate(certificate);
        }
        match &request.bearer {
            Some(token) if self.asks_about_tokens => self
                .token_user(token)
                .map_err(|error| eprintln!("Unable to authenticate the request: {error:#}"))
                .ok(),
            // Without token authentication, a token does not identify a user.
            _ => self.anonymous.then(User::anonymous),
        }
    }

    fn token_user(&self, token: &str) -> Result<User> {
        let review = json!({
            "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1beta1",
            "spec": {"token": token},
        });
        let path = "/apis/authentication.k8s.io/v1beta1/tokenreviews";
        let status = self.api.post(path, &review)?.json()?["status"].clone();
        if status["authenticated"] != json!(true) {
            bail!("the API does not know the bearer token");
        }
        let groups = status["user"]["groups"].as_array().into_iter().flatten();
        let name = status["user"]["username"].as_str();
        Ok(User {
            name: name.context("a user without a name")?.to_owned(),
            groups: groups
                .filter_map(|g| g.as_str().map(str::to_owned))
                .collect(),
        })
    }

    fn may(&self, user: &User, verb: &str, part: &str) -> Result<bool> {
        let review = json!({
            "kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1beta1",
            "spec": {
                "user": user.name, "group": user.groups,
                "resourceAttributes": {
                    "verb": verb, "group": "", "version": "v1",
                    "resource": "nodes", "subresource": part, "name": self.node,
                },
            },
        });
        let path = "/apis/authorization.k8s.io/v1beta1/subjectaccessreviews";
        let answer = self.api.post(path, &review)?.json()?;
        Ok(answer["status"]["allowed"] == json!(true))
    }
}

fn verb(method: &str) -> &'static str {
    match method {
        "POST" => "create",
        "GET" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

/// The part of the node that a path belongs to.
fn subresource(path: &str) -> &'static str {
    let parts = [
        ("/stats", "stats"),
        ("/metrics", "metrics"),
        ("/logs", "log"),
        ("/spec", "spec"),
    ];
    let below = |start: &str| {
        let rest = path.strip_prefix(start);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let found = parts.into_iter().find(|(start, _)| below(start));
    found.map_or("proxy", |(_, part)| part)
}

fn answer(settings: &Settings, request: &Request) -> Response {
    match request.path.as_str() {
        "/healthz" => Response::text(200, "ok"),
        "/metrics" | "/metrics/cadvisor" => {
            let count = pods::bound(settings).map_or(0, |pods| pods.len());
            Response::text(
                200,
                format!("# appliance test stand-in\nkubelet_running_pod_count {count}\n"),
            )
        }
        "/pods" | "/pods/" => match pods::bound(settings) {
            Ok(pods) => {
                let items = if pods.is_empty() {
                    json!(null)
                } else {
                    json!(pods)
                };
                let list = json!({
                    "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items,
                });
                Response::json(200, &list)
            }
            Err(error) => Response::text(500, format!("{error:#}")),
        },
        "/stats/summary" => Response::json(200, &json!({"node": {}, "pods": []})),
        "/spec" | "/spec/" => Response::json(200, &json!({})),
        path => inside(settings, path, &request.query)
            .unwrap_or_else(|| Response::text(404, "404 page not found\n")),
    }
}

/// `/containerLogs/NAMESPACE/POD/CONTAINER` and `/run/NAMESPACE/POD/CONTAINER`.
fn inside(settings: &Settings, path: &str, query: &str) -> Option<Response> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let [what @ ("containerLogs" | "run"), namespace, pod, container] = parts[..] else {
        return None;
    };
    let answer = find(settings, (namespace, pod, container), query).and_then(|id| {
        let url = Url::parse(&format!("http://query/?{query}"))?;
        let all = |wanted: &str| {
            let pairs = url.query_pairs().filter(|(name, _)| name == wanted);
            pairs
                .map(|(_, value)| value.into_owned())
                .collect::<Vec<_>>()
        };
        if what == "containerLogs" {
            let tail = all("tailLines");
            return settings.docker.logs(&id, tail.first().map(String::as_str));
        }
        let (code, text) = settings.docker.exec(&id, &all("command"), RUN_LIMIT)?;
        if code != 0 {
            bail!(
                "{}command terminated with exit code {code}",
                String::from_utf8_lossy(&text)
            );
        }
        Ok(text)
    });
    Some(match answer {
        Ok(body) => Response {
            status: 200,
            content_type: "text/plain; charset=utf-8",
            body,
            rest: None,
        },
        Err(error) => Response::text(400, format!("{error:#}")),
    })
}

/// The requested container: the latest one, or the one before it.
fn find(
    settings: &Settings,
    (namespace, pod, name): (&str, &str, &str),
    query: &str,
) -> Result<String> {
    let mut found = settings.docker.labelled(&format!("{POD}={pod}"))?;
    found.retain(|one| one["Labels"][NAMESPACE] == namespace && one["Labels"][NAME] == name);
    found.sort_by_key(|one| (one["Created"].as_u64(), status::restarts(one)));
    let back = usize::from(query.split('&').any(|pair| pair == "previous=true"));
    let wanted = found.iter().rev().nth(back);
    let id = wanted.and_then(|one| one["Id"].as_str());
    id.map(str::to_owned).with_context(|| {
        format!("container {name:?} in pod {pod:?} is waiting to start: ContainerCreating")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn paths_stand_for_parts_of_the_node() {
        for (path, part) in [
            ("/stats/summary", "stats"),
            ("/metrics", "metrics"),
            ("/metricsx", "proxy"),
            ("/logs/x", "log"),
            ("/spec/", "spec"),
            ("/pods", "proxy"),
            ("/exec/a/b/c", "proxy"),
        ] {
            assert_eq!(subresource(path), part, "{path}");
        }
        assert_eq!(
            (verb("POST"), verb("GET"), verb("HEAD")),
            ("create", "get", "")
        );
    }

    #[test]
    fn without_a_known_user_only_the_anonymous_one_is_left() {
        let guard = |anonymous| Guard {
            anonymous,
            asks_about_tokens: false,
            asks_about_users: false,
            node: "a".to_owned(),
            api: Client::plain("http://127.0.0.1:1").unwrap(),
        };
        let request = Request::test("GET", "/healthz", "");
        assert!(guard(true).check(&request).is_ok());
        assert_eq!(guard(false).check(&request).err().unwrap().status, 401);
        let asking = Guard {
            asks_about_users: true,
            ..guard(true)
        };
        // No API server can be asked.
        assert_eq!(asking.check(&request).err().unwrap().status, 500);
    }
}
