//! The kinds of nodes and clusters: roles, profiles, and their consequences. Pure.

use core::net::Ipv4Addr;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::language::tr;

/// The role of a node in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Role {
    /// Runs etcd and the control plane.
    Master,
    /// Runs pods.
    Worker,
    /// Both on one VM.
    Single,
}

impl Role {
    /// Whether it runs the control plane.
    pub fn is_master(self) -> bool {
        self != Role::Worker
    }

    /// Whether it runs pods.
    pub fn is_worker(self) -> bool {
        self != Role::Master
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Master => "master",
            Role::Worker => "worker",
            Role::Single => "single",
        })
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Role, String> {
        [Role::Master, Role::Worker, Role::Single]
            .into_iter()
            .find(|role| role.to_string() == text)
            .ok_or_else(|| tr!("expected master, worker or single"))
    }
}

/// How the components of the cluster authenticate each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Profile {
    /// TLS everywhere, with certificates of the cluster's own certificate authority (CA), and RBAC.
    WithCa,
    /// No TLS and no authorization: only for a first try on an isolated network.
    Simple,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Profile::WithCa => "with-ca",
            Profile::Simple => "simple",
        })
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Profile, String> {
        [Profile::WithCa, Profile::Simple]
            .into_iter()
            .find(|profile| profile.to_string() == text)
            .ok_or_else(|| tr!("expected with-ca or simple"))
    }
}

/// When Calico sends packets between nodes through an IP-in-IP tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ipip {
    /// Never. Neutron must allow the pods' addresses (allowed address pairs).
    Off,
    /// Always.
    Always,
    /// Only between nodes of different subnets.
    CrossSubnet,
}

impl fmt::Display for Ipip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ipip::Off => "off",
            Ipip::Always => "always",
            Ipip::CrossSubnet => "cross-subnet",
        })
    }
}

impl FromStr for Ipip {
    type Err = String;

    fn from_str(text: &str) -> Result<Ipip, String> {
        [Ipip::Off, Ipip::Always, Ipip::CrossSubnet]
            .into_iter()
            .find(|ipip| ipip.to_string() == text)
            .ok_or_else(|| tr!("expected off, always or cross-subnet"))
    }
}

/// How to reach the services of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The node's address.
    pub address: Ipv4Addr,
    /// Whether they use TLS.
    pub tls: bool,
    /// The port of the balancer on 127.0.0.1, if there is one.
    pub balancer: u16,
}

impl Reach {
    /// `https` or `http`.
    pub fn scheme(self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

/// The facts that decide which services a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The role of the node.
    pub role: Role,
    /// How the components of the cluster authenticate each other.
    pub profile: Profile,
    /// Whether the cluster has several API servers, and the node a balancer to reach them.
    pub balanced: bool,
}
