//! The document of `appliance support-bundle`.

use schemars::JsonSchema;
use serde::Serialize;

use crate::support::{Entry, LeftOut};

/// An archive for support.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Supported {
    /// Its path.
    pub file: String,
    /// Its size, in bytes.
    pub bytes: u64,
    /// The texts in it.
    pub inside: Vec<Within>,
    /// What is not in it, and why.
    pub left_out: Vec<LeftOut>,
}

/// A text in an archive for support.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Within {
    /// Its path in the archive.
    pub name: String,
    /// Its size, in bytes.
    pub bytes: u64,
}

impl Within {
    /// What is told of a text.
    pub fn of(entry: &Entry) -> Within {
        Within {
            name: entry.name.clone(),
            bytes: entry.text.len() as u64,
        }
    }
}
