//! The settings an operator can make, as typed, and where each came from.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Deserializer};

/// The prefix that marks a server property as meant for this program.
const PREFIX: &str = "appliance.";

/// How unlike a known key a misspelt one may be (in edits) to be suggested.
const SUGGESTION_DISTANCE: usize = 2;

/// Settings of one source, not yet checked. The same names serve the configuration file
/// (`podCIDR: 172.20.0.0/16`) and server properties (`appliance.podCIDR`, or `podCIDR`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Settings {
    /// `master`, `worker` or `single`.
    pub role: Option<String>,
    /// `with-ca` or `simple`.
    pub profile: Option<String>,
    /// The node's name in the cluster.
    pub node_name: Option<String>,
    /// The address other nodes reach this one by.
    pub address: Option<String>,
    /// The cluster's name in kubeconfigs.
    pub cluster_name: Option<String>,
    /// The addresses of pods.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Option<String>,
    /// The virtual addresses of services.
    #[serde(rename = "serviceCIDR")]
    pub service_cidr: Option<String>,
    /// The DNS domain of services.
    pub cluster_domain: Option<String>,
    /// The ports a service may open on every node, as `20000-40000`.
    pub node_port_range: Option<String>,
    /// Further names and addresses of the API server: separated by commas, or a list.
    #[serde(rename = "apiServerSANs", deserialize_with = "one_or_many")]
    pub api_server_sans: Option<String>,
    /// Whether Calico tunnels between nodes: `off`, `always` or `cross-subnet`.
    pub ipip: Option<String>,
    /// The MTU of the nodes' network, in bytes.
    pub mtu: Option<String>,
    /// Other nodes for `/etc/hosts`: name to address. Not available as a server property.
    pub hosts: Option<BTreeMap<String, String>>,
}

/// Text, or a list of texts, which are then joined by commas.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(Some(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(text) => text,
        OneOrMany::Many(texts) => texts.join(","),
    }))
}

/// The names of all settings a server property can make.
const KEYS: &[&str] = &[
    "role",
    "profile",
    "nodeName",
    "address",
    "clusterName",
    "podCIDR",
    "serviceCIDR",
    "clusterDomain",
    "nodePortRange",
    "apiServerSANs",
    "ipip",
    "mtu",
];

impl Settings {
    /// Reads a configuration file's text; `place` names the file in errors.
    pub fn from_yaml(place: &str, text: &str) -> Result<Settings> {
        serde_saphyr::from_str(text)
            .map_err(|error| anyhow::anyhow!("{}", suggest(&error.to_string())))
            .with_context(|| format!("configuration {place}"))
    }

    /// Takes the settings among a server's properties: `appliance.KEY` wins over `KEY`.
    /// Properties of other names belong to others and are passed over, but one that
    /// starts with `appliance.` and is not a setting is refused as misspelt.
    pub fn from_properties(place: &str, meta: &BTreeMap<String, String>) -> Result<Settings> {
        let mut found: BTreeMap<&str, &str> = BTreeMap::new();
        for (key, value) in meta {
            match key.strip_prefix(PREFIX) {
                Some(name) if KEYS.contains(&name) => {
                    found.insert(name, value);
                }
                Some(name) => bail!(
                    "{place}: `meta.{key}` is not a setting{}; settings are {}",
                    closest(name)
                        .map_or(String::new(), |k| format!(" (did you mean `{PREFIX}{k}`?)")),
                    KEYS.join(", ")
                ),
                None if KEYS.contains(&key.as_str()) => {
                    found.entry(key).or_insert(value);
                }
                None => {}
            }
        }
        serde_json::from_value(serde_json::to_value(found)?).with_context(|| place.to_owned())
    }
}

/// The setting whose name is most like `name`, if one is like it at all.
pub fn closest(name: &str) -> Option<&'static str> {
    KEYS.iter()
        .map(|key| {
            (
                strsim::damerau_levenshtein(&key.to_lowercase(), &name.to_lowercase()),
                *key,
            )
        })
        .filter(|(distance, _)| *distance <= SUGGESTION_DISTANCE)
        .min()
        .map(|(_, key)| key)
}

/// Adds the likeliest setting to the parser's complaint about an unknown one.
fn suggest(complaint: &str) -> String {
    let misspelt = complaint
        .split_once("unknown field `")
        .and_then(|(_, rest)| rest.split_once('`'));
    match misspelt.and_then(|(name, _)| closest(name)) {
        Some(key) => format!("{complaint}\ndid you mean `{key}`?"),
        None => complaint.to_owned(),
    }
}

/// Where a value came from, as a person would look it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A command line flag.
    Flag(&'static str),
    /// A key of the configuration file at this path.
    Config(String, &'static str),
    /// A server property, as this source reported it.
    Property(String, &'static str),
    /// Something else this source says of the VM.
    Metadata(String, &'static str),
    /// What the machine itself shows.
    Host(&'static str),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(flag) => write!(f, "flag {flag}"),
            Origin::Config(path, key) => write!(f, "configuration {path}: `{key}`"),
            Origin::Property(source, key) => write!(f, "{source}: `meta.{key}`"),
            Origin::Metadata(source, key) => write!(f, "{source}: `{key}`"),
            Origin::Host(what) => write!(f, "this machine's {what}"),
            Origin::Default => write!(f, "default"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> Result<Settings> {
        let meta = pairs
            .iter()
            .map(|&(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        Settings::from_properties("config drive /dev/sr0", &meta)
    }

    #[test]
    fn the_prefixed_property_wins() {
        let settings = properties(&[("role", "worker"), ("appliance.role", "master")]).unwrap();
        assert_eq!(settings.role.as_deref(), Some("master"));
    }

    #[test]
    fn properties_of_others_are_passed_over() {
        let settings = properties(&[("backup", "nightly"), ("podCIDR", "10.0.0.0/16")]).unwrap();
        assert_eq!(settings.pod_cidr.as_deref(), Some("10.0.0.0/16"));
        assert_eq!(settings.role, None);
    }

    #[test]
    fn a_misspelt_prefixed_property_is_refused_with_a_suggestion() {
        let error = properties(&[("appliance.rloe", "master")])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("`meta.appliance.rloe` is not a setting"),
            "{error}"
        );
        assert!(error.contains("did you mean `appliance.role`?"), "{error}");
    }

    #[test]
    fn a_misspelt_key_of_the_configuration_is_refused_with_a_suggestion() {
        let error = Settings::from_yaml("site.yaml", "podCDIR: 172.20.0.0/16\n").unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("configuration site.yaml"), "{text}");
        assert!(text.contains("did you mean `podCIDR`?"), "{text}");
    }

    #[test]
    fn a_configuration_is_written_as_people_write_yaml() {
        let text = "mtu: 1450\napiServerSANs: [api.example.org, 203.0.113.7]\nhosts:\n  server01: 192.168.1.101\n";
        let settings = Settings::from_yaml("site.yaml", text).unwrap();
        assert_eq!(settings.mtu.as_deref(), Some("1450"));
        assert_eq!(
            settings.api_server_sans.as_deref(),
            Some("api.example.org,203.0.113.7")
        );
        assert_eq!(settings.hosts.unwrap()["server01"], "192.168.1.101");
    }

    #[test]
    fn every_key_a_property_can_set_is_a_field() {
        let all: Vec<(&str, &str)> = KEYS.iter().map(|&key| (key, "x")).collect();
        properties(&all).unwrap();
    }
}
