//! Writes files completely or not at all, at any path.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

/// The directory a file is in; for a bare name the current one.
pub fn parent(path: &Path) -> &Path {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Writes the file `path` with permission bits `mode`. `write` fills a temporary file beside it,
/// which then gets the name. After an error, nothing is left, and the old file at `path` stays.
pub fn replace(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut NamedTempFile) -> Result<()>,
) -> Result<()> {
    let replace = || -> Result<()> {
        let dir = parent(path);
        let mut file = tempfile::Builder::new()
            .prefix(".appliance-")
            .tempfile_in(dir)?;
        write(&mut file)?;
        file.as_file()
            .set_permissions(Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(File::open(dir)?.sync_all()?)
    };
    replace().with_context(|| path.display().to_string())
}

/// Copies the file `from` to `to`, with permission bits `mode`, as [`replace`] does.
pub fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let mut content = File::open(from).with_context(|| from.display().to_string())?;
    replace(to, mode, |file| {
        io::copy(&mut content, file)?;
        Ok(())
    })
}
