//! A master: its name and its address.

use core::net::Ipv4Addr;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::language::tr;

use super::network;

/// A machine that runs etcd and the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Master {
    /// Its name in the cluster.
    pub name: String,
    /// The address at which others reach it.
    pub address: Ipv4Addr,
}

impl fmt::Display for Master {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.address)
    }
}

impl Master {
    /// Reads `NAME=ADDRESS`. The error says what was expected.
    pub fn parse(text: &str) -> Result<Master, String> {
        let expected = tr!(
            "{text}: expected NAME=ADDRESS, such as server02=192.168.1.102",
            text = format_args!("{text:?}")
        );
        let (name, address) = text.split_once('=').ok_or(expected)?;
        Ok(Master {
            name: network::node_name(name).map_err(|why| format!("{text:?}: {why}"))?,
            address: network::node_address(address).map_err(|why| format!("{text:?}: {why}"))?,
        })
    }
}
