//! Reads the flags of a node's settings.

use std::time::Duration;

use crate::cli::NodeInputs;
use crate::metadata::Source;
use crate::observe::inputs::Typed;

/// What the flags say.
pub fn typed(flags: &NodeInputs) -> Typed {
    Typed {
        role: flags.role.clone(),
        profile: flags.profile.clone(),
        set: flags.set.clone(),
        config: flags.config.clone(),
        sources: match &flags.metadata_dir {
            Some(dir) => vec![Source::Directory(dir.clone())],
            None => flags.metadata_source.clone(),
        },
        patience: Duration::from_secs(flags.metadata_timeout),
    }
}
