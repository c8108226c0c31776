//! Removes the temporary files that an interrupted run left on the node. A run that writes into a
//! directory removes them there anyway; this does it for all directories, before the first step.

use std::path::Path;

use anyhow::Result;

use crate::paths::{WRITTEN, WRITTEN_BELOW};
use crate::sys::root::Root;
use crate::sys::temporary::remove_leftovers;

/// Removes them, first where keys are. What another process is writing stays.
pub fn remove(root: &Root) -> Result<()> {
    for dir in WRITTEN_BELOW {
        remove_below(&root.resolve(dir)?);
    }
    for dir in WRITTEN {
        remove_leftovers(&root.resolve(dir)?);
    }
    Ok(())
}

/// Removes them in `dir` and below it. Links are not followed.
fn remove_below(dir: &Path) {
    remove_leftovers(dir);
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path());
        }
    }
}
