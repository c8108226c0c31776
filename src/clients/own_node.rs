//! Asks the API server about this machine's own node, with what the kubelet has: its kubeconfig. The API server lets
//! a kubelet change and delete its own node, and evict and delete the pods on it (NodeRestriction of v1.9).

use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::paths;
use crate::pki::Secret;
use crate::sys::http;
use crate::sys::root::Root;
use crate::sys::tls::Identity;

/// How long the API server may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// The type of a change of some fields.
const MERGE: &str = "application/strategic-merge-patch+json";

/// The node of this machine.
pub struct OwnNode {
    client: Client,
    server: String,
    name: String,
    /// Whether a pod that cannot be evicted is deleted: a kubelet of v1.9 may not always evict.
    deletes: bool,
}

/// A pod on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The answer to a request to evict a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evicted {
    /// It ends, or is gone.
    Ends,
    /// A PodDisruptionBudget does not allow it now.
    Later,
}

#[derive(Deserialize)]
struct Kubeconfig {
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedCluster {
    cluster: Cluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<String>,
    certificate_authority_data: Option<String>,
}

#[derive(Deserialize)]
struct NamedUser {
    user: User,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate: Option<String>,
    client_certificate_data: Option<String>,
    client_key: Option<String>,
    client_key_data: Option<String>,
}

impl OwnNode {
    /// The node called `name`, as the kubelet below `root` reaches it; `None` if the kubelet has no kubeconfig.
    ///
    /// # Errors
    /// If the kubeconfig or a file that it names is missing or damaged. The error quotes nothing of it.
    pub fn of(root: &Root, name: &str) -> Result<Option<OwnNode>> {
        OwnNode::with(root, paths::KUBELET_KUBECONFIG, name, true)
    }

    /// Another node, called `name`, as the administrator on this master reaches it. No pod is deleted that may not be
    /// evicted.
    pub fn of_admin(root: &Root, name: &str) -> Result<OwnNode> {
        let node = OwnNode::with(root, paths::ADMIN_KUBECONFIG, name, false)?;
        node.with_context(|| {
            format!(
                "{} is missing; run this on a master",
                paths::ADMIN_KUBECONFIG
            )
        })
    }

    fn with(root: &Root, path: &str, name: &str, deletes: bool) -> Result<Option<OwnNode>> {
        let Some(text) = root.read(path)? else {
            return Ok(None);
        };
        let options = serde_saphyr::options! { with_snippet: false };
        let text = str::from_utf8(&text).ok();
        let parsed: Option<Kubeconfig> =
            text.and_then(|text| serde_saphyr::from_str_with_options(text, options).ok());
        let damaged = || format!("{path} is no kubeconfig");
        let mut parsed = parsed.with_context(damaged)?;
        let cluster = parsed.clusters.pop().with_context(damaged)?.cluster;
        let user = parsed.users.pop().map(|user| user.user);
        let user = user.unwrap_or_default();
        let (path, data) = (
            cluster.certificate_authority,
            cluster.certificate_authority_data,
        );
        let authority = pem(root, path, data)?;
        let certificate = pem(root, user.client_certificate, user.client_certificate_data)?;
        let key = pem(root, user.client_key, user.client_key_data)?;
        let identity = certificate.as_ref().zip(key.as_ref());
        let identity = identity.map(|(certificate, key)| Identity {
            certificate: certificate.expose(),
            key: key.expose(),
        });
        let authority = authority.as_ref().map(Secret::expose).unwrap_or_default();
        Ok(Some(OwnNode {
            client: http::client(authority, identity.as_ref(), ANSWER)?,
            server: cluster.server,
            name: name.to_owned(),
            deletes,
        }))
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1/{path}", self.server)
    }

    fn own_url(&self) -> String {
        self.url(&format!("nodes/{}", self.name))
    }

    /// Whether the cluster has the node.
    ///
    /// # Errors
    /// If no API server answers, or it refuses the kubelet's certificate.
    pub fn exists(&self) -> Result<bool> {
        Ok(self.asked()?.is_some())
    }

    /// The answer to a request for the node; `None` if the cluster has no such node.
    fn asked(&self) -> Result<Option<Response>> {
        let answer = self.client.get(self.own_url()).send();
        let answer = answer.map_err(|error| http::root_cause(&error))?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(answer)),
            status => bail!("the API server {} answers {status}", self.server),
        }
    }

    /// The version of the API server, such as `v1.9.11`.
    pub fn server_version(&self) -> Result<String> {
        let answer = http::send(self.client.get(format!("{}/version", self.server)))?;
        let version: Value =
            serde_json::from_str(&answer.text()?).context("the version is not valid")?;
        let version = version["gitVersion"].as_str();
        version
            .map(str::to_owned)
            .context("the API server says no version")
    }

    /// Keeps new pods away from the node.
    pub fn cordon(&self) -> Result<()> {
        self.set_unschedulable(&json!(true))
    }

    /// Lets new pods come again.
    pub fn uncordon(&self) -> Result<()> {
        self.set_unschedulable(&Value::Null)
    }

    fn set_unschedulable(&self, value: &Value) -> Result<()> {
        let body = json!({ "spec": { "unschedulable": value } }).to_string();
        let patch = self
            .client
            .patch(self.own_url())
            .header("content-type", MERGE);
        done(patch.body(body))
    }

    /// Whether new pods are kept away.
    pub fn is_cordoned(&self) -> Result<bool> {
        let node = self.object()?.context("the cluster has no such node")?;
        Ok(node["spec"]["unschedulable"] == true)
    }

    /// The node as the API server has it; `None` if the cluster has no such node.
    ///
    /// # Errors
    /// As [`OwnNode::exists`].
    pub fn object(&self) -> Result<Option<Value>> {
        let Some(answer) = self.asked()? else {
            return Ok(None);
        };
        serde_json::from_str(&answer.text()?)
            .context("the node object is not valid")
            .map(Some)
    }

    /// The pods on the node that have to go elsewhere: not those of a DaemonSet, which come back, not those of the
    /// kubelet's own files, and not those that have ended.
    pub fn pods(&self) -> Result<Vec<Pod>> {
        let selector = format!("pods?fieldSelector=spec.nodeName%3D{}", self.name);
        let answer = http::send(self.client.get(self.url(&selector)))?;
        let list: Value =
            serde_json::from_str(&answer.text()?).context("the list of pods is not valid")?;
        let items = list["items"].as_array().into_iter().flatten();
        Ok(items.filter(|pod| has_to_go(pod)).filter_map(pod).collect())
    }

    /// Asks for the end of a pod.
    fn evict(&self, pod: &Pod) -> Result<Evicted> {
        let Pod { namespace, name } = pod;
        let url = self.url(&format!("namespaces/{namespace}/pods/{name}"));
        let body = json!({
            "apiVersion": "policy/v1beta1",
            "kind": "Eviction",
            "metadata": { "namespace": namespace, "name": name },
            // Without them, v1.9 gives the pod no time to end.
            "deleteOptions": {},
        });
        let evict = self.client.post(format!("{url}/eviction"));
        let evict = evict.header("content-type", "application/json");
        match status(evict.body(body.to_string()))? {
            StatusCode::TOO_MANY_REQUESTS => return Ok(Evicted::Later),
            answer if answer.is_success() => return Ok(Evicted::Ends),
            StatusCode::NOT_FOUND if !self.deletes => return Ok(Evicted::Ends),
            answer if !self.deletes => {
                bail!("{namespace}/{name}: the API server answers {answer} to its eviction")
            }
            // Gone, or this kubelet may not evict: it may delete.
            _ => {}
        }
        let deleted = done(self.client.delete(url));
        deleted.with_context(|| format!("{namespace}/{name}"))?;
        Ok(Evicted::Ends)
    }

    /// Asks for the end of these pods of it. Returns what has to be waited for; `None` if there are no pods.
    pub fn evict_all(&self, pods: &[Pod]) -> Result<Option<String>> {
        let mut blocked = Vec::new();
        for pod in pods {
            if self.evict(pod)? == Evicted::Later {
                blocked.push(format!("{}/{}", pod.namespace, pod.name));
            }
        }
        Ok(match (pods.is_empty(), blocked.is_empty()) {
            (true, _) => None,
            (false, true) => Some(format!("{} pods are ending", pods.len())),
            (false, false) => Some(format!(
                "PodDisruptionBudgets do not allow the end of {}",
                blocked.join(", ")
            )),
        })
    }

    /// Removes the node from the cluster.
    pub fn delete(&self) -> Result<()> {
        done(self.client.delete(self.own_url()))
    }
}

fn status(request: RequestBuilder) -> Result<StatusCode> {
    let answer = request.send().map_err(|error| http::root_cause(&error))?;
    Ok(answer.status())
}

/// Sends a change. An object that is gone needs none.
fn done(request: RequestBuilder) -> Result<()> {
    match status(request)? {
        answer if answer.is_success() || answer == StatusCode::NOT_FOUND => Ok(()),
        answer => bail!("the API server answers {answer}"),
    }
}

/// A PEM document: in base64 in the kubeconfig, or in a file that it names.
fn pem(root: &Root, path: Option<String>, data: Option<String>) -> Result<Option<Secret>> {
    if let Some(data) = data {
        let decoded = BASE64.decode(data.trim()).ok();
        let decoded = decoded.context("a kubeconfig has invalid base64")?;
        return Ok(Some(Secret::new(decoded)));
    }
    let Some(path) = path else {
        return Ok(None);
    };
    // The kubelet names its certificate by a path from the root, or from the directory of the kubeconfig.
    let path = match path.starts_with('/') {
        true => path,
        false => format!("{}/{path}", paths::KUBERNETES_DIR),
    };
    let found = root.read(&path)?;
    found
        .map(Secret::new)
        .with_context(|| format!("{path} is missing"))
        .map(Some)
}

fn has_to_go(pod: &Value) -> bool {
    let owners = pod["metadata"]["ownerReferences"].as_array();
    let of_set = owners
        .into_iter()
        .flatten()
        .any(|owner| owner["kind"] == "DaemonSet");
    let mirror = &pod["metadata"]["annotations"]["kubernetes.io/config.mirror"];
    let ended = matches!(
        pod["status"]["phase"].as_str(),
        Some("Succeeded" | "Failed")
    );
    !of_set && mirror.is_null() && !ended
}

fn pod(pod: &Value) -> Option<Pod> {
    let text = |key: &str| pod["metadata"][key].as_str().map(str::to_owned);
    Some(Pod {
        namespace: text("namespace")?,
        name: text("name")?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::has_to_go;

    #[test]
    fn pods_that_come_back_or_have_ended_do_not_have_to_go() {
        for (pod, expected) in [
            (
                json!({"metadata": {"name": "web"}, "status": {"phase": "Running"}}),
                true,
            ),
            (
                json!({"metadata": {"ownerReferences": [{"kind": "ReplicaSet"}]}}),
                true,
            ),
            (
                json!({"metadata": {"ownerReferences": [{"kind": "DaemonSet"}]}}),
                false,
            ),
            (
                json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}}),
                false,
            ),
            (
                json!({"metadata": {}, "status": {"phase": "Succeeded"}}),
                false,
            ),
        ] {
            assert_eq!(has_to_go(&pod), expected, "{pod}");
        }
    }
}
