//! The record of a node that joined. Pure.

use core::net::Ipv4Addr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::nodespec::token::{Bytes32, TokenId};

/// A node that joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeRecord {
    /// Its address.
    pub address: Ipv4Addr,
    /// SHA-256 of the public key of its kubelet-client certificate, in hexadecimal.
    pub key: String,
    /// SHA-256 of the UUID of its machine, if it told one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Bytes32>,
    /// The token it joined with.
    pub token: TokenId,
    /// When it last joined or renewed.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "String")]
    pub seen: OffsetDateTime,
}
