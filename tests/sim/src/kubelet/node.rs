//! The node that a kubelet registers.

use std::fs;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::client::Client;
use crate::flags::Flags;
use crate::kinds::Kind;
use crate::lifecycle;
use crate::program::VERSION;

use super::network::Network;

/// How often to write the node's status: the real kubelet's default.
const STATUS_PERIOD: Duration = Duration::from_secs(10);

/// The node this kubelet registers.
pub struct Node {
    name: String,
    address: Option<IpAddr>,
    port: u16,
    labels: Value,
    taints: Vec<Value>,
    network: Option<Network>,
    runtime: String,
    registers: bool,
    period: Duration,
}

/// The node's name.
///
/// # Errors
/// The machine has no host name.
pub fn name(flags: &Flags) -> Result<String> {
    match flags.text("hostname-override") {
        Some(name) => Ok(name.trim().to_lowercase()),
        None => lifecycle::host_name(),
    }
}

/// Whether the node is ready, and since when.
#[derive(Default)]
struct State {
    ready: bool,
    since: String,
}

impl Node {
    /// From the flags; `runtime` is the version of the container runtime.
    ///
    /// # Errors Flags with which the real program would not run.
    pub fn read(flags: &Flags, name: String, runtime: String) -> Result<Self> {
        let stated = flags.text("node-ip").unwrap_or(&name);
        let mut labels = json!({
            "beta.kubernetes.io/arch": "amd64",
            "beta.kubernetes.io/os": "linux",
            "kubernetes.io/hostname": name,
        });
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
            network: Network::read(flags)?,
            port: flags.port("port", 10250)?,
            registers: flags.boolean("register-node", true),
            period: flags.duration("node-status-update-frequency", STATUS_PERIOD),
            runtime,
            name,
        })
    }

    /// Registers the node once, then writes its status as long as the program runs.
    ///
    /// # Errors None: errors are only logged.
    pub fn keep_registered(&self, api: &Client) -> Result<()> {
        let kind = Kind::at("", "v1", "nodes").context("no kind of nodes")?;
        let mut state = State::default();
        if self.registers {
            while let Err(error) = self.register(api, kind, &mut state) {
                eprintln!("unable to register node {}: {error:#}", self.name);
                thread::sleep(Duration::from_secs(1));
            }
        }
        let path = format!("{}/status", kind.path(None, Some(&self.name)));
        loop {
            let patch = json!({"status": self.status(&mut state)});
            match api.patch(&path, &patch).and_then(|reply| reply.json()) {
                Ok(_) => thread::sleep(self.period),
                Err(error) => {
                    eprintln!("error updating node status, will retry: {error:#}");
                    thread::sleep(Duration::from_secs(1));
                }
            }
        }
    }

    /// An existing node keeps its labels and taints.
    fn register(&self, api: &Client, kind: &Kind, state: &mut State) -> Result<()> {
        let mut node = json!({
            "kind": "Node", "apiVersion": "v1",
            "metadata": {"name": self.name, "labels": self.labels},
            "spec": {},
        });
        if !self.taints.is_empty() {
            node["spec"]["taints"] = json!(self.taints);
        }
        node["status"] = self.status(state);
        let reply = api.post(&kind.path(None, None), &node)?;
        if reply.status == 409 {
            api.get(&kind.path(None, Some(&self.name)))?.json()?;
            eprintln!("node {} was previously registered", self.name);
            return Ok(());
        }
        reply.json()?;
        eprintln!("successfully registered node {}", self.name);
        Ok(())
    }

    fn status(&self, state: &mut State) -> Value {
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
        if state.since.is_empty() || state.ready == problem.is_some() {
            *state = State {
                ready: problem.is_none(),
                since: lifecycle::now(),
            };
        }
        let mut addresses = vec![json!({"type": "Hostname", "address": self.name})];
        if let Some(address) = self.address {
            addresses.insert(0, json!({"type": "InternalIP", "address": address}));
        }
        json!({
            "addresses": addresses,
            "conditions": [{
                "type": "Ready", "status": ready, "reason": reason, "message": message,
                "lastHeartbeatTime": lifecycle::now(), "lastTransitionTime": state.since,
            }],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.port}},
            "nodeInfo": {
                "kubeletVersion": VERSION, "kubeProxyVersion": VERSION,
                "operatingSystem": "linux", "architecture": "amd64",
                "osImage": os_image(), "kernelVersion": kernel(),
                "containerRuntimeVersion": self.runtime,
            },
        })
    }
}

fn os_image() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let mut lines = text.lines();
    let name = lines.find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches('"').to_owned()
}

fn kernel() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn taints_name_a_known_effect() {
        taint("node-role.kubernetes.io/master=:NoSchedule").unwrap();
        assert!(taint("node-role.kubernetes.io/master=:NoPods").is_err());
        assert!(taint("NoSchedule").is_err());
    }
}
