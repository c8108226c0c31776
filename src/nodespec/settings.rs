//! The settings of an operator, as typed. The names are the same in the configuration file
//! (`podCIDR: 172.20.0.0/16`), the `appliance:` section of user-data, server properties
//! (`appliance.podCIDR`, or `podCIDR`) and the environment (`APPLIANCE_POD_CIDR`).

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::language::{Say, tr};

use super::spelling::SUGGESTION_DISTANCE;
use super::yaml::parse_yaml;
use super::{Profile, Role};

mod backup;

pub use backup::{BackupSettings, S3Settings};

/// Settings of one layer, not yet checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[schemars(
    title = "Settings of an appliance node",
    description = "/etc/appliance/config.yaml, or the section `appliance:` of user-data"
)]
pub struct Settings {
    /// The role of this node: master, worker or single (both).
    #[schemars(with = "Option<Role>")]
    pub role: Option<String>,
    /// The security profile: `with-ca` has TLS and authorization, `simple` has neither.
    #[schemars(with = "Option<Profile>")]
    pub profile: Option<String>,
    /// This node's name in the cluster, if it is not the host name.
    pub node_name: Option<String>,
    /// The IPv4 address at which other nodes reach this one, if it has several; or the range that holds it.
    pub address: Option<String>,
    /// The network of the nodes, if this one is in several: its IPv4 range, or its UUID in OpenStack.
    pub network: Option<String>,
    /// The interface with the address at which other nodes reach this one: its name or its MAC address.
    pub interface: Option<String>,
    /// The IPv4 address of the master. The VM that has this address becomes the master.
    pub master: Option<String>,
    /// All masters, if there are several: `NAME=ADDRESS`, separated by commas, or a list. The first one creates the certificate authority.
    #[schemars(with = "Option<OneOrMany>")]
    #[serde(deserialize_with = "one_or_many")]
    pub masters: Option<String>,
    /// The port on 127.0.0.1 at which each node reaches the API servers, if there are several.
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
    /// The ports that services may open on every node.
    pub node_port_range: Option<String>,
    /// Further names and addresses of the API server, separated by commas, or a list.
    #[schemars(with = "Option<OneOrMany>")]
    #[serde(rename = "apiServerSANs", deserialize_with = "one_or_many")]
    pub api_server_sans: Option<String>,
    /// When Calico uses IP-in-IP tunnels between nodes. `auto` is `always` on a VM of OpenStack, else `cross-subnet`. With `off` and `cross-subnet`, Neutron must allow the pods' addresses.
    #[schemars(with = "Option<Tunnels>")]
    pub ipip: Option<String>,
    /// IPv4 ranges besides the pods' to which nodes take routes from BGP peers, separated by commas, or a list.
    #[schemars(with = "Option<OneOrMany>")]
    #[serde(deserialize_with = "one_or_many")]
    pub bgp_routes: Option<String>,
    /// The MTU of the nodes' network, in bytes, if OpenStack and the kernel report a wrong one.
    #[schemars(with = "Option<u32>", range(min = 576, max = 9216))]
    pub mtu: Option<String>,
    /// Labels of the node: `KEY=VALUE`, separated by commas, or a list.
    #[schemars(with = "Option<OneOrMany>")]
    #[serde(deserialize_with = "one_or_many")]
    pub node_labels: Option<String>,
    /// Taints of the node: `KEY=VALUE:EFFECT`, separated by commas, or a list.
    #[schemars(with = "Option<OneOrMany>")]
    #[serde(deserialize_with = "one_or_many")]
    pub node_taints: Option<String>,
    /// Whether the cluster has the dashboard.
    #[schemars(with = "Option<OnOff>")]
    pub dashboard: Option<String>,
    /// Whether pods of the namespace default accept only connections that a NetworkPolicy allows.
    #[schemars(with = "Option<OnOff>")]
    pub default_deny: Option<String>,
    /// Whether the API server refuses pods that no PodSecurityPolicy allows. Pods outside kube-system then run without privileges and not as root.
    #[schemars(with = "Option<OnOff>")]
    pub pod_security_policy: Option<String>,
    /// Whether every start of a pod asks the registry for its images. Without a registry that has all images, no pod starts any more.
    #[schemars(with = "Option<OnOff>")]
    pub always_pull_images: Option<String>,
    /// How much the programs of Kubernetes write to the journal, from 0 to 10. More than 5 shows what is in requests and answers.
    #[schemars(with = "Option<u8>", range(max = 10))]
    pub log_level: Option<String>,
    /// Whether pods may reach OpenStack's metadata service, which shows user-data and its secrets.
    pub pod_metadata_access: Option<String>,
    /// The registry that replaces {{ HUB }} in manifests of workloads.
    pub hub: Option<String>,
    /// Manifests to apply once the cluster works, in this order, and their images.
    pub workloads: Option<Vec<WorkloadSettings>>,
    /// Your own certificate authority (CA). Without it, the master creates one.
    pub ca: Option<CaSettings>,
    /// How workers join the cluster.
    pub join: Option<JoinSettings>,
    /// How a master backs the cluster up.
    pub backup: Option<BackupSettings>,
    /// All nodes of the cluster. All VMs can have the same list: each finds its own entry.
    pub inventory: Option<Vec<InventoryEntry>>,
    /// Rules for the role of VMs without an inventory entry. The first rule that matches is used.
    pub role_rules: Option<Vec<RoleRule>>,
    /// Other machines to add to /etc/hosts: name and IPv4 address.
    pub hosts: Option<BTreeMap<String, String>>,
}

/// An existing certificate authority. Its files are read on the master, when it is installed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct CaSettings {
    /// The file with its certificates (PEM): the issuing CA first, the root last.
    pub certificate: String,
    /// The file with the private key of the issuing CA (PEM), RSA or ECDSA.
    pub key: String,
}

/// How workers join. Use the same values on the master and the workers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct JoinSettings {
    /// The join token, from `appliance token create --offline`. A worker and its master prove
    /// to each other that they know it. Keep it secret.
    #[schemars(with = "Option<String>")]
    pub token: Option<SecretText>,
    /// How long the master accepts the token, from the first time it sees it: `24h`, or `never`.
    pub ttl: Option<String>,
    /// How many workers may join with the token.
    #[schemars(with = "Option<u32>", range(min = 1))]
    pub uses: Option<String>,
    /// The TCP port of the master's join service. The next port is for renewals of certificates.
    #[schemars(with = "Option<u16>", range(min = 1024, max = 65534))]
    pub port: Option<String>,
}

/// One workload: a manifest, given as text or as a file, and its requirements.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct WorkloadSettings {
    /// Its name.
    pub name: String,
    /// The manifest itself. A value of the cluster replaces each `{{ NAME }}` in it.
    #[serde(default)]
    pub manifest: Option<String>,
    /// The file with the manifest, on the master.
    #[serde(default)]
    pub file: Option<String>,
    /// The workloads that must be available before it is applied.
    #[serde(default)]
    pub after: Vec<String>,
    /// Tarballs of images, from `docker save`, on every node that runs pods.
    #[serde(default)]
    pub images: Vec<String>,
}

/// Secret text, which is never printed.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// The text, for the code that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> SecretText {
        SecretText(Zeroizing::new(text))
    }
}

/// Serializing hides the text. Only [`super::written`] writes it, on purpose.
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

/// One node of the inventory. The first of `uuid`, `name` and `address` that it has identifies it.
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
    /// The IPv4 address at which other nodes reach it.
    #[serde(default)]
    pub address: Option<String>,
    /// Its role.
    #[schemars(with = "Role")]
    pub role: String,
}

/// Gives a role to VMs with a certain launch index or host name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(inline)]
pub struct RoleRule {
    /// The VM's number among those that one request created, from 0.
    #[schemars(with = "Option<u32>")]
    #[serde(default)]
    pub launch_index: Option<String>,
    /// A pattern of host names: `*` matches any characters, `?` one character.
    #[serde(default)]
    pub host_name: Option<String>,
    /// The role of such a VM.
    #[schemars(with = "Role")]
    pub role: String,
}

/// The values of `ipip`.
#[derive(JsonSchema)]
#[schemars(inline, rename_all = "kebab-case")]
#[expect(dead_code, reason = "for the schema alone")]
enum Tunnels {
    Auto,
    Off,
    Always,
    CrossSubnet,
}

/// The values of a switch.
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

/// A setting that is one piece of text: a server property, a variable or a flag can set it, too.
pub struct Plain {
    /// Its name.
    pub key: &'static str,
    /// Its variable in the environment.
    pub variable: &'static str,
    /// Its default, in words.
    pub default: &'static str,
    /// The same as a value, where it is one and the same on every node.
    default_value: Option<&'static str>,
    /// An example of a value.
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

/// A setting whose default is described in words, because it is not a value or differs from node to
/// node.
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
    described("address", "APPLIANCE_ADDRESS", "detected", "192.168.1.102"),
    described("network", "APPLIANCE_NETWORK", "detected", "192.168.1.0/24"),
    described("interface", "APPLIANCE_INTERFACE", "detected", "ens3"),
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
    plain("ipip", "APPLIANCE_IPIP", "auto", "auto"),
    described("bgpRoutes", "APPLIANCE_BGP_ROUTES", "none", "10.20.0.0/16"),
    described("mtu", "APPLIANCE_MTU", "detected, else 1500", "1450"),
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
        "podSecurityPolicy",
        "APPLIANCE_POD_SECURITY_POLICY",
        "off",
        "off",
    ),
    plain(
        "alwaysPullImages",
        "APPLIANCE_ALWAYS_PULL_IMAGES",
        "off",
        "off",
    ),
    described(
        "logLevel",
        "APPLIANCE_LOG_LEVEL",
        "1 for kube-apiserver, 2 for the others",
        "4",
    ),
    plain(
        "podMetadataAccess",
        "APPLIANCE_POD_METADATA_ACCESS",
        "deny",
        "deny",
    ),
    described("hub", "APPLIANCE_HUB", "none", "hub.example.org:8080"),
];

impl Plain {
    /// Its default, in words that `say` translates.
    pub fn default_in(&self, say: Say) -> String {
        match self.default_value {
            Some(value) => value.to_owned(),
            None => say(self.default),
        }
    }
}

fn plain_of(key: &str) -> Option<&'static Plain> {
    PLAIN.iter().find(|plain| plain.key == key)
}

/// The default of the plain setting `key`; `None` if it has none.
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

/// An example of a value of the plain setting.
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

/// Refuses names that are not those of plain settings.
pub fn check_names<K: AsRef<str>>(keys: impl IntoIterator<Item = K>) -> Result<()> {
    for key in keys {
        let key = key.as_ref();
        ensure!(
            is_plain(key),
            tr!(
                "{key} is not a setting{}; settings are {}",
                closest(key).map_or(String::new(), |k| tr!(" (did you mean `{k}`?)", k)),
                names(),
                key = format_args!("{key:?}")
            )
        );
    }
    Ok(())
}

pub(super) fn names() -> String {
    let names: Vec<&str> = PLAIN.iter().map(|plain| plain.key).collect();
    names.join(", ")
}

/// The plain setting whose name is closest to `name`, if any is close.
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

#[cfg(test)]
mod tests;
