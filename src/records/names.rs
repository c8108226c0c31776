//! The names and addresses that the join service knows. Pure.

use core::net::{IpAddr, Ipv4Addr};
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::nodespec::Ipip;
use crate::nodespec::master::Master;

/// The names and addresses in a master's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeNames {
    /// Its own name.
    pub name: String,
    /// Its own address.
    pub address: Ipv4Addr,
    /// The addresses of names in the inventory and in `hosts`.
    pub hosts: BTreeMap<String, Ipv4Addr>,
    /// All masters, if there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masters: Vec<Master>,
    /// The names by which clients verify the API server.
    #[serde(default)]
    pub api_server_names: Vec<String>,
    /// The addresses by which clients verify the API server.
    #[serde(default)]
    pub api_server_addresses: Vec<IpAddr>,
    /// When its cluster uses tunnels, which nodes that join are told. Older versions did not write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipip: Option<Ipip>,
}

impl NodeNames {
    /// Whether a master has that name.
    pub fn is_master(&self, name: &str) -> bool {
        self.masters.iter().any(|master| master.name == name)
    }

    /// Whether clients would take a server with that name for the API server.
    pub fn is_api_server(&self, name: &str) -> bool {
        name == "localhost" || self.api_server_names.iter().any(|own| own == name)
    }

    /// Whether clients would take a server at that address for the API server.
    pub fn is_at_api_server(&self, address: Ipv4Addr) -> bool {
        let mut all = self.api_server_addresses.iter();
        // An address in the settings may be written as `::ffff:192.0.2.1`.
        all.any(|own| own.to_canonical() == IpAddr::V4(address))
    }

    /// The required address of this name, if the settings have one.
    pub fn address_of(&self, name: &str) -> Option<Ipv4Addr> {
        let master = self.masters.iter().find(|master| master.name == name);
        let address = master.map(|master| master.address);
        address.or_else(|| self.hosts.get(name).copied())
    }
}
