//! A directory that stands for `/`, and the functions through which this program writes below it.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown, symlink};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tempfile::{NamedTempFile, PersistError};

/// As many symbolic links as Linux itself follows in one path.
const MAX_LINKS: usize = 40;

/// A directory that stands for `/`. All paths are absolute, as on the node itself, and no symbolic
/// link below it leads outside.
#[derive(Clone, Debug)]
pub struct Root {
    dir: PathBuf,
}

impl Root {
    /// The root at `dir`, which must be an existing directory.
    pub fn open(dir: &Path) -> Result<Root> {
        let dir = dir
            .canonicalize()
            .with_context(|| format!("root directory {}", dir.display()))?;
        ensure!(dir.is_dir(), "root {} is not a directory", dir.display());
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
    fn resolve_entry(&self, path: &str) -> Result<PathBuf> {
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

    /// The bytes of the regular file at `path`; `None` if nothing is there. Anything else is an
    /// error: a device must be neither read nor replaced.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let at = self.resolve(path)?;
        match fs::metadata(&at) {
            Ok(metadata) if metadata.is_file() => {}
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

    /// The permission bits of what is at `path`; `None` if nothing is there.
    pub fn mode(&self, path: &str) -> Result<Option<u32>> {
        match fs::metadata(self.resolve(path)?) {
            Ok(metadata) => Ok(Some(metadata.permissions().mode() & 0o7777)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot inspect {path}")),
        }
    }

    /// The names of all entries of the directory at `path`, sorted; empty if there is no directory.
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

    /// What is at `path` itself, even a symbolic link; `None` if nothing is there.
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

    /// The target of the symbolic link at `path`; `None` if nothing is there. Anything else is an
    /// error, because this program must not replace it.
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

    /// Writes `content` to `path` with permission bits `mode`, all or nothing: a reader, or the
    /// system after a power cut, sees the old file or the whole new one. Creates missing parent
    /// directories (0755).
    pub fn write(&self, path: &str, content: &[u8], mode: u32) -> Result<()> {
        self.put(path, content, mode, |file, target| file.persist(target))
    }

    /// Like [`Root::write`], but fails if anything is at `path` already.
    pub fn create(&self, path: &str, content: &[u8], mode: u32) -> Result<()> {
        self.put(path, content, mode, |file, target| {
            file.persist_noclobber(target)
        })
    }

    fn put(
        &self,
        path: &str,
        content: &[u8],
        mode: u32,
        persist: impl Fn(NamedTempFile, &Path) -> Result<File, PersistError>,
    ) -> Result<()> {
        let target = self.resolve(path)?;
        let put = || -> Result<()> {
            let parent = target.parent().context("/ is not a file")?;
            fs::create_dir_all(parent)?;
            // The temporary file is 0600 from the start, so that no secret is ever readable.
            let mut file = tempfile::Builder::new()
                .prefix(".appliance-")
                .tempfile_in(parent)?;
            file.write_all(content)?;
            file.as_file()
                .set_permissions(Permissions::from_mode(mode))?;
            file.as_file().sync_all()?;
            persist(file, &target)?;
            sync_directory(parent)
        };
        put().with_context(|| format!("cannot write {path}"))
    }

    /// Creates the directory at `path`, with `mode`, and its parents. An existing one gets `mode`.
    pub fn create_dir(&self, path: &str, mode: u32) -> Result<()> {
        let target = self.resolve(path)?;
        let make = || -> Result<()> {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(&target)?;
            fs::set_permissions(&target, Permissions::from_mode(mode))?;
            sync_directory(target.parent().unwrap_or(&self.dir))
        };
        make().with_context(|| format!("cannot make directory {path}"))
    }

    /// Removes the file at `path`, if it exists.
    pub fn remove_file(&self, path: &str) -> Result<()> {
        match fs::remove_file(self.resolve_entry(path)?) {
            Err(error) if !is_absent(&error) => {
                Err(error).with_context(|| format!("cannot remove {path}"))
            }
            _ => Ok(()),
        }
    }

    /// Removes the file or the directory with all its content at `path`, if it exists. Symbolic links
    /// are not followed.
    pub fn remove_tree(&self, path: &str) -> Result<()> {
        match self.entry(path)? {
            Some(metadata) if metadata.is_dir() => fs::remove_dir_all(self.resolve_entry(path)?)
                .with_context(|| format!("cannot remove {path}")),
            _ => self.remove_file(path),
        }
    }

    /// Replaces the content of the file at `path`, all or nothing. The file keeps its owner and its
    /// permission bits.
    pub fn rewrite(&self, path: &str, content: &[u8]) -> Result<()> {
        let metadata =
            fs::metadata(self.resolve(path)?).with_context(|| format!("cannot inspect {path}"))?;
        self.put(
            path,
            content,
            metadata.permissions().mode() & 0o7777,
            |file, target| match fchown(file.as_file(), Some(metadata.uid()), Some(metadata.gid()))
            {
                Ok(()) => file.persist(target),
                Err(error) => Err(PersistError { error, file }),
            },
        )
    }

    /// Removes the content of the directory at `path`, if there is one. Symbolic links are not
    /// followed.
    pub fn remove_content(&self, path: &str) -> Result<()> {
        let dir = self.resolve(path)?;
        let remove = || -> io::Result<()> {
            for entry in fs::read_dir(&dir)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    fs::remove_dir_all(entry.path())?;
                } else {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        match remove() {
            Err(error) if !is_absent(&error) => {
                Err(error).with_context(|| format!("cannot remove the content of {path}"))
            }
            _ => Ok(()),
        }
    }

    /// Renames `path`, if it exists, to `to`, which must not exist yet.
    pub fn rename(&self, path: &str, to: &str) -> Result<()> {
        let (from, target) = (self.resolve_entry(path)?, self.resolve_entry(to)?);
        if !self.exists(path)? {
            return Ok(());
        }
        ensure!(!self.exists(to)?, "{to} exists already; move it away");
        fs::rename(&from, &target).with_context(|| format!("cannot rename {path} to {to}"))?;
        sync_directory(target.parent().unwrap_or(&self.dir))
    }

    /// Points the symbolic link at `path` to `target`. Replaces an existing link in one step.
    pub fn set_link(&self, path: &str, target: &str) -> Result<()> {
        let at = self.resolve_entry(path)?;
        let make = || -> Result<()> {
            let parent = at.parent().context("/ cannot be a link")?;
            fs::create_dir_all(parent)?;
            let name = at.file_name().unwrap_or(OsStr::new("link"));
            let staging = tempfile::Builder::new()
                .prefix(".appliance-")
                .tempdir_in(parent)?;
            let staged = staging.path().join(name);
            symlink(target, &staged)?;
            fs::rename(&staged, &at)?;
            sync_directory(parent)
        };
        make().with_context(|| format!("cannot link {path} to {target}"))
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

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn sync_directory(dir: &Path) -> Result<()> {
    Ok(File::open(dir)?.sync_all()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn root() -> (tempfile::TempDir, Root) {
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

    #[test]
    fn a_written_file_has_its_mode_and_leaves_no_temporary_file() {
        let (dir, root) = root();
        root.write("/etc/kubernetes/ca/ca-key.pem", b"key", 0o600)
            .unwrap();
        assert_eq!(
            root.mode("/etc/kubernetes/ca/ca-key.pem").unwrap(),
            Some(0o600)
        );
        let entries = fs::read_dir(dir.path().join("etc/kubernetes/ca")).unwrap();
        assert_eq!(entries.count(), 1);
    }

    #[test]
    fn what_is_there_is_replaced_by_a_write_but_never_by_a_creation() {
        let (_dir, root) = root();
        root.create("/etc/key.pem", b"first", 0o600).unwrap();
        assert!(root.create("/etc/key.pem", b"second", 0o600).is_err());
        assert_eq!(root.read("/etc/key.pem").unwrap().unwrap(), b"first");
        root.write("/etc/key.pem", b"third", 0o600).unwrap();
        assert_eq!(root.read("/etc/key.pem").unwrap().unwrap(), b"third");
    }

    #[test]
    fn a_device_is_neither_read_nor_replaced() {
        // As where an operator has masked a unit, on the running system.
        let (dir, _root) = root();
        let unit = dir.path().join("etcd.service");
        symlink("/dev/null", &unit).unwrap();
        let live = Root::open(Path::new("/")).unwrap();
        let error = live.read(unit.to_str().unwrap()).unwrap_err().to_string();
        assert!(
            error.contains("leads to /dev/null, which is not a regular file"),
            "{error}"
        );
    }

    #[test]
    fn a_rewritten_file_keeps_its_owner_and_mode() {
        let (dir, root) = root();
        root.write("/etc/shadow", b"old", 0o640).unwrap();
        let path = dir.path().join("etc/shadow");
        // Only root can give files away.
        let owner = if nix::unistd::geteuid().is_root() {
            42
        } else {
            fs::metadata(&path).unwrap().gid()
        };
        fchown(File::open(&path).unwrap(), None, Some(owner)).unwrap();
        root.rewrite("/etc/shadow", b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.gid(), metadata.mode() & 0o777), (owner, 0o640));
    }

    #[test]
    fn what_a_link_leads_to_stays_when_the_link_is_removed_with_a_tree() {
        let (dir, root) = root();
        root.write("/srv/data", b"mine", 0o644).unwrap();
        root.create_dir("/tmp/tree", 0o755).unwrap();
        symlink("/srv", dir.path().join("tmp/tree/link")).unwrap();
        root.remove_tree("/tmp/tree").unwrap();
        assert!(!root.exists("/tmp/tree").unwrap());
        assert!(root.exists("/srv/data").unwrap());
        assert_eq!(root.list("/").unwrap(), ["srv", "tmp"]);
        assert_eq!(root.list("/none").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_file_in_the_place_of_a_link_is_not_replaced() {
        let (_dir, root) = root();
        root.write("/usr/local/bin/kubectl", b"mine", 0o755)
            .unwrap();
        let error = root.link("/usr/local/bin/kubectl").unwrap_err();
        assert!(error.to_string().contains("not a symbolic link"), "{error}");
    }

    #[test]
    fn a_link_is_replaced_in_one_step() {
        let (_dir, root) = root();
        root.set_link("/opt/current", "old").unwrap();
        root.set_link("/opt/current", "new").unwrap();
        assert_eq!(
            root.link("/opt/current").unwrap(),
            Some(PathBuf::from("new"))
        );
    }
}
