//! Reads the flags of a node's settings.

use std::time::Duration;

use super::payload::keys;
use crate::cli::{MetadataInputs, NodeInputs, Wanted};
use crate::install::Request;
use crate::metadata::Source;
use crate::observe::inputs::Typed;

/// The settings from the flags.
pub fn typed(flags: &NodeInputs) -> Typed {
    Typed {
        role: flags.role.clone(),
        profile: flags.profile.clone(),
        set: flags.set.clone(),
        config: flags.config.clone(),
        content: None,
        sources: sources(&flags.metadata),
        patience: Duration::from_secs(flags.metadata.metadata_timeout),
    }
}

/// The sources of metadata from the flags.
pub fn sources(flags: &MetadataInputs) -> Vec<Source> {
    match &flags.metadata_dir {
        Some(dir) => vec![Source::Directory(dir.clone())],
        None => flags.metadata_source.clone(),
    }
}

/// The flags of a node that this machine should be.
pub fn request<'a>(wanted: &'a Wanted, required_key: Option<&'a str>) -> Request<'a> {
    Request {
        root: &wanted.root,
        payload: wanted.payload.as_deref(),
        keys: keys(&wanted.trust, required_key),
        typed: typed(&wanted.inputs),
    }
}
