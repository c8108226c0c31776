//! The settings an operator can make, as typed. The same names serve the configuration file
//! (`podCIDR: 172.20.0.0/16`), the `appliance:` section of user-data, server properties
//! (`appliance.podCIDR`, or `podCIDR`) and the environment (`APPLIANCE_POD_CIDR`).

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::{Ipip, Profile, Role};

/// How unlike a known key a misspelt one may be (in edits) to be suggested.
pub(super) const SUGGESTION_DISTANCE: usize = 2;

/// Settings of one layer, not yet checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[schemars(
    title = "Settings of an appliance node",
    description = "/etc/appliance/config.yaml, or the section `appliance:` of user-data"
)]
pub struct Settings {
    /// What this node is to be.
    #[schemars(with = "Option<Role>")]
    pub role: Option<String>,
    /// How the cluster's parts trust each other; `simple` has no TLS and no authorization.
    #[schemars(with = "Option<Profile>")]
    pub profile: Option<String>,
    /// This node's name in the cluster, if not its host name.
    pub node_name: Option<String>,
    /// The IPv4 address other nodes reach this one by, where it has several.
    pub address: Option<String>,
    /// The IPv4 address of the master. The VM that has it is the master.
    pub master: Option<String>,
    /// The masters, where there are several, the founding one first: `NAME=ADDRESS` by commas, or a list.
    #[schemars(with = "Option<OneOrMany>")]
    #[serde(deserialize_with = "one_or_many")]
    pub masters: Option<String>,
    /// The port on 127.0.0.1 at which each node reaches the API servers, where there are several.
    #[schemars(with = "Option<u16>", range(min = 1024))]
    pub balancer_port: Option<String>,
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
    /// The ports a service may open on every node.
    pub node_port_range: Option<String>,
    /// Further names and addresses of the API server, separated by commas, or a list.
    #[schemars(with = "Option<OneOrMany>")]
    #[serde(rename = "apiServerSANs", deserialize_with = "one_or_many")]
    pub api_server_sans: Option<String>,
    /// When Calico tunnels between nodes. With `off`, Neutron has to let the pods' addresses pass.
    #[schemars(with = "Option<Ipip>")]
    pub ipip: Option<String>,
    /// The MTU of the nodes' network, in bytes, if it is not what OpenStack and the kernel say.
    #[schemars(with = "Option<u32>", range(min = 576, max = 9216))]
    pub mtu: Option<String>,
    /// Labels the node registers with: `KEY=VALUE`, separated by commas, or a list.
    #[schemars(with = "Option<OneOrMany>")]
    #[serde(deserialize_with = "one_or_many")]
    pub node_labels: Option<String>,
    /// Taints the node registers with: `KEY=VALUE:EFFECT`, separated by commas, or a list.
    #[schemars(with = "Option<OneOrMany>")]
    #[serde(deserialize_with = "one_or_many")]
    pub node_taints: Option<String>,
    /// Whether the cluster has the dashboard.
    #[schemars(with = "Option<OnOff>")]
    pub dashboard: Option<String>,
    /// Whether pods of the namespace default take only connections that a NetworkPolicy lets in.
    #[schemars(with = "Option<OnOff>")]
    pub default_deny: Option<String>,
    /// Whether pods may ask OpenStack's metadata service, which knows user-data and its secrets.
    pub pod_metadata_access: Option<String>,
    /// The registry that manifests of workloads call {{ HUB }}.
    pub hub: Option<String>,
    /// Manifests to apply once the cluster works, in this order, and the images they need.
    pub workloads: Option<Vec<WorkloadSettings>>,
    /// The certificate authority the master is to use, in the place of one it makes itself.
    pub ca: Option<CaSettings>,
    /// How workers join the cluster.
    pub join: Option<JoinSettings>,
    /// The cluster's nodes, so that all VMs can share one file: each finds itself in it.
    pub inventory: Option<Vec<InventoryEntry>>,
    /// Rules that give a role to VMs nobody named. The first that fits counts.
    pub role_rules: Option<Vec<RoleRule>>,
    /// Other machines for /etc/hosts: name to IPv4 address.
    pub hosts: Option<BTreeMap<String, String>>,
}

/// An existing certificate authority. Its files are read on the master, when it is installed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct CaSettings {
    /// The file of its certificates (PEM): the one that issues first, the root last.
    pub certificate: String,
    /// The file of the issuing one's private key (PEM), RSA or ECDSA.
    pub key: String,
}

/// How workers join: the same for the master and the workers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct JoinSettings {
    /// The token that proves a worker and its master to each other, as
    /// `appliance token create --offline` makes it. A secret.
    #[schemars(with = "Option<String>")]
    pub token: Option<SecretText>,
    /// How long the master takes the token, from when it first sees it: `24h`, or `never`.
    pub ttl: Option<String>,
    /// How many workers may join with the token.
    #[schemars(with = "Option<u32>", range(min = 1))]
    pub uses: Option<String>,
    /// The TCP port of the master's join service; the next one serves renewals.
    #[schemars(with = "Option<u16>", range(min = 1024, max = 65534))]
    pub port: Option<String>,
}

/// One workload: a manifest, given as text or as a file, and what it needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct WorkloadSettings {
    /// What people call it.
    pub name: String,
    /// The manifest itself. `{{ NAME }}` in it stands for a value of the cluster.
    #[serde(default)]
    pub manifest: Option<String>,
    /// The file the manifest is in, on the master.
    #[serde(default)]
    pub file: Option<String>,
    /// The workloads that have to be available before it is applied.
    #[serde(default)]
    pub after: Vec<String>,
    /// Tarballs of images, as `docker save` writes them, on every node that runs pods.
    #[serde(default)]
    pub images: Vec<String>,
}

/// Text that nobody may see.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// The text, for whoever has to use it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> SecretText {
        SecretText(Zeroizing::new(text))
    }
}

/// What is written without thinking of it must not tell: see [`super::written`].
impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("<secret>")
    }
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<secret>")
    }
}

/// One node of the inventory, told by the first of `uuid`, `name` and `address` it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct InventoryEntry {
    /// The server's name, and the node's in the cluster.
    #[serde(default)]
    pub name: Option<String>,
    /// The server's UUID.
    #[serde(default)]
    pub uuid: Option<String>,
    /// The IPv4 address other nodes reach it by.
    #[serde(default)]
    pub address: Option<String>,
    /// What it is to be.
    #[schemars(with = "Role")]
    pub role: String,
}

/// Gives VMs of a launch index or a host name their role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(inline)]
pub struct RoleRule {
    /// The VM's place among those that one request created, from 0.
    #[schemars(with = "Option<u32>")]
    #[serde(default)]
    pub launch_index: Option<String>,
    /// A pattern of host names: `*` stands for anything, `?` for one character.
    #[serde(default)]
    pub host_name: Option<String>,
    /// What such a VM is to be.
    #[schemars(with = "Role")]
    pub role: String,
}

/// What a switch may be set to.
#[derive(JsonSchema)]
#[schemars(inline, rename_all = "lowercase")]
#[expect(dead_code, reason = "for the schema alone")]
enum OnOff {
    On,
    Off,
}

/// Text, or a list of texts.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// Text, or a list of texts, which are then joined by commas.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Some(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(text) => text,
        OneOrMany::Many(texts) => texts.join(","),
    }))
}

/// A setting that is one piece of text: it can also be a server property, a variable or a flag.
pub struct Plain {
    /// Its name.
    pub key: &'static str,
    /// Its variable in the environment.
    pub variable: &'static str,
    /// What counts where nobody says anything, for people.
    pub default: &'static str,
    /// The same as a value, where it is one and the same on every node.
    default_value: Option<&'static str>,
    /// A value it may have.
    pub example: &'static str,
}

const fn plain(
    key: &'static str,
    variable: &'static str,
    default: &'static str,
    example: &'static str,
) -> Plain {
    Plain {
        key,
        variable,
        default,
        default_value: Some(default),
        example,
    }
}

/// A setting whose default is described, because it is no value or differs from node to node.
const fn described(
    key: &'static str,
    variable: &'static str,
    default: &'static str,
    example: &'static str,
) -> Plain {
    Plain {
        default_value: None,
        ..plain(key, variable, default, example)
    }
}

/// All plain settings.
pub const PLAIN: &[Plain] = &[
    described("role", "APPLIANCE_ROLE", "none", "master"),
    plain("profile", "APPLIANCE_PROFILE", "with-ca", "with-ca"),
    described(
        "nodeName",
        "APPLIANCE_NODE_NAME",
        "its host name",
        "server02",
    ),
    described("address", "APPLIANCE_ADDRESS", "found", "192.168.1.102"),
    described(
        "master",
        "APPLIANCE_MASTER",
        "from the inventory",
        "192.168.1.102",
    ),
    described(
        "masters",
        "APPLIANCE_MASTERS",
        "from the inventory",
        "server02=192.168.1.102,server04=192.168.1.104,server05=192.168.1.105",
    ),
    plain("balancerPort", "APPLIANCE_BALANCER_PORT", "6440", "6440"),
    plain(
        "clusterName",
        "APPLIANCE_CLUSTER_NAME",
        "kubernetes",
        "kubernetes",
    ),
    plain(
        "podCIDR",
        "APPLIANCE_POD_CIDR",
        "172.20.0.0/16",
        "172.20.0.0/16",
    ),
    plain(
        "serviceCIDR",
        "APPLIANCE_SERVICE_CIDR",
        "10.68.0.0/16",
        "10.68.0.0/16",
    ),
    plain(
        "clusterDomain",
        "APPLIANCE_CLUSTER_DOMAIN",
        "cluster.local",
        "cluster.local",
    ),
    plain(
        "nodePortRange",
        "APPLIANCE_NODE_PORT_RANGE",
        "20000-40000",
        "20000-40000",
    ),
    described(
        "apiServerSANs",
        "APPLIANCE_API_SERVER_SANS",
        "none",
        "k8s.example.org,203.0.113.7",
    ),
    plain("ipip", "APPLIANCE_IPIP", "off", "off"),
    described("mtu", "APPLIANCE_MTU", "found, else 1500", "1450"),
    described(
        "nodeLabels",
        "APPLIANCE_NODE_LABELS",
        "its role",
        "node-role.kubernetes.io/worker=",
    ),
    described(
        "nodeTaints",
        "APPLIANCE_NODE_TAINTS",
        "none",
        "dedicated=gpu:NoSchedule",
    ),
    plain("dashboard", "APPLIANCE_DASHBOARD", "off", "off"),
    plain("defaultDeny", "APPLIANCE_DEFAULT_DENY", "off", "off"),
    plain(
        "podMetadataAccess",
        "APPLIANCE_POD_METADATA_ACCESS",
        "deny",
        "deny",
    ),
    described("hub", "APPLIANCE_HUB", "none", "hub.example.org:8080"),
];

fn plain_of(key: &str) -> Option<&'static Plain> {
    PLAIN.iter().find(|plain| plain.key == key)
}

/// The value of the plain setting `key` where nobody says another; `None` where it has none.
pub fn default_of(key: &str) -> Option<&'static str> {
    plain_of(key)?.default_value
}

/// Whether the setting is one piece of text.
pub fn is_plain(key: &str) -> bool {
    plain_of(key).is_some()
}

/// The variable of a plain setting.
pub fn variable_of(key: &str) -> Option<&'static str> {
    plain_of(key).map(|plain| plain.variable)
}

/// A value the plain setting may have.
pub fn example_of(key: &str) -> Option<&'static str> {
    plain_of(key).map(|plain| plain.example)
}

impl Settings {
    /// Reads a configuration file's text; `place` names the file in errors.
    pub fn from_yaml(place: &str, text: &str) -> Result<Settings> {
        parse_yaml(text).with_context(|| place.to_owned())
    }

    /// Plain settings by their names.
    pub(super) fn from_pairs(pairs: &BTreeMap<&str, &str>) -> Result<Settings> {
        Ok(serde_json::from_value(serde_json::to_value(pairs)?)?)
    }
}

/// Refuses a name that no plain setting has.
pub fn check_names<K: AsRef<str>>(keys: impl IntoIterator<Item = K>) -> Result<()> {
    for key in keys {
        let key = key.as_ref();
        ensure!(
            is_plain(key),
            "{key:?} is not a setting{}; settings are {}",
            closest(key).map_or(String::new(), |k| format!(" (did you mean `{k}`?)")),
            names()
        );
    }
    Ok(())
}

pub(super) fn names() -> String {
    let names: Vec<&str> = PLAIN.iter().map(|plain| plain.key).collect();
    names.join(", ")
}

/// The plain setting whose name is most like `name`, if one is like it at all.
pub fn closest(name: &str) -> Option<&'static str> {
    PLAIN
        .iter()
        .map(|plain| {
            let (known, typed) = (plain.key.to_lowercase(), name.to_lowercase());
            (strsim::damerau_levenshtein(&known, &typed), plain.key)
        })
        .filter(|(distance, _)| *distance <= SUGGESTION_DISTANCE)
        .min()
        .map(|(_, key)| key)
}

/// Reads YAML that may hold settings. The error tells line and column, but shows none of the
/// lines around: in user-data they may be passwords.
pub(super) fn parse_yaml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| anyhow!("{}", suggest(&error.to_string())))
}

/// Adds the likeliest setting to the parser's complaint about an unknown one.
pub(super) fn suggest(complaint: &str) -> String {
    let misspelt = complaint
        .split_once("unknown field `")
        .and_then(|(_, rest)| rest.split_once('`'));
    match misspelt.and_then(|(name, _)| closest(name)) {
        Some(key) => format!("{complaint}\ndid you mean `{key}`?"),
        None => complaint.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_misspelt_key_of_the_configuration_is_refused_with_a_suggestion() {
        let error =
            Settings::from_yaml("configuration site.yaml", "podCDIR: 172.20.0.0/16\n").unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("configuration site.yaml"), "{text}");
        assert!(text.contains("did you mean `podCIDR`?"), "{text}");
    }

    #[test]
    fn a_configuration_is_written_as_people_write_yaml() {
        let text = "mtu: 1450\nipip: off\napiServerSANs: [api.example.org, 203.0.113.7]\n\
            hosts:\n  server01: 192.168.1.101\nroleRules:\n- launchIndex: 0\n  role: master\n";
        let settings = Settings::from_yaml("site.yaml", text).unwrap();
        assert_eq!(settings.mtu.as_deref(), Some("1450"));
        assert_eq!(settings.ipip.as_deref(), Some("off"));
        assert_eq!(
            settings.api_server_sans.as_deref(),
            Some("api.example.org,203.0.113.7")
        );
        assert_eq!(settings.hosts.unwrap()["server01"], "192.168.1.101");
        assert_eq!(
            settings.role_rules.unwrap()[0].launch_index.as_deref(),
            Some("0")
        );
    }
}
