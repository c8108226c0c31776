//! The configuration of Calico's plugins.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use super::{
    INCOMPATIBLE_VERSION, INVALID_CONFIG, UNDECODABLE, UNSUPPORTED_FIELD, VERSIONS, coded,
};
use crate::calico::datastore::Datastore;
use crate::client::Client;
use crate::etcd::Files;
use crate::kubeconfig;

/// The keys that cni-plugin v1.11.0 reads, and those that every plugin may get. The real one
/// ignores other keys silently; here a misspelt key is an error.
const KEYS: [&str; 18] = [
    "args",
    "capabilities",
    "cniVersion",
    "datastore_type",
    "dns",
    "etcd_ca_cert_file",
    "etcd_cert_file",
    "etcd_endpoints",
    "etcd_key_file",
    "ipam",
    "kubernetes",
    "log_level",
    "mtu",
    "name",
    "nodename",
    "policy",
    "prevResult",
    "type",
];

/// The default MTU of pods, as in the real plugin.
const DEFAULT_MTU: u32 = 1500;

/// A configuration that was accepted.
#[derive(Debug)]
pub struct Config {
    /// The protocol's version.
    pub version: String,
    /// The network's name.
    pub name: String,
    /// The node's name in Calico.
    pub node: String,
    /// The pod's MTU.
    pub mtu: u32,
    /// The address plugin's name.
    pub ipam: String,
    raw: Raw,
}

#[derive(Debug, Deserialize)]
struct Raw {
    #[serde(default)]
    name: String,
    #[serde(default)]
    nodename: String,
    mtu: Option<u32>,
    #[serde(default)]
    log_level: String,
    #[serde(default)]
    datastore_type: String,
    #[serde(default)]
    etcd_endpoints: String,
    #[serde(default)]
    etcd_ca_cert_file: PathBuf,
    #[serde(default)]
    etcd_cert_file: PathBuf,
    #[serde(default)]
    etcd_key_file: PathBuf,
    #[serde(default)]
    ipam: Ipam,
    #[serde(default)]
    policy: Policy,
    #[serde(default)]
    kubernetes: Kubernetes,
}

#[derive(Debug, Default, Deserialize)]
struct Ipam {
    #[serde(default)]
    r#type: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    #[serde(default)]
    r#type: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kubernetes {
    #[serde(default)]
    kubeconfig: PathBuf,
    #[serde(default)]
    k8s_api_root: String,
    #[serde(default)]
    node_name: String,
}

/// The JSON of any plugin's configuration.
///
/// # Errors Text that is not JSON.
pub fn parse(text: &str) -> Result<Value> {
    serde_json::from_str(text)
        .map_err(|error| coded(UNDECODABLE, format!("failed to load netconf: {error}")))
}

/// The protocol's version in a configuration; without one, the first.
///
/// # Errors A version that the plugins do not support.
pub fn version(config: &Value) -> Result<String> {
    let version = config["cniVersion"].as_str().unwrap_or_default();
    let version = if version.is_empty() { "0.1.0" } else { version };
    if !VERSIONS.contains(&version) {
        return Err(coded(
            INCOMPATIBLE_VERSION,
            format!(
                "incompatible CNI versions: config is {version:?}, plugin supports {VERSIONS:?}"
            ),
        ));
    }
    Ok(version.to_owned())
}

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors An unknown key, a value of the wrong type, a missing node or network name.
    pub fn read(text: &str) -> Result<Self> {
        let value = parse(text)?;
        let version = version(&value)?;
        let keys = value.as_object().into_iter().flat_map(|map| map.keys());
        for key in keys {
            if !KEYS.contains(&key.as_str()) {
                return Err(coded(UNSUPPORTED_FIELD, format!("unknown key {key:?}")));
            }
        }
        let raw: Raw = serde_json::from_value(value)
            .map_err(|error| coded(UNDECODABLE, format!("failed to load netconf: {error}")))?;
        raw.check()
            .map_err(|error| coded(INVALID_CONFIG, format!("{error:#}")))?;
        Ok(Self {
            version,
            name: raw.name.clone(),
            node: raw.nodename.clone(),
            mtu: raw.mtu.unwrap_or(DEFAULT_MTU),
            ipam: raw.ipam.r#type.clone(),
            raw,
        })
    }

    /// Calico's store.
    ///
    /// # Errors Invalid endpoints or files.
    pub fn store(&self) -> Result<Datastore> {
        let file = |path: &'_ PathBuf| (!path.as_os_str().is_empty()).then(|| path.clone());
        let raw = &self.raw;
        let [authority, certificate, key] = [
            file(&raw.etcd_ca_cert_file),
            file(&raw.etcd_cert_file),
            file(&raw.etcd_key_file),
        ];
        let files = Files {
            authority: authority.as_deref(),
            certificate: certificate.as_deref(),
            key: key.as_deref(),
        };
        Datastore::new(&raw.etcd_endpoints, files)
    }

    /// With `policy.type` k8s, the real plugin asks the API for the pod's labels, and fails without
    /// them.
    ///
    /// # Errors No API, or no such pod in it.
    pub fn check_pod(&self, pod: Option<(&str, &str)>) -> Result<()> {
        let (Some((namespace, name)), "k8s") = (pod, self.raw.policy.r#type.as_str()) else {
            return Ok(());
        };
        let kubernetes = &self.raw.kubernetes;
        let api = if kubernetes.kubeconfig == Path::new("") {
            Client::plain(&kubernetes.k8s_api_root).context("kubernetes.k8s_api_root")?
        } else {
            kubeconfig::client(&kubernetes.kubeconfig)?
        };
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let found = api.get(&path)?.json();
        found
            .map(|_| ())
            .with_context(|| format!("pod {namespace}/{name}"))
    }
}

impl Raw {
    fn check(&self) -> Result<()> {
        if self.name.is_empty() {
            bail!("name is missing");
        }
        if self.nodename.is_empty() {
            bail!("nodename is missing: it must be calico/node's NODENAME");
        }
        if !["", "etcdv2"].contains(&self.datastore_type.as_str()) {
            bail!("datastore_type: the stand-in has only etcdv2");
        }
        if self.etcd_endpoints.is_empty() {
            bail!("etcd_endpoints is missing");
        }
        let levels = ["", "debug", "info", "warning", "error"];
        if !levels.contains(&self.log_level.to_lowercase().as_str()) {
            bail!("log_level: {:?} is not a level", self.log_level);
        }
        if self.ipam.r#type.is_empty() || self.ipam.r#type.contains('/') {
            bail!("ipam.type must name a plugin");
        }
        let kubernetes = &self.kubernetes;
        let api = kubernetes.kubeconfig != Path::new("") || !kubernetes.k8s_api_root.is_empty();
        if self.policy.r#type == "k8s" && !api {
            bail!("policy.type k8s needs kubernetes.kubeconfig");
        }
        if !kubernetes.node_name.is_empty() && kubernetes.node_name != self.nodename {
            bail!(
                "kubernetes.node_name {:?} is not nodename {:?}",
                kubernetes.node_name,
                self.nodename
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::cni::Coded;

    const GOOD: &str = r#"{"name": "n", "cniVersion": "0.1.0", "type": "calico",
        "nodename": "a", "mtu": 1440, "log_level": "info", "etcd_endpoints": "http://192.0.2.1:2379",
        "ipam": {"type": "calico-ipam"}}"#;

    fn refusal(from: &str, to: &str) -> (u32, String) {
        let error = Config::read(&GOOD.replace(from, to)).unwrap_err();
        (error.downcast_ref::<Coded>().unwrap().0, error.to_string())
    }

    #[test]
    fn takes_what_the_appliance_writes() {
        let config = Config::read(GOOD).unwrap();
        assert_eq!((config.node.as_str(), config.mtu), ("a", 1440));
        assert_eq!(
            Config::read(&GOOD.replace("0.1.0", "")).unwrap().version,
            "0.1.0"
        );
    }

    #[test]
    fn refuses_what_would_not_work() {
        for (from, to, code, expected) in [
            ("nodename", "hostname", 2, "\"hostname\""),
            (r#""nodename": "a","#, "", 7, "nodename is missing"),
            ("0.1.0", "0.4.0", 1, "incompatible CNI versions"),
            ("1440", "\"1440\"", 6, "failed to load netconf"),
            ("etcd_endpoints", "etcd_endpoint", 2, "\"etcd_endpoint\""),
            ("{\"type\": \"calico-ipam\"}", "{}", 7, "ipam.type"),
            (
                "\"ipam\"",
                "\"policy\": {\"type\": \"k8s\"}, \"ipam\"",
                7,
                "kubeconfig",
            ),
        ] {
            let (found, text) = refusal(from, to);
            assert!(found == code && text.contains(expected), "{found} {text}");
        }
    }
}
