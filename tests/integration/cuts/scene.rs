//! What is cut: a command, and what is there before it.

use std::any::Any;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use appliance::paths::TIMELINE;
use nix::sys::stat::{major, minor};

use super::disk::Disk;
use super::meaning::{Expected, Simplify, misfits};
use super::recording::{Recorded, play};
use super::strace::{Call, own_threads, record};
use super::tree::{self, Entry, Tree, What};
use crate::harness::{directory, lasting_directory, said};

/// The directory in which a place has what a command takes for `/`, if it runs with another root directory.
pub const ROOT: &str = "root";

/// Where root's lock files are. A killed run leaves its own, which the next run removes.
const LOCKS: &str = "/run/appliance-locks";

/// A command, and what is there before it.
pub struct Scene {
    /// What is in the place before.
    pub before: Tree,
    /// Whether the program runs with [`ROOT`] as its `/`.
    pub is_root: bool,
    /// The command for a place.
    pub command: Box<dyn Fn(&Path) -> Command + Send + Sync>,
    /// What may differ after a repetition.
    pub simplify: Simplify,
    /// Whether a repetition may end like this.
    pub ends: fn(&Output) -> bool,
    /// A directory whose files may be missing: they only save time.
    pub optional: Option<&'static str>,
    /// A directory that is not compared: the names in it are of the time.
    pub ignored: Option<&'static str>,
    /// A directory where programs that the command starts make something in a temporary directory, which the command
    /// renames.
    pub made_by_others: Option<&'static str>,
    /// What must exist as long as the scene.
    pub keeps: Vec<Box<dyn Any + Send + Sync>>,
}

/// Nothing may differ.
pub fn as_it_is(_: &Path, text: String) -> String {
    text
}

impl Scene {
    /// A command before which the place has what is in `before`, and a directory for temporary files.
    pub fn new(before: &Path, command: impl Fn(&Path) -> Command + Send + Sync + 'static) -> Scene {
        let temporary = Entry {
            mode: 0o755,
            owner: (0, 0),
            what: What::Directory,
        };
        let mut before = tree::read(before);
        before.insert("tmp".into(), temporary);
        Scene {
            before,
            is_root: false,
            command: Box::new(command),
            simplify: as_it_is,
            optional: None,
            ignored: None,
            made_by_others: None,
            ends: |output| output.status.success(),
            keeps: vec![],
        }
    }

    /// Adds a program to what is there before, as a link to this file.
    pub fn add(&mut self, path: &str, program: &Path) {
        let entry = Entry {
            mode: 0o755,
            owner: (0, 0),
            what: What::Large(program.to_owned(), fs::metadata(program).unwrap().len()),
        };
        self.before.insert(path.into(), entry);
    }

    /// The command, with a directory for temporary files in the place.
    pub fn command(&self, place: &Path) -> Command {
        let mut command = (self.command)(place);
        let directory = match self.is_root {
            true => PathBuf::from("/tmp"),
            false => place.join("tmp"),
        };
        command.env("TMPDIR", directory);
        command
    }
}

/// A directory in which a command runs. It may be on a file system of its own.
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Place {
        let place = Place { dir: directory() };
        fs::create_dir(place.path()).unwrap();
        place
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("place")
    }

    /// Makes it have what is in `tree`.
    pub fn make(&self, tree: &Tree) {
        let path = self.path();
        fs::remove_dir_all(&path).unwrap();
        fs::create_dir(&path).unwrap();
        tree::write(tree, &path);
    }

    /// What it has.
    pub fn tree(&self) -> Tree {
        tree::read(&self.path())
    }

    /// The lock files of directories in it, as paths in the place.
    pub fn locks(&self) -> Vec<PathBuf> {
        let names = fs::read_dir(LOCKS).into_iter().flatten().flatten();
        let names: Vec<String> = names
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        let path = self.path();
        let is_locked = |below: &PathBuf| {
            let own = fs::symlink_metadata(path.join(below)).unwrap();
            let name = format!("{}-{}-{}", major(own.dev()), minor(own.dev()), own.ino());
            own.is_dir() && names.contains(&name)
        };
        match names.is_empty() {
            true => vec![],
            false => self.tree().into_keys().filter(is_locked).collect(),
        }
    }
}

/// A scene, and what its command does when nobody cuts it.
pub struct Known {
    /// Its name in reports.
    pub name: &'static str,
    pub scene: Scene,
    /// What it leaves.
    pub expected: Expected,
    /// The system calls of the command itself, in one run.
    pub calls: Vec<Call>,
    /// The place of that run, as a disk.
    pub disk: Disk,
    /// The path of that place.
    pub recorded_at: PathBuf,
    /// The large files that were made in it.
    _large: tempfile::TempDir,
}

impl Known {
    /// Runs the command three times: two runs tell what is random, and one is recorded.
    pub fn of(name: &'static str, scene: Scene) -> Known {
        let places = [(); 2].map(|()| {
            let place = Place::new();
            place.make(&scene.before);
            let output = scene.command(&place.path()).output().unwrap();
            assert!(output.status.success(), "{}: {}", name, said(&output));
            place
        });
        let [one, two] = &places;
        let expected = Expected::of(seen(&scene, one), &seen(&scene, two), scene.simplify);
        assert_eq!(misfits(&expected.tree), Vec::<String>::new());
        one.make(&scene.before);
        let path = one.path();
        let (output, calls) = record(&scene.command(&path));
        assert!(output.status.success(), "{}: {}", name, said(&output));
        let root = match scene.is_root {
            true => path.join(ROOT),
            false => PathBuf::from("/"),
        };
        let own = own_threads(&calls);
        let calls: Vec<Call> = calls
            .into_iter()
            .filter(|call| own.contains(&call.thread))
            .collect();
        let large = lasting_directory();
        let recorded = Recorded {
            before: &scene.before,
            dir: &path,
            root: &root,
            made_by_others: scene.made_by_others,
            large: large.path(),
        };
        let disk = play(&recorded, &calls);
        is_the_same(name, &disk.tree(), &one.tree());
        Known {
            name,
            scene,
            expected,
            calls,
            disk,
            recorded_at: path,
            _large: large,
        }
    }

    /// What the place has, as far as it is compared.
    pub fn seen(&self, place: &Place) -> Tree {
        seen(&self.scene, place)
    }

    /// The output of another run in the place.
    pub fn run(&self, place: &Place) -> Output {
        self.scene.command(&place.path()).output().unwrap()
    }
}

fn seen(scene: &Scene, place: &Place) -> Tree {
    let mut tree = place.tree();
    // The times of a repetition are others, and of fewer steps.
    tree.retain(|path, _| !path.ends_with(TIMELINE.trim_start_matches('/')));
    if let Some(ignored) = scene.ignored {
        tree.retain(|path, _| !path.starts_with(ignored));
    }
    tree
}

/// Checks that what was recorded is what is there.
fn is_the_same(scene: &str, recorded: &Tree, there: &Tree) {
    for (path, entry) in there {
        let same = recorded.get(path).is_some_and(|one| one.is_same(entry));
        assert!(same, "{scene}: {} was recorded otherwise", path.display());
    }
    assert_eq!(recorded.len(), there.len(), "{scene}: more was recorded");
}
