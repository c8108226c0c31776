//! The state of an installed node. Pure.

use core::net::Ipv4Addr;

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bundle::manifest::Manifest;
use crate::language::tr;
use crate::nodespec::master::Master;
use crate::nodespec::{NodeSpec, Shape};
use crate::paths::STATE;

/// The state of an installed node. The file exists only after a run has completed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The version of the program that wrote it.
    pub appliance: String,
    /// The name of the bundle in use.
    pub bundle: String,
    /// The bundle's Kubernetes version.
    pub kubernetes: String,
    /// The digest of the bundle in use.
    pub digest: String,
    /// Whether the bundle contains stand-ins.
    pub demonstration: bool,
    /// The node's role.
    pub role: String,
    /// The cluster's profile.
    pub profile: String,
    /// The node's name.
    pub node: String,
    /// The node's address.
    pub address: String,
    /// The addresses of pods.
    #[serde(default)]
    pub pod_cidr: Option<String>,
    /// The addresses of services.
    #[serde(default)]
    pub service_cidr: Option<String>,
    /// All masters of its cluster, if there are several.
    #[serde(default)]
    pub masters: Vec<Master>,
    /// The port of its balancer, if there are several masters.
    #[serde(default)]
    pub balancer_port: Option<u16>,
}

/// The facts of an installed node that others rely on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Its role.
    pub role: String,
    /// The profile of its cluster.
    pub profile: String,
    /// Its name.
    pub node: String,
    /// Its address.
    pub address: String,
    /// The addresses of pods, if they are known.
    pub pod_cidr: Option<String>,
    /// The addresses of services, if they are known.
    pub service_cidr: Option<String>,
    /// The masters of its cluster, if it is known whether there are several.
    pub masters: Option<Vec<Master>>,
}

impl From<&State> for Installed {
    fn from(state: &State) -> Installed {
        let state = state.clone();
        Installed {
            role: state.role,
            profile: state.profile,
            node: state.node,
            address: state.address,
            pod_cidr: state.pod_cidr,
            service_cidr: state.service_cidr,
            masters: Some(state.masters),
        }
    }
}

impl State {
    /// The state of a node of `spec` that was installed from the bundle of `manifest`, whose
    /// payload has that digest.
    pub fn of(spec: &NodeSpec, manifest: &Manifest, digest: &str) -> State {
        let bundle = &manifest.bundle;
        State {
            appliance: env!("CARGO_PKG_VERSION").to_owned(),
            bundle: bundle.name.clone(),
            kubernetes: bundle.kubernetes.clone(),
            digest: digest.to_owned(),
            demonstration: bundle.demonstration,
            role: spec.role.to_string(),
            profile: spec.profile.to_string(),
            node: spec.name.value.clone(),
            address: spec.address.to_string(),
            pod_cidr: Some(spec.cluster.pod_cidr.to_string()),
            service_cidr: Some(spec.cluster.service_cidr.to_string()),
            masters: spec.cluster.masters.value.clone(),
            balancer_port: (spec.has_several_masters()).then_some(*spec.cluster.balancer_port),
        }
    }

    /// The bundle and the versions, for people.
    pub fn words(&self) -> String {
        let State {
            bundle,
            kubernetes,
            appliance,
            digest,
            ..
        } = self;
        let digest = &digest[..12.min(digest.len())];
        tr!(
            "bundle {bundle} (Kubernetes {kubernetes}, appliance {appliance}, {digest})",
            bundle,
            kubernetes,
            appliance,
            digest
        )
    }

    /// The facts that decide which services the node has. Fails if the file has an invalid role or
    /// profile.
    pub fn shape(&self) -> Result<Shape> {
        let role = self.role.parse().map_err(anyhow::Error::msg);
        let profile = self.profile.parse().map_err(anyhow::Error::msg);
        Ok(Shape {
            role: role.with_context(|| invalid("role"))?,
            profile: profile.with_context(|| invalid("profile"))?,
            balanced: self.balancer_port.is_some(),
        })
    }

    /// The address of this node. Fails if the file has an invalid one.
    pub fn own_address(&self) -> Result<Ipv4Addr> {
        let address = self.address.parse();
        address.with_context(|| invalid("address"))
    }
}

/// Why a file with this field is damaged, and what to do.
fn invalid(field: &str) -> String {
    tr!(
        "invalid `{field}` in {STATE}; remove the file and run `appliance install`",
        field,
        STATE
    )
}
