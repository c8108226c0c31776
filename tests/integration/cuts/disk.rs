//! A disk that may lose its power: what was written to it, in order, and what POSIX lets it have afterwards.
//!
//! The data, the size, the mode and the owner of a file are safe after its `fsync`. A name in a directory is safe
//! after the `fsync` of the directory. What is not safe may be there or not, each change by itself: in another
//! order than it was made, and data also in part. A rename is there as a whole, or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use super::tree::{Entry, Tree, What};

/// A file, a directory or a link, whatever its name is.
pub type Inode = usize;

/// The directory that is recorded.
pub const TOP: Inode = 0;

/// A place of a name.
pub type Place = (Inode, OsString);

/// A change of the disk, or a wait until changes are safe.
#[derive(Clone, Debug)]
pub enum Operation {
    /// A name leads to something new, or to nothing.
    Name(Place, Option<Inode>),
    /// A name leads to what another name led to, and the other one is gone.
    Rename(Place, Place, Inode),
    /// Bytes are written to a file at this position.
    Data(Inode, usize, Vec<u8>),
    /// An empty file gets the content of a large one, as a whole.
    Large(Inode, What),
    /// A file gets this size.
    Size(Inode, usize),
    /// It gets these permission bits.
    Mode(Inode, u32),
    /// It gets this owner and this group.
    Owner(Inode, (u32, u32)),
    /// All changes of it are safe from here on.
    Sync(Inode),
}

impl Operation {
    /// Whose `fsync` makes it safe: one of these is enough.
    fn safe_with(&self) -> Vec<Inode> {
        match self {
            Operation::Name((dir, _), _) => vec![*dir],
            Operation::Rename((from, _), (to, _), _) => vec![*from, *to],
            Operation::Data(inode, ..)
            | Operation::Large(inode, _)
            | Operation::Size(inode, _)
            | Operation::Mode(inode, _)
            | Operation::Owner(inode, _) => vec![*inode],
            Operation::Sync(_) => vec![],
        }
    }

    /// The file that it changes or names.
    fn changed(&self) -> Option<Inode> {
        match self {
            Operation::Name(_, inode) => *inode,
            Operation::Rename(_, _, inode)
            | Operation::Data(inode, ..)
            | Operation::Large(inode, _)
            | Operation::Size(inode, _)
            | Operation::Mode(inode, _)
            | Operation::Owner(inode, _) => Some(*inode),
            Operation::Sync(_) => None,
        }
    }

    /// Whether it changes a name.
    pub fn is_name(&self) -> bool {
        matches!(self, Operation::Name(..) | Operation::Rename(..))
    }

    /// Whether it changes what is in a file.
    pub fn is_data(&self) -> bool {
        matches!(
            self,
            Operation::Data(..) | Operation::Large(..) | Operation::Size(..)
        )
    }
}

/// How much of a change survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survives {
    /// Nothing.
    No,
    /// The first half of the data. Other changes have no half, and survive.
    Half,
    /// The length of the data, with zeros. Other changes survive.
    Zeros,
    /// All of it.
    Yes,
}

/// An object as it was made or found. The names in a directory are apart.
#[derive(Clone, Debug)]
struct Object {
    entry: Entry,
    names: BTreeMap<OsString, Inode>,
}

/// A disk, and what was done to it.
#[derive(Clone, Debug)]
pub struct Disk {
    objects: Vec<Object>,
    /// What was done, in order.
    pub operations: Vec<Operation>,
    /// As everything is now.
    now: Vec<Object>,
}

impl Disk {
    /// A disk on which this is safe.
    pub fn of(tree: &Tree) -> Disk {
        let top = Entry {
            mode: 0o755,
            owner: (0, 0),
            what: What::Directory,
        };
        let mut disk = Disk {
            objects: vec![],
            operations: vec![],
            now: vec![],
        };
        disk.add(top);
        for (path, entry) in tree {
            let inode = disk.add(entry.clone());
            let (dir, name) = disk.place(path).expect("parents come first");
            disk.objects[dir].names.insert(name.clone(), inode);
            disk.now[dir].names.insert(name, inode);
        }
        disk
    }

    /// Adds an object that has no name yet.
    pub fn add(&mut self, entry: Entry) -> Inode {
        let object = Object {
            entry,
            names: BTreeMap::new(),
        };
        self.objects.push(object.clone());
        self.now.push(object);
        self.now.len() - 1
    }

    /// Does this.
    pub fn carry_out(&mut self, operation: Operation) {
        apply(&mut self.now, &operation, Survives::Yes);
        self.operations.push(operation);
    }

    /// The directory and the name of a path. Links on the way are followed.
    pub fn place(&self, path: &Path) -> Option<Place> {
        let name = path.file_name()?.to_owned();
        let dir = self.find(path.parent()?)?;
        Some((dir, name))
    }

    /// What is at the path. Links are followed.
    pub fn find(&self, path: &Path) -> Option<Inode> {
        let mut at = vec![TOP];
        for part in path.components() {
            match part {
                Component::Normal(name) => {
                    let dir = *at.last()?;
                    let next = *self.now[dir].names.get(name)?;
                    match &self.now[next].entry.what {
                        What::Link(target) if target.is_relative() => {
                            let whole = self.path(dir)?.join(target);
                            at.push(self.find(&normal(&whole))?);
                        }
                        What::Link(_) => return None,
                        _ => at.push(next),
                    }
                }
                Component::ParentDir => drop(at.pop()),
                _ => {}
            }
        }
        at.last().copied()
    }

    /// What is at that place, without following a link.
    pub fn at(&self, (dir, name): &Place) -> Option<Inode> {
        self.now[*dir].names.get(name).copied()
    }

    /// The present content of a file.
    pub fn content(&self, inode: Inode) -> Option<&[u8]> {
        self.now[inode].entry.content()
    }

    /// The path of a directory.
    fn path(&self, inode: Inode) -> Option<PathBuf> {
        let mut all = BTreeMap::new();
        paths(&self.now, TOP, Path::new(""), &mut all);
        all.remove(&inode)
    }

    /// As everything is now.
    pub fn tree(&self) -> Tree {
        tree(&self.now)
    }

    /// The changes among the first `count` operations that are not safe after them.
    pub fn pending(&self, count: usize) -> Vec<usize> {
        let mut safe: BTreeSet<Inode> = BTreeSet::new();
        let mut pending = Vec::new();
        for (index, operation) in self.operations[..count].iter().enumerate().rev() {
            match operation {
                Operation::Sync(inode) => drop(safe.insert(*inode)),
                other if other.safe_with().iter().any(|inode| safe.contains(inode)) => {}
                _ => pending.push(index),
            }
        }
        pending.reverse();
        pending
    }

    /// The files that were written to the end after the first `count` operations: their data and their names are safe,
    /// if the directories above them are.
    pub fn written(&self, count: usize) -> Vec<(PathBuf, Entry)> {
        let mut objects = self.objects.clone();
        for operation in &self.operations[..count] {
            apply(&mut objects, operation, Survives::Yes);
        }
        let pending = self.pending(count).into_iter();
        let changed = pending.filter_map(|index| self.operations[index].changed());
        let changed: BTreeSet<Inode> = changed.collect();
        let mut all = BTreeMap::new();
        paths(&objects, TOP, Path::new(""), &mut all);
        all.into_iter()
            .filter(|(inode, _)| !changed.contains(inode))
            .map(|(inode, path)| (path, objects[inode].entry.clone()))
            .collect()
    }

    /// What is there after the first `count` operations and a power cut, if so much of each pending change survives.
    pub fn after_cut(&self, count: usize, survives: &BTreeMap<usize, Survives>) -> Tree {
        let mut objects = self.objects.clone();
        for (index, operation) in self.operations[..count].iter().enumerate() {
            let survives = survives.get(&index).copied().unwrap_or(Survives::Yes);
            apply(&mut objects, operation, survives);
        }
        tree(&objects)
    }
}

/// Changes the objects as the operation does, if it survives.
fn apply(objects: &mut [Object], operation: &Operation, survives: Survives) {
    if survives == Survives::No {
        return;
    }
    match operation {
        Operation::Name((dir, name), inode) => {
            match inode {
                Some(inode) => objects[*dir].names.insert(name.clone(), *inode),
                None => objects[*dir].names.remove(name),
            };
        }
        Operation::Rename((from, old), (to, new), inode) => {
            if objects[*from].names.get(old) == Some(inode) {
                objects[*from].names.remove(old);
            }
            objects[*to].names.insert(new.clone(), *inode);
        }
        Operation::Data(inode, at, bytes) => {
            let half = match survives {
                Survives::Half => bytes.len() / 2,
                _ => bytes.len(),
            };
            let What::File(content) = &mut objects[*inode].entry.what else {
                panic!("data for what is no file: {operation:?}");
            };
            let end = at + half;
            content.resize(content.len().max(end), 0);
            match survives {
                Survives::Zeros => content[*at..end].fill(0),
                _ => content[*at..end].copy_from_slice(&bytes[..half]),
            }
        }
        Operation::Large(inode, content) if survives == Survives::Yes => {
            objects[*inode].entry.what = content.clone();
        }
        Operation::Large(..) => {}
        Operation::Size(inode, size) => {
            let What::File(content) = &mut objects[*inode].entry.what else {
                panic!("a size for what is no file: {operation:?}");
            };
            content.resize(*size, 0);
        }
        Operation::Mode(inode, mode) => objects[*inode].entry.mode = *mode,
        Operation::Owner(inode, owner) => objects[*inode].entry.owner = *owner,
        Operation::Sync(_) => {}
    }
}

/// The path of every object with a name.
fn paths(objects: &[Object], dir: Inode, below: &Path, all: &mut BTreeMap<Inode, PathBuf>) {
    all.insert(dir, below.to_owned());
    for (name, inode) in &objects[dir].names {
        paths(objects, *inode, &below.join(name), all);
    }
}

fn tree(objects: &[Object]) -> Tree {
    let mut tree = Tree::new();
    collect(objects, TOP, Path::new(""), &mut tree);
    tree
}

fn collect(objects: &[Object], dir: Inode, below: &Path, tree: &mut Tree) {
    for (name, inode) in &objects[dir].names {
        let path = below.join(name);
        tree.insert(path.clone(), objects[*inode].entry.clone());
        collect(objects, *inode, &path, tree);
    }
}

/// The path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(normal.pop()),
            other => normal.push(other),
        }
    }
    normal
}
