//! What is kept of an image of the node. Pure.

use serde::{Deserialize, Serialize};

/// An image docker is to have.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct NodeImage {
    /// The reference it is known by.
    pub reference: String,
    /// Docker's identifier of it.
    pub id: String,
    /// The tarball it is loaded from.
    pub tarball: String,
}
