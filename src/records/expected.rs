//! What `appliance check` compares the cluster with. Pure.

use serde::{Deserialize, Serialize};

/// What the cluster should be, as the last installation left it on the master.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Expected {
    /// The version of Kubernetes.
    pub kubernetes: String,
    /// The addresses of pods.
    pub pod_cidr: String,
    /// The addresses of services.
    pub service_cidr: String,
    /// When Calico tunnels.
    pub ipip: String,
    /// The MTU of pods, in bytes.
    pub pod_mtu: u32,
    /// What a tunnel takes of the nodes' MTU, in bytes.
    pub tunnel: u32,
    /// The DNS domain of services.
    pub domain: String,
    /// The API server's address for pods.
    pub api_server_ip: String,
    /// The image of pods that do nothing.
    pub pause: String,
    /// The names of the masters: they join each other, and are no nodes of the cluster.
    pub masters: Vec<String>,
    /// Whether pods may ask OpenStack's metadata service.
    pub pod_metadata: bool,
}
