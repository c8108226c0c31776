//! Calls of CNI plugins, as the specification of version 0.3.1 describes them.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::network::Network;

/// A pod's network, from the view of a plugin.
pub struct Attachment<'a> {
    /// The directories of plugins and configurations.
    pub network: &'a Network,
    /// The container that holds the network.
    pub container: &'a str,
    /// The path of the network namespace; empty if it no longer exists.
    pub namespace: String,
    /// The pod's namespace and name.
    pub pod: (&'a str, &'a str),
}

impl Attachment<'_> {
    /// Sets the pod's network up. Returns its address.
    ///
    /// # Errors A plugin that is missing or fails, with its error.
    pub fn add(&self) -> Result<String> {
        let loopback = json!({"cniVersion": "0.2.0", "name": "cni-loopback", "type": "loopback"});
        self.call("ADD", "lo", &loopback)?;
        let conf = self.network.first()?;
        let mut result = Value::Null;
        for plugin in conf.plugins {
            let mut plugin = plugin;
            plugin["name"] = conf.name.clone();
            plugin["cniVersion"] = conf.version.clone();
            if !result.is_null() {
                plugin["prevResult"] = result;
            }
            result = self.call("ADD", "eth0", &plugin)?;
        }
        address(&result).context("the plugin returned no IPv4 address")
    }

    /// Removes the pod's network.
    ///
    /// # Errors A plugin that is missing or fails, with its error.
    pub fn remove(&self) -> Result<()> {
        let conf = self.network.first()?;
        for plugin in conf.plugins.into_iter().rev() {
            let mut plugin = plugin;
            plugin["name"] = conf.name.clone();
            plugin["cniVersion"] = conf.version.clone();
            self.call("DEL", "eth0", &plugin)?;
        }
        Ok(())
    }

    fn call(&self, command: &str, interface: &str, conf: &Value) -> Result<Value> {
        let kind = conf["type"].as_str().context("a plugin without a type")?;
        let path = self.network.find(kind)?;
        let (namespace, name) = self.pod;
        let arguments = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};\
             K8S_POD_INFRA_CONTAINER_ID={}",
            self.container
        );
        let mut plugin = Command::new(&path)
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", self.container)
            .env("CNI_NETNS", &self.namespace)
            .env("CNI_IFNAME", interface)
            .env("CNI_PATH", &self.network.plugins)
            .env("CNI_ARGS", arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| path.display().to_string())?;
        if let Some(mut input) = plugin.stdin.take() {
            // A plugin may ignore its input.
            let _ = input.write_all(conf.to_string().as_bytes());
        }
        let output = plugin.wait_with_output()?;
        let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if output.status.success() {
            return Ok(told);
        }
        let log = String::from_utf8_lossy(&output.stderr);
        let message = told["msg"].as_str().unwrap_or(log.trim());
        bail!("NetworkPlugin cni failed: {kind} {command}: {message}")
    }
}

/// The IPv4 address in a result of any version of that time.
fn address(result: &Value) -> Option<String> {
    let new = result["ips"].as_array().into_iter().flatten();
    let mut new = new.filter(|one| one["version"] != "6");
    let found = new
        .next()
        .and_then(|one| one["address"].as_str())
        .or_else(|| result["ip4"]["ip"].as_str())?;
    Some(found.split('/').next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_results_old_and_new() {
        let new = json!({"ips": [
            {"version": "6", "address": "::1/128"}, {"version": "4", "address": "10.1.2.3/32"},
        ]});
        assert_eq!(address(&new).as_deref(), Some("10.1.2.3"));
        let old = json!({"ip4": {"ip": "10.1.2.3/24"}});
        assert_eq!(address(&old).as_deref(), Some("10.1.2.3"));
        assert_eq!(address(&json!({})), None);
    }
}
