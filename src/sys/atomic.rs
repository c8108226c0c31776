//! Writes files completely or not at all, and so that a power cut does not undo it. Everything that this program
//! writes is written here, at any path:
//!
//! 1. A new file gets its content under a temporary name in the same directory, which the next run recognizes and
//!    removes ([`temporary`]). It has its mode before it has content.
//! 2. `fsync` of the file, and only then its name. Who looks, sees the old file or the whole new one.
//! 3. `fsync` of the directory: the name stays. A new directory is safe only after `fsync` of its parent
//!    ([`create_directories`]).

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;

use super::temporary;

/// The permission bits of directories that nobody asked for, as far as the umask permits.
const USUAL: u32 = 0o755;

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
        let file = filled(parent(path), |_| Ok(()), mode, write)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(sync_directory(parent(path))?)
    };
    replace().with_context(|| format!("cannot write {}", path.display()))
}

/// A temporary file in the directory `dir`, with permission bits `mode` and what `write` writes, safe on the disk.
/// `prepare` gives the empty file its owner, which may clear bits of its mode.
pub(super) fn filled(
    dir: &Path,
    prepare: impl FnOnce(&File) -> Result<()>,
    mode: u32,
    write: impl FnOnce(&mut NamedTempFile) -> Result<()>,
) -> Result<NamedTempFile> {
    // It is 0600 from the start, so that no secret is ever readable.
    let mut file = temporary::file_in(dir)?;
    prepare(file.as_file())?;
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    write(&mut file)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Copies the file `from` to `to`, with permission bits `mode`, as [`replace`] does.
pub fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let mut content = File::open(from).with_context(|| from.display().to_string())?;
    replace(to, mode, |file| {
        io::copy(&mut content, file)?;
        Ok(())
    })
}

/// Waits until the names in the directory are on the disk.
pub fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Waits until the directory `dir` and everything in it is on the disk: for what other programs wrote. Links are not
/// followed.
pub fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_directory(dir)
}

/// Creates the directory `path` and its missing parents, with permission bits 0755 as far as the umask
/// permits, in such a way that a power cut does not lose them.
pub fn create_directories(path: &Path) -> io::Result<()> {
    let missing: Vec<PathBuf> = path
        .ancestors()
        .take_while(|dir| !dir.as_os_str().is_empty() && !dir.is_dir())
        .map(Path::to_owned)
        .collect();
    missing.iter().rev().try_for_each(|dir| {
        make_directory(dir, USUAL)?;
        sync_directory(parent(dir))
    })
}

/// Creates the directory `path` with permission bits `mode`, and its missing parents. An existing one gets `mode`.
pub fn create_directory(path: &Path, mode: u32) -> io::Result<()> {
    create_directories(parent(path))?;
    make_directory(path, mode)?;
    // The umask may have taken bits away.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    sync_directory(path)?;
    sync_directory(parent(path))
}

/// Creates the directory unless it exists.
fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::FileTypeExt;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn directories_are_made_with_their_parents_and_an_existing_one_gets_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |name: &str| {
            let found = dir.path().join(name).metadata().unwrap();
            found.permissions().mode() & 0o777
        };
        create_directory(&dir.path().join("a/b"), 0o700).unwrap();
        assert_eq!((mode("a"), mode("a/b")), (0o755, 0o700));
        create_directory(&dir.path().join("a/b"), 0o711).unwrap();
        create_directories(&dir.path().join("a/b/c/d")).unwrap();
        assert_eq!((mode("a/b"), mode("a/b/c/d")), (0o711, 0o755));
        fs::write(dir.path().join("file"), b"").unwrap();
        assert!(create_directories(&dir.path().join("file/below")).is_err());
        assert!(create_directory(&dir.path().join("file"), 0o700).is_err());
    }

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
