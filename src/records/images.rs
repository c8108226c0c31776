//! What is kept of an image of the node. Pure.

use serde::{Deserialize, Serialize};

/// An image that docker needs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct NodeImage {
    /// Its reference.
    pub reference: String,
    /// Its identifier in docker.
    pub id: String,
    /// The tarball that contains it.
    pub tarball: String,
}
