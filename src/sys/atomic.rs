//! Writes files completely or not at all, at any path.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;

use super::temporary;

/// The directory a file is in; for a bare name the current one.
pub fn parent(path: &Path) -> &Path {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Writes the file `path` with permission bits `mode`. `write` fills a temporary file beside it,
/// which then gets the name. After an error, nothing is left, and the old file at `path` stays. A
/// device, a pipe or a directory at `path` is refused.
pub fn replace(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut NamedTempFile) -> Result<()>,
) -> Result<()> {
    let replace = || -> Result<()> {
        let other = path.metadata().is_ok_and(|found| !found.is_file());
        ensure!(!other, "not a regular file; name another one");
        let dir = parent(path);
        let mut file = temporary::file_in(dir)?;
        write(&mut file)?;
        file.as_file()
            .set_permissions(Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(File::open(dir)?.sync_all()?)
    };
    replace().with_context(|| format!("cannot write {}", path.display()))
}

/// Copies the file `from` to `to`, with permission bits `mode`, as [`replace`] does.
pub fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let mut content = File::open(from).with_context(|| from.display().to_string())?;
    replace(to, mode, |file| {
        io::copy(&mut content, file)?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::FileTypeExt;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn only_a_regular_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        let error = replace(&pipe, 0o600, |_| Ok(())).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot write {}", pipe.display())
        );
        assert!(pipe.metadata().unwrap().file_type().is_fifo());
    }
}
