//! The only ways in which this program writes below a [`Root`]. Code that writes must import
//! [`Change`].

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown, symlink};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::buffer::spare_capacity;
use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};
use rustix::io::Errno;
use tempfile::NamedTempFile;

use super::atomic::{create_directories, create_directory, filled, sync_directory};
use super::root::{Root, is_absent};
use super::temporary;

/// The longest value of an extended attribute, and the longest list of names, in bytes (xattr(7)).
const LONGEST_ATTRIBUTE: usize = 64 * 1024;

/// Changes files below a root. Each change is done as a whole or not at all.
pub trait Change {
    /// Writes `content` to `path` with permission bits `mode`, all or nothing: a reader, or the
    /// system after a power cut, sees the old file or the whole new one. Creates missing parent
    /// directories (0755).
    fn write(&self, path: &str, content: &[u8], mode: u32) -> Result<()>;

    /// Like [`Root::write`], but fails if anything is at `path` already.
    fn create(&self, path: &str, content: &[u8], mode: u32) -> Result<()>;

    /// Creates the directory at `path`, with `mode`, and its parents. An existing one gets `mode`.
    fn create_dir(&self, path: &str, mode: u32) -> Result<()>;

    /// Removes the file at `path`, if it exists.
    fn remove_file(&self, path: &str) -> Result<()>;

    /// Removes the file or the directory with all its content at `path`, if it exists. Symbolic links
    /// are not followed.
    fn remove_tree(&self, path: &str) -> Result<()>;

    /// Replaces the content of the file at `path`, all or nothing. The file keeps its owner, its
    /// permission bits and its extended attributes (access lists, SELinux label).
    fn rewrite(&self, path: &str, content: &[u8]) -> Result<()>;

    /// Copies the file at `path` to `to`, all or nothing, and replaces what is there. The copy has the owner, the
    /// extended attributes and the permission bits of the file, but no others than those in `most`.
    fn copy(&self, path: &str, to: &str, most: u32) -> Result<()>;

    /// Removes the content of the directory at `path`, if there is one. Symbolic links are not
    /// followed.
    fn remove_content(&self, path: &str) -> Result<()>;

    /// Removes the directory at `path`, if it is an empty directory and nothing is mounted there. Returns whether it
    /// did.
    fn remove_empty(&self, path: &str) -> Result<bool>;

    /// Renames `path`, if it exists, to `to`, which must not exist yet.
    fn rename(&self, path: &str, to: &str) -> Result<()>;

    /// Points the symbolic link at `path` to `target`. Replaces an existing link in one step.
    fn set_link(&self, path: &str, target: &str) -> Result<()>;
}

impl Change for Root {
    fn write(&self, path: &str, content: &[u8], mode: u32) -> Result<()> {
        put(self, path, content, mode, &|_| Ok(()), |file, target| {
            Ok(file.persist(target).map(drop)?)
        })
    }

    fn create(&self, path: &str, content: &[u8], mode: u32) -> Result<()> {
        put(self, path, content, mode, &|_| Ok(()), |file, target| {
            Ok(file.persist_noclobber(target).map(drop)?)
        })
    }

    fn create_dir(&self, path: &str, mode: u32) -> Result<()> {
        let target = self.resolve(path)?;
        create_directory(&target, mode).with_context(|| format!("cannot make directory {path}"))
    }

    fn remove_file(&self, path: &str) -> Result<()> {
        let target = self.resolve_entry(path)?;
        match fs::remove_file(&target) {
            Ok(()) => Ok(sync_directory(target.parent().unwrap_or(&self.dir))?),
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot remove {path}")),
        }
    }

    fn remove_tree(&self, path: &str) -> Result<()> {
        match self.entry(path)? {
            Some(metadata) if metadata.is_dir() => {
                let target = self.resolve_entry(path)?;
                fs::remove_dir_all(&target)
                    .and_then(|()| sync_directory(target.parent().unwrap_or(&self.dir)))
                    .with_context(|| format!("cannot remove {path}"))
            }
            _ => self.remove_file(path),
        }
    }

    fn rewrite(&self, path: &str, content: &[u8]) -> Result<()> {
        let old = File::open(self.resolve(path)?).with_context(|| cannot_inspect(path))?;
        put_like(self, &old, path, content, 0o7777)
    }

    fn copy(&self, path: &str, to: &str, most: u32) -> Result<()> {
        let mut old = File::open(self.resolve(path)?).with_context(|| cannot_inspect(path))?;
        let mut content = Vec::new();
        old.read_to_end(&mut content)
            .with_context(|| format!("cannot read {path}"))?;
        put_like(self, &old, to, &content, most)
    }

    fn remove_content(&self, path: &str) -> Result<()> {
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
            sync_directory(&dir)
        };
        match remove() {
            Err(error) if !is_absent(&error) => {
                Err(error).with_context(|| format!("cannot remove the content of {path}"))
            }
            _ => Ok(()),
        }
    }

    fn remove_empty(&self, path: &str) -> Result<bool> {
        let dir = self.resolve_entry(path)?;
        match fs::remove_dir(&dir) {
            Ok(()) => {
                sync_directory(dir.parent().unwrap_or(&self.dir))?;
                Ok(true)
            }
            Err(error) if is_absent(&error) => Ok(false),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::ResourceBusy
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(error).with_context(|| format!("cannot remove {path}")),
        }
    }

    fn rename(&self, path: &str, to: &str) -> Result<()> {
        let (from, target) = (self.resolve_entry(path)?, self.resolve_entry(to)?);
        if !self.exists(path)? {
            return Ok(());
        }
        ensure!(!self.exists(to)?, "{to} exists already; move it away");
        fs::rename(&from, &target).with_context(|| format!("cannot rename {path} to {to}"))?;
        Ok(sync_directory(target.parent().unwrap_or(&self.dir))?)
    }

    fn set_link(&self, path: &str, target: &str) -> Result<()> {
        let at = self.resolve_entry(path)?;
        let make = || -> Result<()> {
            let parent = at.parent().context("/ cannot be a link")?;
            create_directories(parent)?;
            let name = at.file_name().unwrap_or(OsStr::new("link"));
            let staging = temporary::directory_in(parent)?;
            let staged = staging.path().join(name);
            symlink(target, &staged)?;
            fs::rename(&staged, &at)?;
            // With the same wait: otherwise a power cut brings the empty directory back.
            drop(staging);
            Ok(sync_directory(parent)?)
        };
        make().with_context(|| format!("cannot link {path} to {target}"))
    }
}

fn put(
    root: &Root,
    path: &str,
    content: &[u8],
    mode: u32,
    prepare: &dyn Fn(&File) -> Result<()>,
    persist: impl Fn(NamedTempFile, &Path) -> Result<()>,
) -> Result<()> {
    let target = root.resolve(path)?;
    let put = || -> Result<()> {
        let parent = target.parent().context("/ is not a file")?;
        create_directories(parent)?;
        let file = filled(parent, prepare, mode, |file| Ok(file.write_all(content)?))?;
        persist(file, &target)?;
        Ok(sync_directory(parent)?)
    };
    put().with_context(|| format!("cannot write {path}"))
}

fn cannot_inspect(path: &str) -> String {
    format!("cannot inspect {path}")
}

/// Writes a file with the owner, the extended attributes and the permission bits of `old` that are in `most`.
fn put_like(root: &Root, old: &File, path: &str, content: &[u8], most: u32) -> Result<()> {
    let metadata = old.metadata().with_context(|| cannot_inspect(path))?;
    let mode = metadata.permissions().mode() & 0o7777 & most;
    let prepare = |new: &File| {
        fchown(new, Some(metadata.uid()), Some(metadata.gid()))?;
        copy_attributes(old, new)
    };
    put(root, path, content, mode, &prepare, |file, target| {
        Ok(file.persist(target).map(drop)?)
    })
}

/// Attributes that describe the content of a file, and not the file. The kernel makes new ones.
const OF_CONTENT: [&str; 2] = ["security.ima", "security.evm"];

/// Gives `new` the extended attributes of `old`.
fn copy_attributes(old: &File, new: &File) -> Result<()> {
    let mut names = Vec::with_capacity(LONGEST_ATTRIBUTE);
    match flistxattr(old, spare_capacity(&mut names)) {
        Ok(_) => {}
        // This file system has none.
        Err(Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(error).context("cannot list its extended attributes"),
    }
    for name in names
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
    {
        let shown = String::from_utf8_lossy(name);
        if OF_CONTENT.contains(&&*shown) {
            continue;
        }
        let mut value = Vec::with_capacity(LONGEST_ATTRIBUTE);
        fgetxattr(old, name, spare_capacity(&mut value))
            .and_then(|_| fsetxattr(new, name, &value, XattrFlags::empty()))
            .with_context(|| format!("cannot keep its extended attribute {shown}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;

    use super::super::root::tests::root;
    use super::*;

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
        // Like a unit that an operator has masked, on the running system.
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
        // Only root can change the owner of files.
        let owner = if nix::unistd::geteuid().is_root() {
            42
        } else {
            fs::metadata(&path).unwrap().gid()
        };
        let file = File::open(&path).unwrap();
        fchown(&file, None, Some(owner)).unwrap();
        // Not every file system has attributes of users.
        let attribute = fsetxattr(&file, "user.note", b"mine", XattrFlags::empty());
        root.rewrite("/etc/shadow", b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.gid(), metadata.mode() & 0o777), (owner, 0o640));
        if attribute.is_ok() {
            let mut value = Vec::with_capacity(100);
            let file = File::open(&path).unwrap();
            fgetxattr(&file, "user.note", spare_capacity(&mut value)).unwrap();
            assert_eq!(value, b"mine");
        }
    }

    #[test]
    fn a_copy_has_no_more_permissions_than_it_may_have() {
        let (_dir, root) = root();
        for (mode, most, expected) in [(0o755, 0o7777, 0o755), (0o644, 0o600, 0o600)] {
            root.write("/etc/a", b"old", mode).unwrap();
            root.write("/etc/b", b"other", 0o777).unwrap();
            root.copy("/etc/a", "/etc/b", most).unwrap();
            assert_eq!(root.mode("/etc/b").unwrap(), Some(expected));
            assert_eq!(root.read("/etc/b").unwrap().unwrap(), b"old");
        }
        assert!(root.copy("/etc/none", "/etc/b", 0o600).is_err());
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
