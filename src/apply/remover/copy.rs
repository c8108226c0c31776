//! The last copy of data and keys, before they are removed.

use std::path::Path;

use anyhow::{Context, Result};
use tar::Builder;

use crate::records::run::LastCopy;
use crate::sys::atomic::{self, create_directories};
use crate::sys::root::Root;

/// Writes a tar archive that only root can read. Paths in it begin below `/`.
pub fn write(root: &Root, copy: &LastCopy) -> Result<()> {
    let target = root.resolve(&copy.path)?;
    if let Some(parent) = target.parent() {
        create_directories(parent)?;
    }
    let archived = atomic::replace(&target, 0o600, |file| {
        let mut archive = Builder::new(file);
        archive.follow_symlinks(false);
        for path in &copy.of {
            let from = root.resolve(path)?;
            if from.is_dir() {
                let name = path.trim_start_matches('/');
                archive.append_dir_all(Path::new(name), from)?;
            }
        }
        archive.finish()?;
        Ok(())
    });
    archived.context(
        "nothing of value was removed; if the disk is full, name a directory on another one: \
         `appliance reset --copy-to DIR`",
    )
}
