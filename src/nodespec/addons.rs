//! Add-ons of the cluster: DNS, policy, dashboard, workloads.

use std::fmt;
use std::str::FromStr;

use super::network;
use super::resolver::Resolver;
use super::settings::WorkloadSettings;
use super::value::{Layer, Origin, Sourced};
use super::{NodeSpec, Profile};
use crate::language::{message, tr, translated};

/// The add-ons of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddonSpec {
    /// Whether there is a dashboard.
    pub dashboard: Sourced<Switch>,
    /// Whether pods of the namespace `default` accept only connections that a NetworkPolicy allows.
    pub default_deny: Sourced<Switch>,
    /// Whether pods may reach OpenStack's metadata service.
    pub pod_metadata: Sourced<Access>,
    /// The registry that replaces `{{ HUB }}` in workloads; empty if there is none.
    pub hub: Sourced<String>,
    /// The operator's workloads, in this order.
    pub workloads: Vec<Sourced<WorkloadSettings>>,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Switch::On => "on",
            Switch::Off => "off",
        })
    }
}

impl FromStr for Switch {
    type Err = String;

    fn from_str(text: &str) -> Result<Switch, String> {
        match text {
            "on" | "true" => Ok(Switch::On),
            "off" | "false" => Ok(Switch::Off),
            _ => Err(tr!("expected on or off")),
        }
    }
}

/// Allowed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Allowed.
    Allow,
    /// Not allowed.
    Deny,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::Allow => "allow",
            Access::Deny => "deny",
        })
    }
}

impl FromStr for Access {
    type Err = String;

    fn from_str(text: &str) -> Result<Access, String> {
        match text {
            "allow" => Ok(Access::Allow),
            "deny" => Ok(Access::Deny),
            _ => Err(tr!("expected allow or deny")),
        }
    }
}

impl Resolver<'_> {
    #[rustfmt::skip]
    pub(super) fn addons(&mut self) -> Option<AddonSpec> {
        let dashboard = self.setting("dashboard", |s| &s.dashboard, str::parse);
        let default_deny = self.setting("defaultDeny", |s| &s.default_deny, str::parse);
        let pod_metadata = self.setting("podMetadataAccess", |s| &s.pod_metadata_access, str::parse);
        let hub = self.setting("hub", |s| &s.hub, hub);
        let workloads = self.workloads();
        Some(AddonSpec {
            dashboard: dashboard?,
            default_deny: default_deny?,
            pod_metadata: pod_metadata?,
            hub: hub?,
            workloads: workloads?,
        })
    }

    /// The strongest layer's workloads. Their manifests are read when the node is installed.
    fn workloads(&mut self) -> Option<Vec<Sourced<WorkloadSettings>>> {
        let mut layers = self.layers.iter();
        let said = layers.find_map(|layer| Some((layer, layer.settings.workloads.as_ref()?)));
        let Some((layer, workloads)) = said else {
            return Some(vec![]);
        };
        let problems = self.problems.len();
        for (index, workload) in workloads.iter().enumerate() {
            self.check_workload(layer, index, workload);
            let first = workloads
                .iter()
                .position(|other| other.name == workload.name);
            if let Some(first) = first.filter(|first| *first != index) {
                let why = tr!(
                    "workloads[{first}] has the same name; give each its own",
                    first
                );
                self.refuse(&origin(layer, index, "name"), &workload.name, why);
            }
        }
        let sourced = workloads.iter().enumerate().map(|(index, workload)| {
            let origin = layer.origin(&format!("workloads[{index}]"));
            Sourced::new(workload.clone(), origin)
        });
        (self.problems.len() == problems).then(|| sourced.collect())
    }

    fn check_workload(&mut self, layer: &Layer, index: usize, workload: &WorkloadSettings) {
        if let Err(why) = network::dns_name(&workload.name) {
            self.refuse(&origin(layer, index, "name"), &workload.name, why);
        }
        let (inline, file) = (&workload.manifest, &workload.file);
        if inline.is_some() == file.is_some() {
            let why = &tr!("expected either `manifest` (the YAML itself) or `file` (a path)");
            self.refuse(&origin(layer, index, "name"), &workload.name, why);
        }
        let image = |path| (path, "images");
        let images = workload.images.iter().map(image);
        let paths: Vec<_> = images
            .chain(file.iter().map(|path| (path, "file")))
            .collect();
        for (path, field) in paths {
            if !path.starts_with('/') {
                let origin = origin(layer, index, field);
                self.refuse(&origin, path, tr!("expected an absolute path"));
            }
        }
    }

    /// The profile `simple` enforces no policy. A policy without effect is worse than none.
    pub(super) fn check_policy(&mut self, spec: &NodeSpec) {
        let deny = &spec.addons.default_deny;
        if deny.value == Switch::On && *spec.profile == Profile::Simple {
            let why = &tr!(
                "the profile simple enforces no NetworkPolicy; set `defaultDeny: off` or \
                       `profile: with-ca`"
            );
            self.refuse(&deny.origin, "on", why);
        }
    }
}

fn origin(layer: &Layer, index: usize, field: &str) -> Origin {
    layer.origin(&format!("workloads[{index}].{field}"))
}

/// A registry, as written before the name of an image: `HOST[:PORT][/PATH]`.
fn hub(text: &str) -> Result<String, String> {
    const EXPECTED: &str =
        message!("expected a registry such as hub.example.org:8080, without https://");
    let (host, path) = text.split_once('/').unwrap_or((text, "x"));
    let (name, port) = host.split_once(':').unwrap_or((host, "443"));
    let is_part = |part: &str| {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        !part.is_empty() && part.bytes().all(fits)
    };
    let port_fits = port.parse::<u16>().is_ok_and(|port| port > 0);
    let fits = network::dns_name(name).is_ok() && port_fits && path.split('/').all(is_part);
    if text.is_empty() || fits {
        return Ok(text.to_owned());
    }
    Err(translated(EXPECTED))
}

#[cfg(test)]
mod tests {
    use super::hub;

    #[test]
    fn a_hub_is_what_stands_before_an_images_name() {
        for good in ["", "hub.example.org", "192.168.1.5:5000", "hub:80/a/b_c"] {
            assert_eq!(hub(good).as_deref(), Ok(good));
        }
        for bad in [
            "https://hub",
            "hub/",
            "hub:0",
            "hub:x",
            "Hub",
            "hub/a b",
            "hub\n",
            "-",
        ] {
            assert!(hub(bad).is_err(), "{bad:?}");
        }
    }
}
