//! A directory in place of `/`, and reading below it. [`super::change`] writes.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::{getegid, geteuid};

use crate::language::tr;

/// The maximum number of symbolic links in one path, as in Linux.
const MAX_LINKS: usize = 40;
/// The most bytes of a file that is read as a whole: none of a node comes near.
const MOST: u64 = 1 << 30;

/// What is known of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Its permission bits.
    pub mode: u32,
    /// Whether it belongs to the user and the group that run this program.
    pub is_own: bool,
}

/// A directory in place of `/`. All paths are absolute, as on the node itself, and no symbolic link
/// below it leads outside.
#[derive(Clone, Debug)]
pub struct Root {
    pub(super) dir: PathBuf,
}

impl Root {
    /// The root at `dir`, which must be an existing directory.
    pub fn open(dir: &Path) -> Result<Root> {
        let dir = dir
            .canonicalize()
            .with_context(|| tr!("root directory {}", dir.display()))?;
        ensure!(
            dir.is_dir(),
            tr!("root {} is not a directory", dir.display())
        );
        Ok(Root { dir })
    }

    /// Whether this is the running system, where services can be started, and not a
    /// directory that is being prepared.
    pub fn is_live(&self) -> bool {
        self.dir == Path::new("/")
    }

    /// The real location of the absolute `path`. Symbolic links are followed as after a chroot. The
    /// last components need not exist.
    pub fn resolve(&self, path: &str) -> Result<PathBuf> {
        self.walk(path, true)
    }

    /// Like [`Root::resolve`], but a symbolic link at the end of `path` is not followed.
    pub(super) fn resolve_entry(&self, path: &str) -> Result<PathBuf> {
        self.walk(path, false)
    }

    fn walk(&self, path: &str, follow_last: bool) -> Result<PathBuf> {
        ensure!(path.starts_with('/'), "{path}: not an absolute path");
        let mut pending: Vec<PathBuf> = components_reversed(Path::new(path));
        let mut resolved = self.dir.clone();
        let mut links = 0;
        while let Some(component) = pending.pop() {
            if component == Path::new("..") {
                if resolved != self.dir {
                    resolved.pop();
                }
                continue;
            }
            let next = resolved.join(&component);
            let last = pending.is_empty();
            match fs::read_link(&next) {
                Ok(target) if follow_last || !last => {
                    links += 1;
                    ensure!(links <= MAX_LINKS, "{path}: too many symbolic links");
                    if target.is_absolute() {
                        resolved.clone_from(&self.dir);
                    }
                    pending.extend(components_reversed(&target));
                }
                _ => resolved = next,
            }
        }
        Ok(resolved)
    }

    /// The bytes of the regular file at `path`; `None` if nothing has this path. Anything else is
    /// an error: a device must be neither read nor replaced.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let at = self.resolve(path)?;
        match fs::metadata(&at) {
            Ok(metadata) if metadata.is_file() => ensure!(
                metadata.len() <= MOST,
                "{path} has {} bytes, so it is no file of this program; move it away",
                metadata.len()
            ),
            Ok(_) => bail!(
                "{path} leads to {}, which is not a regular file; move it away",
                at.display()
            ),
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot inspect {path}")),
        }
        fs::read(at)
            .map(Some)
            .with_context(|| format!("cannot read {path}"))
    }

    /// The permission bits of the file at `path`; `None` if nothing has this path.
    pub fn mode(&self, path: &str) -> Result<Option<u32>> {
        Ok(self.inspect(path)?.map(|inspected| inspected.mode))
    }

    /// The permission bits and the owner of the file at `path`; `None` if nothing has this path.
    pub fn inspect(&self, path: &str) -> Result<Option<Inspected>> {
        match fs::metadata(self.resolve(path)?) {
            Ok(metadata) => Ok(Some(Inspected {
                mode: metadata.permissions().mode() & 0o7777,
                is_own: metadata.uid() == geteuid().as_raw()
                    && metadata.gid() == getegid().as_raw(),
            })),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot inspect {path}")),
        }
    }

    /// The names of all entries of the directory at `path`, sorted; empty if it does not exist.
    pub fn list(&self, path: &str) -> Result<Vec<String>> {
        let dir = self.resolve(path)?;
        let list = || -> io::Result<Vec<String>> {
            let entries = fs::read_dir(&dir)?;
            let mut names = Vec::new();
            for entry in entries {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            names.sort();
            Ok(names)
        };
        match list() {
            Err(error) if is_absent(&error) => Ok(vec![]),
            listed => listed.with_context(|| format!("cannot list {path}")),
        }
    }

    /// The metadata of the file at `path`, even of a symbolic link; `None` if nothing has this
    /// path.
    pub fn entry(&self, path: &str) -> Result<Option<fs::Metadata>> {
        match fs::symlink_metadata(self.resolve_entry(path)?) {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot inspect {path}")),
        }
    }

    /// Whether a directory is at `path`.
    pub fn is_dir(&self, path: &str) -> Result<bool> {
        Ok(self.resolve(path)?.is_dir())
    }

    /// Whether anything is at `path`, even a broken symbolic link.
    pub fn exists(&self, path: &str) -> Result<bool> {
        Ok(fs::symlink_metadata(self.resolve_entry(path)?).is_ok())
    }

    /// The target of the symbolic link at `path`; `None` if nothing has this path. Anything else is
    /// an error, because this program must not replace it.
    pub fn link(&self, path: &str) -> Result<Option<PathBuf>> {
        match fs::read_link(self.resolve_entry(path)?) {
            Ok(target) => Ok(Some(target)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                bail!("{path} exists and is not a symbolic link; move it away and run this again")
            }
            Err(error) => Err(error).with_context(|| format!("cannot inspect {path}")),
        }
    }
}

fn components_reversed(path: &Path) -> Vec<PathBuf> {
    path.components()
        .rev()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(PathBuf::from(name)),
            Component::ParentDir => Some(PathBuf::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;

    /// A root that vanishes after the test.
    pub fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn absolute_links_stay_below_the_root() {
        let (dir, root) = root();
        symlink("/usr/lib", dir.path().join("lib")).unwrap();
        assert_eq!(
            root.resolve("/lib/systemd").unwrap(),
            root.dir.join("usr/lib/systemd")
        );
    }

    #[test]
    fn absolute_links_begin_at_the_root_and_not_where_they_lie() {
        let (dir, root) = root();
        fs::create_dir_all(dir.path().join("etc/systemd")).unwrap();
        symlink("/run/systemd/units", dir.path().join("etc/systemd/system")).unwrap();
        assert_eq!(
            root.resolve("/etc/systemd/system/etcd.service").unwrap(),
            root.dir.join("run/systemd/units/etcd.service")
        );
    }

    #[test]
    fn parent_components_of_a_link_stay_below_the_root() {
        let (dir, root) = root();
        symlink("../../../../etc", dir.path().join("escape")).unwrap();
        assert_eq!(
            root.resolve("/escape/passwd").unwrap(),
            root.dir.join("etc/passwd")
        );
    }

    #[test]
    fn a_link_that_points_to_itself_is_refused() {
        let (dir, root) = root();
        symlink("loop", dir.path().join("loop")).unwrap();
        let error = root.resolve("/loop/file").unwrap_err();
        assert!(
            error.to_string().contains("too many symbolic links"),
            "{error}"
        );
    }
}
