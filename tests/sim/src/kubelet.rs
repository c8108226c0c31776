//! The stand-in for the kubelet: checks docker, serves its ports and keeps its
//! node registered. It runs no pods.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::client::Client;
use crate::flags::Flags;
use crate::program::VERSION;
use crate::server::{Request, Response, Server};
use crate::tls::{self, Identity};
use crate::{docker, kubeconfig, lifecycle};

/// How often the node's status is written: the real kubelet's default.
const STATUS_PERIOD: Duration = Duration::from_secs(10);

/// Runs until told to stop.
///
/// # Errors
/// Flags, files or a machine the real program would not run with.
pub fn run(flags: &Flags) -> Result<()> {
    // With a bootstrap kubeconfig the other is made later; with the other in
    // place the bootstrap one is not read.
    flags.check_files(&["kubeconfig", "bootstrap-kubeconfig"])?;
    let api = api_client(flags)?;
    check_machine(flags)?;
    let node = Node::read(flags)?;
    let sockets = Sockets::read(flags)?;
    lifecycle::run_until_stopped(move || {
        let server = Server::new()?;
        sockets.listen(&server)?;
        node.keep_registered(&api)
    })
}

fn api_client(flags: &Flags) -> Result<Client> {
    let bootstrap = flags.text("bootstrap-kubeconfig");
    match (flags.text("kubeconfig"), bootstrap) {
        (Some(path), None) => kubeconfig::client(Path::new(path)).context("--kubeconfig"),
        (Some(path), Some(_)) if Path::new(path).exists() => {
            kubeconfig::client(Path::new(path)).context("--kubeconfig")
        }
        (_, Some(path)) => {
            kubeconfig::client(Path::new(path)).context("--bootstrap-kubeconfig")?;
            bail!(
                "--bootstrap-kubeconfig: the stand-in requests no certificate; \
                 give it a --kubeconfig that exists"
            )
        }
        (None, None) => bail!("no --kubeconfig: the stand-in runs no standalone kubelet"),
    }
}

/// What the real kubelet asks of the machine before it runs.
fn check_machine(flags: &Flags) -> Result<()> {
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    if flags.boolean("fail-swap-on", true) && swaps.lines().count() > 1 {
        bail!(
            "Running with swap on is not supported, please disable swap! or set \
             --fail-swap-on flag to false. /proc/swaps contained: {swaps}"
        );
    }
    match flags.text("container-runtime").unwrap_or("docker") {
        "docker" => docker::check(
            flags
                .text("docker-endpoint")
                .unwrap_or("unix:///var/run/docker.sock"),
            flags.text("cgroup-driver").unwrap_or("cgroupfs"),
        ),
        other => bail!("--container-runtime: the stand-in knows only docker, not {other:?}"),
    }
}

/// The kubelet's ports.
struct Sockets {
    health: Option<SocketAddr>,
    read_only: Option<SocketAddr>,
    secure: Option<(SocketAddr, rustls::ServerConfig)>,
    anonymous: bool,
}

impl Sockets {
    fn read(flags: &Flags) -> Result<Self> {
        let address = flags.address("address", IpAddr::V4(Ipv4Addr::UNSPECIFIED))?;
        let health = flags.address("healthz-bind-address", IpAddr::V4(Ipv4Addr::LOCALHOST))?;
        let at = |address, port| (port != 0).then_some(SocketAddr::new(address, port));
        let secure = SocketAddr::new(address, flags.port("port", 10250)?);
        Ok(Self {
            health: at(health, flags.port("healthz-port", 10248)?),
            read_only: at(address, flags.port("read-only-port", 10255)?),
            secure: server_config(flags)?.map(|config| (secure, config)),
            anonymous: flags.boolean("anonymous-auth", true),
        })
    }

    fn listen(self, server: &Server) -> Result<()> {
        for address in [self.health, self.read_only].into_iter().flatten() {
            server.listen(address, None, Arc::new(|request| answer(&request)))?;
        }
        if let Some((address, config)) = self.secure {
            let anonymous = self.anonymous;
            let handler = Arc::new(move |request: Request| {
                if anonymous || request.certificate.is_some() {
                    answer(&request)
                } else {
                    Response::text(401, "Unauthorized")
                }
            });
            server.listen(address, Some(config), handler)?;
        }
        Ok(())
    }
}

/// The real kubelet would make a certificate of its own where none is given; the
/// stand-in then does not serve that port.
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

fn answer(request: &Request) -> Response {
    match request.path.as_str() {
        "/healthz" => Response::text(200, "ok"),
        "/pods" => Response::json(
            200,
            &json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": null}),
        ),
        _ => Response::text(404, "404 page not found\n"),
    }
}

/// The node this kubelet registers.
struct Node {
    name: String,
    address: Option<IpAddr>,
    labels: Value,
    taints: Vec<Value>,
    network: Option<Network>,
}

/// Where a CNI network is looked for.
struct Network {
    configurations: PathBuf,
    plugins: PathBuf,
}

impl Node {
    fn read(flags: &Flags) -> Result<Self> {
        let name = match flags.text("hostname-override") {
            Some(name) => name.to_lowercase(),
            None => lifecycle::host_name()?,
        };
        for address in flags.list("cluster-dns") {
            let parsed = address.parse::<IpAddr>();
            parsed.with_context(|| format!("--cluster-dns: {address:?} is no IP address"))?;
        }
        let stated = flags.text("node-ip").unwrap_or(&name);
        let path = |flag, default: &str| PathBuf::from(flags.text(flag).unwrap_or(default));
        let network = match flags.text("network-plugin") {
            Some("cni") => Some(Network {
                configurations: path("cni-conf-dir", "/etc/cni/net.d"),
                plugins: path("cni-bin-dir", "/opt/cni/bin"),
            }),
            None => None,
            Some(other) => bail!("--network-plugin: the stand-in knows only cni, not {other:?}"),
        };
        let mut labels = json!({"kubernetes.io/hostname": name});
        for label in flags.list("node-labels") {
            let (key, value) = label
                .split_once('=')
                .with_context(|| format!("--node-labels: {label:?} is not KEY=VALUE"))?;
            labels[key] = json!(value);
        }
        let taints = flags.list("register-with-taints").into_iter().map(taint);
        Ok(Self {
            address: stated.parse().ok(),
            labels,
            taints: taints.collect::<Result<_>>()?,
            network,
            name,
        })
    }

    fn keep_registered(&self, api: &Client) -> Result<()> {
        let path = format!("/api/v1/nodes/{}", self.name);
        let created = lifecycle::now();
        loop {
            let written = api
                .put(&path, &self.object(&created))
                .and_then(|reply| reply.json());
            match written {
                Ok(_) => thread::sleep(STATUS_PERIOD),
                Err(error) => {
                    eprintln!("unable to register node {}: {error:#}", self.name);
                    thread::sleep(Duration::from_secs(1));
                }
            }
        }
    }

    fn object(&self, created: &str) -> Value {
        let problem = self.network.as_ref().and_then(|n| n.check().err());
        let (ready, reason, message) = match &problem {
            None => (
                "True",
                "KubeletReady",
                "kubelet is posting ready status".to_owned(),
            ),
            Some(error) => (
                "False",
                "KubeletNotReady",
                format!("runtime network not ready: cni config uninitialized: {error:#}"),
            ),
        };
        let mut addresses = vec![json!({"type": "Hostname", "address": self.name})];
        if let Some(address) = self.address {
            addresses.insert(0, json!({"type": "InternalIP", "address": address}));
        }
        json!({
            "kind": "Node", "apiVersion": "v1",
            "metadata": {
                "name": self.name, "labels": self.labels, "creationTimestamp": created,
            },
            "spec": {"taints": self.taints},
            "status": {
                "addresses": addresses,
                "conditions": [{
                    "type": "Ready", "status": ready, "reason": reason, "message": message,
                    "lastHeartbeatTime": lifecycle::now(),
                }],
                "nodeInfo": {"kubeletVersion": VERSION},
            },
        })
    }
}

fn taint(text: &str) -> Result<Value> {
    let parts = text
        .rsplit_once(':')
        .and_then(|(pair, effect)| pair.split_once('=').map(|(k, v)| (k, v, effect)));
    match parts {
        Some((key, value, effect @ ("NoSchedule" | "PreferNoSchedule" | "NoExecute"))) => {
            Ok(json!({"key": key, "value": value, "effect": effect}))
        }
        _ => bail!("--register-with-taints: {text:?} is not KEY=VALUE:EFFECT"),
    }
}

impl Network {
    /// The first configuration by name must be usable, and its plugin and
    /// `loopback` must be there: kubelet calls both for every pod.
    fn check(&self) -> Result<()> {
        let directory = self.configurations.display();
        let mut found: Vec<PathBuf> = fs::read_dir(&self.configurations)
            .with_context(|| directory.to_string())?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                let end = path.extension().and_then(|end| end.to_str());
                matches!(end, Some("conf" | "conflist" | "json"))
            })
            .collect();
        found.sort();
        let first = found
            .first()
            .with_context(|| format!("No networks found in {directory}"))?;
        let text = fs::read(first).with_context(|| first.display().to_string())?;
        let conf: Value =
            serde_json::from_slice(&text).with_context(|| first.display().to_string())?;
        let listed = conf["plugins"].as_array().map(Vec::as_slice);
        for plugin in listed.unwrap_or(std::slice::from_ref(&conf)) {
            let kind = plugin["type"].as_str().context("a plugin without a type")?;
            self.find(kind)?;
            if let Some(ipam) = plugin["ipam"]["type"].as_str() {
                self.find(ipam)?;
            }
        }
        self.find("loopback")
    }

    fn find(&self, plugin: &str) -> Result<()> {
        let path = self.plugins.join(plugin);
        if path.is_file() {
            return Ok(());
        }
        bail!(
            "failed to find plugin {plugin:?} in path {}",
            self.plugins.display()
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_network_needs_its_plugins_and_loopback() {
        let directory = tempfile::tempdir().unwrap();
        let network = Network {
            configurations: directory.path().to_owned(),
            plugins: directory.path().to_owned(),
        };
        assert!(network.check().is_err());
        let conf = r#"{"name": "n", "type": "calico", "ipam": {"type": "calico-ipam"}}"#;
        fs::write(directory.path().join("10-calico.conf"), conf).unwrap();
        for missing in ["calico", "calico-ipam", "loopback"] {
            let error = network.check().unwrap_err().to_string();
            assert!(error.contains(&format!("{missing:?}")), "{error}");
            fs::write(directory.path().join(missing), "").unwrap();
        }
        network.check().unwrap();
    }

    #[test]
    fn taints_name_a_known_effect() {
        taint("node-role.kubernetes.io/master=:NoSchedule").unwrap();
        assert!(taint("node-role.kubernetes.io/master=:NoPods").is_err());
        assert!(taint("NoSchedule").is_err());
    }
}
