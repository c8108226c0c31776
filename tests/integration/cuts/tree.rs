//! What is below a directory.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use appliance::digest::Sha256;

/// From this size on, in bytes, files are linked and not copied, and told apart by their size alone: only programs
/// are so large, which no command changes in place.
const LARGE: u64 = 4 * 1024 * 1024;

/// One file, directory or link.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its permission bits; 0 for a link.
    pub mode: u32,
    /// Its owner and its group.
    pub owner: (u32, u32),
    /// What it is.
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum What {
    Directory,
    File(Vec<u8>),
    /// A large file: where it is, and its size.
    Large(PathBuf, u64),
    Link(PathBuf),
}

impl Entry {
    /// Whether both are the same. Large files are if they have one size.
    pub fn is_same(&self, other: &Entry) -> bool {
        let is_same = match (&self.what, &other.what) {
            (What::Large(_, one), What::Large(_, two)) => one == two,
            (one, two) => one == two,
        };
        is_same && (self.mode, self.owner) == (other.mode, other.owner)
    }

    /// The content of a file.
    pub fn content(&self) -> Option<&[u8]> {
        match &self.what {
            What::File(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// Everything below a directory, by its path in it.
pub type Tree = BTreeMap<PathBuf, Entry>;

/// Reads everything below `dir`.
pub fn read(dir: &Path) -> Tree {
    let mut tree = Tree::new();
    add(dir, Path::new(""), &mut tree);
    tree
}

fn add(dir: &Path, below: &Path, tree: &mut Tree) {
    for entry in fs::read_dir(dir.join(below)).unwrap() {
        let name = below.join(entry.unwrap().file_name());
        let entry = self::entry(&dir.join(&name));
        if entry.what == What::Directory {
            add(dir, &name, tree);
        }
        tree.insert(name, entry);
    }
}

/// What is at that path.
pub fn entry(path: &Path) -> Entry {
    let metadata = fs::symlink_metadata(path).unwrap();
    let what = if metadata.is_dir() {
        What::Directory
    } else if metadata.is_symlink() {
        What::Link(fs::read_link(path).unwrap())
    } else if metadata.len() >= LARGE {
        What::Large(path.to_owned(), metadata.len())
    } else {
        assert!(metadata.is_file(), "{}", path.display());
        What::File(fs::read(path).unwrap())
    };
    let is_link = metadata.is_symlink();
    Entry {
        mode: if is_link { 0 } else { metadata.mode() & 0o7777 },
        owner: (metadata.uid(), metadata.gid()),
        what,
    }
}

/// Makes everything of `tree` below the empty directory `dir`.
pub fn write(tree: &Tree, dir: &Path) {
    for (name, entry) in tree {
        let path = dir.join(name);
        match &entry.what {
            What::Directory => fs::create_dir(&path).unwrap(),
            What::File(content) => fs::write(&path, content).unwrap(),
            What::Large(from, _) => fs::hard_link(from, &path).unwrap(),
            What::Link(target) => symlink(target, &path).unwrap(),
        }
        if matches!(entry.what, What::Directory | What::File(_)) {
            fs::set_permissions(&path, Permissions::from_mode(entry.mode)).unwrap();
        }
        if entry.owner != (0, 0) && !matches!(entry.what, What::Large(..)) {
            lchown(&path, Some(entry.owner.0), Some(entry.owner.1)).unwrap();
        }
    }
}

/// A digest of everything in it.
pub fn digest(tree: &Tree) -> Sha256 {
    Sha256::of(format!("{tree:?}").as_bytes())
}
