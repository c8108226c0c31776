//! The expected state of the cluster, for `appliance check`. Pure.

use serde::{Deserialize, Serialize};

use crate::nodespec::Ipip;

/// The expected state of the cluster, as the last installation recorded it on the master.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Expected {
    /// The version of Kubernetes.
    pub kubernetes: String,
    /// The address range of pods.
    pub pod_cidr: String,
    /// The address range of services.
    pub service_cidr: String,
    /// When Calico uses tunnels.
    pub ipip: Ipip,
    /// The MTU of pods, in bytes.
    pub pod_mtu: u32,
    /// The overhead of a tunnel, in bytes: the nodes' MTU minus the pods' MTU.
    pub tunnel: u32,
    /// The DNS domain of services.
    pub domain: String,
    /// The service address at which pods reach the API server.
    pub api_server_ip: String,
    /// The pause image.
    pub pause: String,
    /// The names of the masters. They join each other, but are not nodes of the cluster.
    pub masters: Vec<String>,
    /// Whether pods may reach OpenStack's metadata service.
    pub pod_metadata: bool,
    /// Whether the API server refuses pods that no PodSecurityPolicy allows.
    #[serde(default)]
    pub pod_security_policy: bool,
}
