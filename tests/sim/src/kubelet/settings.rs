//! The settings of pods, from the flags.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::client::Client;
use crate::docker::Docker;
use crate::flags::Flags;

use super::network::Network;

/// The default image of the container that holds a pod's network.
const PAUSE: &str = "gcr.io/google_containers/pause-amd64:3.0";

/// The settings of pods.
pub struct Settings {
    /// The node's name.
    pub node: String,
    /// The node's address, if it is known.
    pub address: Option<IpAddr>,
    /// The API.
    pub api: Client,
    /// The docker that runs containers.
    pub docker: Docker,
    /// The directory of pods' files.
    pub root: PathBuf,
    /// The image that holds a pod's network.
    pub pause: String,
    /// The network of pods; `None` for docker's own.
    pub network: Option<Network>,
    /// The cluster's name servers.
    pub dns: Vec<String>,
    /// The cluster's domain.
    pub domain: String,
    /// The host's resolver configuration.
    pub resolv_conf: PathBuf,
}

impl Settings {
    /// From the flags.
    ///
    /// # Errors Flags with which the real program would not run.
    pub fn read(flags: &Flags, node: &str, api: &Client, docker: Docker) -> Result<Self> {
        check_images(flags)?;
        for name in ["eviction-hard", "eviction-soft"] {
            check_thresholds(name, &flags.list(name))?;
        }
        for address in flags.list("cluster-dns") {
            let parsed = address.parse::<IpAddr>();
            parsed.with_context(|| format!("--cluster-dns: {address:?} is not an IP address"))?;
        }
        let text = |name, default: &str| flags.text(name).unwrap_or(default).to_owned();
        let dns = flags.list("cluster-dns").into_iter().map(str::to_owned);
        Ok(Self {
            address: flags.text("node-ip").unwrap_or(node).parse().ok(),
            root: text("root-dir", "/var/lib/kubelet").into(),
            pause: text("pod-infra-container-image", PAUSE),
            network: Network::read(flags)?,
            dns: dns.collect(),
            domain: text("cluster-domain", ""),
            resolv_conf: text("resolv-conf", "/etc/resolv.conf").into(),
            node: node.to_owned(),
            api: api.clone(),
            docker,
        })
    }

    /// The directory of a pod's files.
    pub fn directory(&self, uid: &str) -> PathBuf {
        self.root.join("pods").join(uid)
    }
}

/// The stand-in never removes images, but refuses the same flags as the real kubelet.
fn check_images(flags: &Flags) -> Result<()> {
    let percent = |name: &str, default: i64| -> Result<i64> {
        let stated = flags.text(name).map(str::parse).transpose();
        let value = stated
            .with_context(|| format!("--{name}"))?
            .unwrap_or(default);
        if !(0..=100).contains(&value) {
            bail!("--{name}: {value} must be between 0 and 100, inclusive");
        }
        Ok(value)
    };
    let (high, low) = (
        percent("image-gc-high-threshold", 85)?,
        percent("image-gc-low-threshold", 80)?,
    );
    if low > high {
        bail!(
            "failed to initialize image manager: LowThresholdPercent {low} can not be higher than \
             HighThresholdPercent {high}"
        );
    }
    Ok(())
}

fn check_thresholds(name: &str, thresholds: &[&str]) -> Result<()> {
    const SIGNALS: [&str; 6] = [
        "memory.available",
        "nodefs.available",
        "nodefs.inodesFree",
        "imagefs.available",
        "imagefs.inodesFree",
        "allocatableMemory.available",
    ];
    for threshold in thresholds {
        let Some((signal, value)) = threshold.split_once('<') else {
            bail!(
                "--{name}: invalid eviction threshold syntax {threshold}, expected \
                 <signal><operator><value>"
            );
        };
        if !SIGNALS.contains(&signal) {
            bail!("--{name}: unsupported eviction signal {signal}");
        }
        let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == '%');
        let unit = &value[digits.len()..];
        let known = ["", "%", "k", "Ki", "M", "Mi", "G", "Gi", "T", "Ti"].contains(&unit);
        if digits.parse::<f64>().is_err() || !known {
            bail!("--{name}: {value:?} of {signal} is neither a percentage nor a quantity");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::flags::Parsed;

    #[test]
    fn thresholds_are_those_the_real_kubelet_takes() {
        let images = |line: &str| {
            let known = "--image-gc-high-threshold\n--image-gc-low-threshold\n--version\n";
            let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let Parsed::Run(flags) = Flags::parse(known, &arguments).unwrap() else {
                panic!("not run");
            };
            check_images(&flags).is_ok()
        };
        assert!(images(""));
        assert!(images(
            "--image-gc-high-threshold=100 --image-gc-low-threshold=99"
        ));
        assert!(!images("--image-gc-high-threshold=101"));
        assert!(!images("--image-gc-high-threshold=70"));
        let evictions = |list: &[&str]| check_thresholds("eviction-hard", list).is_ok();
        assert!(evictions(&[
            "memory.available<100Mi",
            "nodefs.available<5%"
        ]));
        assert!(!evictions(&["memory.available"]));
        assert!(!evictions(&["memory<5%"]));
        assert!(!evictions(&["memory.available<5x"]));
    }
}
