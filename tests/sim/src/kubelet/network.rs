//! The CNI network that a node needs to be ready.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::flags::Flags;

/// The directories of a CNI network.
pub struct Network {
    /// The directory of configurations.
    pub configurations: PathBuf,
    /// The directory of plugins.
    pub plugins: PathBuf,
}

/// A network as its configuration describes it.
pub struct Configuration {
    /// The network's name.
    pub name: Value,
    /// The version that plugins get.
    pub version: Value,
    /// The plugins, in order.
    pub plugins: Vec<Value>,
}

impl Network {
    /// From the flags; `None` for docker's own network.
    ///
    /// # Errors A plugin other than `cni`.
    pub fn read(flags: &Flags) -> Result<Option<Self>> {
        let path = |flag, default: &str| PathBuf::from(flags.text(flag).unwrap_or(default));
        match flags.text("network-plugin") {
            Some("cni") => Ok(Some(Self {
                configurations: path("cni-conf-dir", "/etc/cni/net.d"),
                plugins: path("cni-bin-dir", "/opt/cni/bin"),
            })),
            None => Ok(None),
            Some(other) => {
                bail!("--network-plugin: the stand-in knows only cni, not {other:?}")
            }
        }
    }

    /// Checks that the first configuration by name is usable, and that its plugin and `loopback`
    /// exist: the kubelet calls both for every pod.
    ///
    /// # Errors The missing part, in the words of the real kubelet.
    pub fn check(&self) -> Result<()> {
        for plugin in &self.first()?.plugins {
            let kind = plugin["type"].as_str().context("a plugin without a type")?;
            self.find(kind)?;
            if let Some(ipam) = plugin["ipam"]["type"].as_str() {
                self.find(ipam)?;
            }
        }
        self.find("loopback").map(drop)
    }

    /// The first configuration by name.
    ///
    /// # Errors There is none, or it cannot be read.
    pub fn first(&self) -> Result<Configuration> {
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
        let listed = conf["plugins"].as_array().cloned();
        Ok(Configuration {
            name: conf["name"].clone(),
            version: conf["cniVersion"].clone(),
            plugins: listed.unwrap_or_else(|| vec![conf]),
        })
    }

    /// The path of a plugin.
    ///
    /// # Errors It does not exist.
    pub fn find(&self, plugin: &str) -> Result<PathBuf> {
        let path = self.plugins.join(plugin);
        if path.is_file() {
            return Ok(path);
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
}
