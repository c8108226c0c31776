//! Recorded system calls, as changes of a disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::disk::{Disk, Inode, Operation, Place};
use super::strace::Call;
use super::tree::{self, Entry, Tree, What};

/// The bits of a mode that the mask of this process takes away.
const MASK: u32 = 0o022;

/// An open file.
#[derive(Clone, Debug)]
struct Open {
    /// What it is on the disk; `None` if it is elsewhere.
    inode: Option<Inode>,
    /// Where it is, to read what is copied from it.
    path: PathBuf,
    /// Where the next byte is read or written.
    at: u64,
    /// Whether each write goes to the end.
    appends: bool,
}

/// Where the calls were recorded.
#[derive(Clone, Copy)]
pub struct Recorded<'a> {
    /// What was there before.
    pub before: &'a Tree,
    /// The directory that is the disk. It has everything that the run left.
    pub dir: &'a Path,
    /// The directory that the program took for `/`.
    pub root: &'a Path,
    /// Where other programs make something, which the command renames.
    pub made_by_others: Option<&'a str>,
    /// Where to keep the large files that they made.
    pub large: &'a Path,
}

/// Carries out recorded calls on a disk.
struct Player<'a> {
    disk: Disk,
    recorded: Recorded<'a>,
    open: BTreeMap<i64, Open>,
    /// What the command has synced of what other programs made, since it last started one. Whether they have synced
    /// anything, nobody knows.
    synced: BTreeSet<PathBuf>,
}

/// The disk after these calls of the command itself.
pub fn play(recorded: &Recorded<'_>, calls: &[Call]) -> Disk {
    let mut player = Player {
        disk: Disk::of(recorded.before),
        recorded: *recorded,
        open: BTreeMap::new(),
        synced: BTreeSet::new(),
    };
    for call in calls {
        player.play(call);
    }
    player.disk
}

impl Player<'_> {
    fn play(&mut self, call: &Call) {
        if call.result < 0 {
            return;
        }
        match call.name.as_str() {
            "openat" => self.opened(call),
            "close" => drop(self.open.remove(&call.descriptor(0).0)),
            "dup" | "dup2" | "dup3" => self.doubled(call),
            "fcntl" if call.has(1, "F_DUPFD_CLOEXEC") || call.has(1, "F_DUPFD") => {
                self.doubled(call);
            }
            "lseek" => {
                if let Some(open) = self.open.get_mut(&call.descriptor(0).0) {
                    open.at = call.result.try_into().unwrap();
                }
            }
            "write" | "pwrite64" => self.written(call),
            "copy_file_range" => self.copied(call, 0, 2),
            "sendfile" => self.copied(call, 1, 0),
            "clone3" | "clone" | "vfork" | "fork" if !call.names("CLONE_THREAD") => {
                self.synced.clear();
            }
            "fcntl" | "flock" | "execve" | "clone3" | "clone" => {}
            "fsync" | "fdatasync" | "ftruncate" | "fallocate" | "fchmod" | "fchown" => {
                self.of_descriptor(call);
            }
            _ => self.of_path(call),
        }
    }

    /// The path in the disk; `None` if it is elsewhere.
    fn inside(&self, path: &Path) -> Option<PathBuf> {
        path.strip_prefix(self.recorded.dir)
            .ok()
            .map(Path::to_owned)
    }

    /// The place of the path in the argument `index`, relative to the directory in the argument `from`.
    fn place(&self, call: &Call, from: Option<usize>, index: usize) -> Option<Place> {
        let given = call.path(index);
        let whole = match given.strip_prefix("/") {
            Ok(below) => self.recorded.root.join(below),
            Err(_) => {
                let dir = from.and_then(|from| call.descriptor(from).1);
                dir.unwrap_or_else(|| panic!("a relative path: {call:?}"))
                    .join(given)
            }
        };
        self.disk.place(&self.inside(&whole)?)
    }

    fn opened(&mut self, call: &Call) {
        let path = call.opened.clone().unwrap_or_default();
        let made = match call.has(2, "O_CREAT") {
            true => self.place(call, Some(0), 1),
            false => None,
        };
        let found = self.inside(&path).and_then(|path| self.disk.find(&path));
        let inode = match (found, made) {
            (None, Some(place)) => Some(self.made(place, call.value(3), What::File(vec![]))),
            (found, _) => found,
        };
        if let Some(inode) = inode.filter(|_| call.has(2, "O_TRUNC")) {
            self.disk.carry_out(Operation::Size(inode, 0));
        }
        let open = Open {
            inode,
            path,
            at: 0,
            appends: call.has(2, "O_APPEND"),
        };
        self.open.insert(call.result, open);
    }

    /// Something new with that name.
    fn made(&mut self, place: Place, mode: u64, what: What) -> Inode {
        let mode = u32::try_from(mode).unwrap() & !MASK;
        let entry = Entry {
            mode,
            owner: (0, 0),
            what,
        };
        let inode = self.disk.add(entry);
        self.disk.carry_out(Operation::Name(place, Some(inode)));
        inode
    }

    fn doubled(&mut self, call: &Call) {
        if let Some(open) = self.open.get(&call.descriptor(0).0).cloned() {
            self.open.insert(call.result, open);
        }
    }

    fn written(&mut self, call: &Call) {
        let (descriptor, path) = call.descriptor(0);
        let Some(open) = self.open.get_mut(&descriptor) else {
            assert!(!path.is_some_and(|path| path.starts_with(self.recorded.dir)));
            return;
        };
        let mut bytes = call.bytes(1);
        bytes.truncate(call.result.try_into().unwrap());
        if call.name == "pwrite64" {
            let at = call.value(3).try_into().unwrap();
            if let Some(inode) = open.inode {
                self.disk.carry_out(Operation::Data(inode, at, bytes));
            }
            return;
        }
        let Some(inode) = open.inode else { return };
        if open.appends {
            open.at = self.disk.content(inode).map_or(0, <[u8]>::len) as u64;
        }
        let at = open.at.try_into().unwrap();
        open.at += bytes.len() as u64;
        self.disk.carry_out(Operation::Data(inode, at, bytes));
    }

    /// Bytes that the kernel copied from the descriptor in the argument `from` to the one in `to`.
    fn copied(&mut self, call: &Call, from: usize, to: usize) {
        let [from, to] = [from, to].map(|index| call.descriptor(index).0);
        let count: usize = call.result.try_into().unwrap();
        let source = self.open[&from].clone();
        let content = match source.inode.and_then(|inode| self.disk.content(inode)) {
            Some(content) => content.to_vec(),
            None => fs::read(&source.path).unwrap(),
        };
        let at: usize = source.at.try_into().unwrap();
        let bytes = content[at..at + count].to_vec();
        self.open.get_mut(&from).unwrap().at += count as u64;
        let target = self.open.get_mut(&to).unwrap();
        let at = target.at.try_into().unwrap();
        target.at += count as u64;
        if let Some(inode) = target.inode {
            self.disk.carry_out(Operation::Data(inode, at, bytes));
        }
    }

    fn of_descriptor(&mut self, call: &Call) {
        let open = self.open.get(&call.descriptor(0).0);
        let Some(inode) = open.and_then(|open| open.inode) else {
            if let ("fsync", Some(open)) = (call.name.as_str(), open) {
                self.synced.insert(open.path.clone());
            }
            return;
        };
        let value = |index| call.value(index);
        self.disk.carry_out(match call.name.as_str() {
            "ftruncate" => Operation::Size(inode, value(1).try_into().unwrap()),
            "fallocate" => Operation::Size(inode, (value(2) + value(3)).try_into().unwrap()),
            "fchmod" => Operation::Mode(inode, value(1).try_into().unwrap()),
            "fchown" => {
                let id = |index| u32::try_from(value(index)).unwrap();
                Operation::Owner(inode, (id(1), id(2)))
            }
            _ => Operation::Sync(inode),
        });
    }

    fn of_path(&mut self, call: &Call) {
        let renamed = |this: &Self, old, new| (this.place(call, old, 1), this.place(call, new, 3));
        match call.name.as_str() {
            "mkdir" => self.directory(call, self.place(call, None, 0), 1),
            "mkdirat" => self.directory(call, self.place(call, Some(0), 1), 2),
            "symlink" => self.linked(call, self.place(call, None, 1)),
            "symlinkat" => self.linked(call, self.place(call, Some(1), 2)),
            "rename" => {
                let places = (self.place(call, None, 0), self.place(call, None, 1));
                self.renamed(call, places);
            }
            "renameat" | "renameat2" => {
                let places = renamed(self, Some(0), Some(2));
                self.renamed(call, places);
            }
            "unlink" | "rmdir" => self.removed(self.place(call, None, 0)),
            "unlinkat" => self.removed(self.place(call, Some(0), 1)),
            "chmod" => self.mode(self.place(call, None, 0), call, 1),
            "fchmodat" => self.mode(self.place(call, Some(0), 1), call, 2),
            _ => assert!(
                !call.is_below(self.recorded.dir),
                "it is not known: {call:?}"
            ),
        }
    }

    fn directory(&mut self, call: &Call, place: Option<Place>, mode: usize) {
        if let Some(place) = place {
            self.made(place, call.value(mode), What::Directory);
        }
    }

    fn linked(&mut self, call: &Call, place: Option<Place>) {
        if let Some(place) = place {
            let inode = self.made(place, 0, What::Link(call.path(0)));
            // A file system writes the target of a link with the link itself.
            self.disk.carry_out(Operation::Sync(inode));
        }
    }

    fn renamed(&mut self, call: &Call, places: (Option<Place>, Option<Place>)) {
        let (Some(from), Some(to)) = places else {
            if let (Some(dir), None, Some(to)) =
                (self.recorded.made_by_others, &places.0, &places.1)
            {
                let [from, target] = [0, 1].map(|index| call.path(index));
                assert!(from.starts_with(self.recorded.dir.join(dir)), "{call:?}");
                self.taken(&from, &target, to.clone());
                return;
            }
            assert_eq!(places, (None, None), "into the disk or out of it: {call:?}");
            return;
        };
        let inode = self.disk.at(&from).unwrap_or_else(|| panic!("{call:?}"));
        self.disk.carry_out(Operation::Rename(from, to, inode));
    }

    /// What other programs made gets this name in the disk. Only what the command itself has synced is safe.
    fn taken(&mut self, from: &Path, target: &Path, place: Place) {
        let top = self.disk.add(tree::entry(target));
        let made = tree::read(target);
        let mut directories = BTreeMap::from([(PathBuf::new(), top)]);
        for (path, entry) in &made {
            let parent = directories[path.parent().unwrap()];
            let name = (parent, path.file_name().unwrap().to_owned());
            let mut empty = entry.clone();
            if !matches!(entry.what, What::Directory) {
                empty.what = What::File(vec![]);
            }
            let inode = self.disk.add(empty);
            self.disk.carry_out(Operation::Name(name, Some(inode)));
            match &entry.what {
                What::Directory => drop(directories.insert(path.clone(), inode)),
                What::File(content) => {
                    self.disk
                        .carry_out(Operation::Data(inode, 0, content.clone()));
                    self.is_synced(&from.join(path), inode);
                }
                What::Large(file, size) => {
                    let kept = self.recorded.large.join(inode.to_string());
                    fs::hard_link(file, &kept).unwrap();
                    self.disk
                        .carry_out(Operation::Large(inode, What::Large(kept, *size)));
                    self.is_synced(&from.join(path), inode);
                }
                What::Link(_) => panic!("a link: {}", path.display()),
            }
        }
        for (path, inode) in directories {
            self.is_synced(&from.join(path), inode);
        }
        self.disk.carry_out(Operation::Name(place, Some(top)));
    }

    fn is_synced(&mut self, path: &Path, inode: Inode) {
        // `join` of nothing ends with a slash.
        let path: PathBuf = path.components().collect();
        if self.synced.contains(&path) {
            self.disk.carry_out(Operation::Sync(inode));
        }
    }

    fn removed(&mut self, place: Option<Place>) {
        if let Some(place) = place.filter(|place| self.disk.at(place).is_some()) {
            self.disk.carry_out(Operation::Name(place, None));
        }
    }

    fn mode(&mut self, place: Option<Place>, call: &Call, index: usize) {
        let mode = call.value(index).try_into().unwrap();
        let inode = place.and_then(|place| self.disk.at(&place));
        if let Some(inode) = inode {
            self.disk.carry_out(Operation::Mode(inode, mode));
        }
    }
}
