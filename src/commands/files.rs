//! Files that a command writes for its user, and that may have secrets.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::nodespec::Refused;
use crate::sys::out;

/// Refuses to replace an existing file, unless with `force`.
pub fn refuse_existing(path: &Path, force: bool) -> Result<(), Refused> {
    // A device or a pipe has no content of its own.
    if !force && fs::metadata(path).is_ok_and(|existing| existing.is_file()) {
        return Err(Refused {
            problems: vec![format!(
                "{} exists; use --force to replace it, or another file",
                path.display()
            )],
        });
    }
    Ok(())
}

/// Writes the file, readable by its owner only. Does not replace an existing file, except with `force`.
pub fn write_secret(path: &Path, text: &str, force: bool) -> Result<()> {
    refuse_existing(path, force)?;
    out::file(path, 0o600, text.as_bytes())
}
