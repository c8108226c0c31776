//! `/api/v1/nodes/NAME/proxy/…`: the apiserver forwards requests to the node's kubelet.

use std::path::Path;

use anyhow::{Context, Result, bail};
use reqwest::Url;
use serde_json::Value;

use crate::client::{Client, Reply};
use crate::etcd::Store;
use crate::flags::Flags;
use crate::keys;
use crate::kinds::Kind;
use crate::server::{Request, Response};
use crate::tls::{self, Identity};

use super::answers;
use super::attributes::Resource;

/// How the apiserver reaches kubelets.
pub struct Kubelets {
    config: Option<rustls::ClientConfig>,
}

impl Kubelets {
    /// From the flags `--kubelet-*`.
    ///
    /// # Errors Invalid files.
    pub fn read(flags: &Flags) -> Result<Self> {
        let file = |name| flags.text(name).map(Path::new);
        let identity = match (
            file("kubelet-client-certificate"),
            file("kubelet-client-key"),
        ) {
            (Some(certificate), Some(key)) => Some(Identity::from_files(certificate, key)?),
            _ => None,
        };
        let config = file("kubelet-certificate-authority")
            .map(|path| tls::client(Some(tls::authorities(keys::certificates(path)?)?), identity))
            .transpose()?;
        Ok(Self { config })
    }

    /// Forwards the answer of the node's kubelet.
    ///
    /// # Errors etcd does not answer.
    pub fn answer(&self, store: &Store, asked: &Resource, request: &Request) -> Result<Response> {
        if request.method != "GET" {
            let message = "the stand-in supports only GET requests to kubelets";
            return Ok(answers::status(405, "MethodNotAllowed", message));
        }
        let Some(entry) = store.get(&format!("/minions/{}", asked.name))? else {
            let nodes = Kind::at("", "v1", "nodes").context("no kind of nodes")?;
            return Ok(answers::not_found(nodes, &asked.name));
        };
        let node: Value = serde_json::from_slice(&entry.value).context("a node in etcd")?;
        let path = match request.query.as_str() {
            "" => format!("/{}", asked.rest),
            query => format!("/{}?{query}", asked.rest),
        };
        Ok(match self.ask(&node, &path) {
            Ok(reply) => Response {
                status: reply.status,
                content_type: "text/plain; charset=utf-8",
                body: reply.body,
                rest: None,
            },
            Err(error) => {
                let message = format!("error trying to reach service: '{error:#}'");
                answers::status(503, "ServiceUnavailable", &message)
            }
        })
    }

    /// Answers with a container's log, or with the output of a command in it.
    ///
    /// # Errors etcd does not answer.
    pub fn of_pod(&self, store: &Store, asked: &Resource, request: &Request) -> Result<Response> {
        let (namespace, name) = (&asked.namespace, &asked.name);
        let Some(entry) = store.get(&format!("/pods/{namespace}/{name}"))? else {
            let pods = Kind::at("", "v1", "pods").context("no kind of pods")?;
            return Ok(answers::not_found(pods, name));
        };
        let pod: Value = serde_json::from_slice(&entry.value).context("a pod in etcd")?;
        let container = match container(&pod, &request.query) {
            Ok(container) => container,
            Err(error) => return Ok(answers::bad_request(&error.to_string())),
        };
        let host = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        let node = store.get(&format!("/minions/{host}"))?;
        let node = node.and_then(|entry| serde_json::from_slice(&entry.value).ok());
        let asks = if asked.subresource == "exec" {
            "run"
        } else {
            "containerLogs"
        };
        let path = format!("/{asks}/{namespace}/{name}/{container}?{}", request.query);
        let reply = self.ask_with(&node.unwrap_or_default(), |kubelet| {
            if asks == "run" {
                kubelet.post(&path, &Value::Null)
            } else {
                kubelet.get(&path)
            }
        });
        Ok(match reply {
            Ok(reply) if reply.status == 200 => Response {
                status: 200,
                content_type: "text/plain; charset=utf-8",
                body: reply.body,
                rest: None,
            },
            Ok(reply) => answers::status(reply.status, "BadRequest", reply.text().trim()),
            Err(error) => {
                let message = format!("Get the pod's kubelet: {error:#}");
                answers::status(500, "InternalError", &message)
            }
        })
    }

    fn ask(&self, node: &Value, path: &str) -> Result<Reply> {
        self.ask_with(node, |kubelet| kubelet.get(path))
    }

    fn ask_with(&self, node: &Value, request: impl Fn(&Client) -> Result<Reply>) -> Result<Reply> {
        let Some(config) = &self.config else {
            bail!("--kubelet-certificate-authority is not given; the stand-in always verifies");
        };
        let base = place(node)?;
        request(&Client::new(&base, config.clone(), None)?)
    }
}

/// The container of a request: the one that it names, or the only one.
fn container(pod: &Value, query: &str) -> Result<String> {
    let url = Url::parse(&format!("http://query/?{query}"))?;
    let stated = url.query_pairs().find(|(name, _)| name == "container");
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let names: Vec<&str> = containers.filter_map(|one| one["name"].as_str()).collect();
    match (stated, &names[..]) {
        (Some((_, stated)), _) if names.contains(&&*stated) => Ok(stated.into_owned()),
        (Some((_, stated)), _) => bail!("container {stated} is not valid for pod {name}"),
        (None, [only]) => Ok((*only).to_owned()),
        (None, _) => bail!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            names.join(" ")
        ),
    }
}

/// The address of the node's kubelet. The stand-ins resolve no names: the real server would try the
/// host name first.
fn place(node: &Value) -> Result<String> {
    let addresses = node["status"]["addresses"].as_array();
    let address = addresses
        .into_iter()
        .flatten()
        .find(|address| address["type"] == "InternalIP")
        .and_then(|address| address["address"].as_str())
        .context("the node has no InternalIP")?;
    let port = &node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"];
    Ok(format!(
        "https://{address}:{}",
        port.as_u64().unwrap_or(10250)
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_kubelet_is_where_its_node_says() {
        let node = json!({"status": {"addresses": [
            {"type": "Hostname", "address": "n"},
            {"type": "InternalIP", "address": "192.0.2.1"},
        ]}});
        assert_eq!(place(&node).unwrap(), "https://192.0.2.1:10250");
        let mut other = node;
        other["status"]["daemonEndpoints"] = json!({"kubeletEndpoint": {"Port": 1}});
        assert_eq!(place(&other).unwrap(), "https://192.0.2.1:1");
        assert!(place(&json!({})).is_err());
    }
}
