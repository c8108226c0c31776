//! Temporary files and directories. Each has a name that no other program gives, and is locked while its
//! process lives. So the next run that writes beside it recognizes and removes what a killed run left,
//! and nothing else.

use std::ffi::OsStr;
use std::fs::{self, DirEntry, File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use tempfile::{Builder, NamedTempFile, TempDir};

use super::lock::is_at;

/// The start of each name.
const PREFIX: &str = ".appliance-tmp-";
/// The number of random letters and digits after it.
const RANDOM: usize = 12;
/// What may follow them, for programs that look at the name.
const SUFFIXES: [&str; 2] = ["", ".yaml"];

/// The permission bit of a directory in which everyone may create files.
const ANYONE_WRITES: u32 = 0o002;

/// Held for reading while a file is made and locked, and for writing while leftovers are removed: the steps of a run go on side
/// by side, and a file that is not locked yet looks like a leftover.
static MAKING: RwLock<()> = RwLock::new(());

/// A directory that is removed with its content when it is dropped, or else by a later run.
#[derive(Debug)]
pub struct Directory {
    dir: TempDir,
    _lock: File,
}

impl Directory {
    /// Its path.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Forgets it, because it has another name by now.
    pub fn renamed(self) {
        drop(self.dir.keep());
    }
}

/// A new file in the directory `dir`, readable by its owner only. Removes what killed runs left there.
pub fn file_in(dir: &Path) -> io::Result<NamedTempFile> {
    file_with_suffix(dir, SUFFIXES[0])
}

/// A new file for kubectl in the directory `dir`, as [`file_in`] makes it.
pub fn yaml_in(dir: &Path) -> io::Result<NamedTempFile> {
    file_with_suffix(dir, SUFFIXES[1])
}

fn file_with_suffix(dir: &Path, suffix: &str) -> io::Result<NamedTempFile> {
    remove_leftovers(dir);
    let _making = MAKING.read().unwrap_or_else(PoisonError::into_inner);
    loop {
        let file = builder().suffix(suffix).tempfile_in(dir)?;
        // Another run may have taken it for a leftover before it was locked.
        if is_ours(file.as_file(), file.path())? {
            return Ok(file);
        }
    }
}

/// A new directory in the directory `dir`, for its owner only. Removes what killed runs left there.
pub fn directory_in(dir: &Path) -> io::Result<Directory> {
    remove_leftovers(dir);
    let _making = MAKING.read().unwrap_or_else(PoisonError::into_inner);
    loop {
        let made = builder().tempdir_in(dir)?;
        let lock = match File::open(made.path()) {
            // Another run took it for what a killed run left.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        if is_ours(&lock, made.path())? {
            return Ok(Directory {
                dir: made,
                _lock: lock,
            });
        }
    }
}

fn builder() -> Builder<'static, 'static> {
    let mut builder = Builder::new();
    builder.prefix(PREFIX).rand_bytes(RANDOM);
    builder
}

/// Whether `name` is one that this program gives to temporary files and directories.
pub fn is_temporary(name: &OsStr) -> bool {
    let name = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
    let parts = name.and_then(|name| name.split_at_checked(RANDOM));
    parts.is_some_and(|(random, suffix)| {
        random.bytes().all(|byte| byte.is_ascii_alphanumeric()) && SUFFIXES.contains(&suffix)
    })
}

/// Removes the temporary files and directories in the directory `dir` whose process has ended. If one
/// cannot be removed, a warning says so.
pub fn remove_leftovers(dir: &Path) {
    let _removing = MAKING.write().unwrap_or_else(PoisonError::into_inner);
    // A directory that cannot be read or does not exist has nothing that this run could remove.
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| is_temporary(&entry.file_name())) {
        let path = entry.path();
        match remove(&entry, dir) {
            Ok(true) => log::info!("removed {}, which an interrupted run left", path.display()),
            Ok(false) => {}
            Err(error) => log::warn!(
                "cannot remove {0}, which an interrupted run left: {error}; remove it: `rm -r {0}`",
                path.display()
            ),
        }
    }
}

/// Removes the file or the directory, unless another process uses it. Links, devices and pipes stay, and
/// files of others in a directory where everyone may write.
fn remove(entry: &DirEntry, dir: &Path) -> io::Result<bool> {
    let path = entry.path();
    let Some(open) = open(&path) else {
        return Ok(false);
    };
    let found = open.metadata()?;
    let for_everyone = fs::metadata(dir)?.mode() & ANYONE_WRITES != 0;
    let is_own = !for_everyone || found.uid() == geteuid().as_raw();
    if !is_own || !(found.is_file() || found.is_dir()) || !is_ours(&open, &path)? {
        return Ok(false);
    }
    if found.is_dir() {
        fs::remove_dir_all(path)?;
    } else {
        fs::remove_file(path)?;
    }
    Ok(true)
}

/// The file or the directory itself; `None` if it is a link, gone, or for others only.
fn open(path: &Path) -> Option<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mut options = File::options();
    options.read(true).custom_flags(flags.bits());
    options.open(path).ok()
}

/// Locks it, and returns whether no other process had locked it, and it still has that path.
fn is_ours(open: &File, path: &Path) -> io::Result<bool> {
    match open.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    is_at(open, path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    const NAME: &str = ".appliance-tmp-Ab0123456789";

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let name = |entry: io::Result<DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = entries
            .map(|one| name(one).into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn only_names_of_the_exact_form_are_recognized() {
        let dir = tempfile::tempdir().unwrap();
        let [file, yaml] = [file_in(dir.path()).unwrap(), yaml_in(dir.path()).unwrap()];
        let directory = directory_in(dir.path()).unwrap();
        for path in [file.path(), yaml.path(), directory.path()] {
            assert!(
                is_temporary(path.file_name().unwrap()),
                "{}",
                path.display()
            );
        }
        for other in [
            ".appliance-tmp-Ab012345678",
            ".appliance-tmp-Ab01234567890",
            ".appliance-tmp-Ab012345678-",
            ".appliance-tmp-Ab0123456789.pem",
            ".appliance-abcdef",
            "appliance-tmp-Ab0123456789",
            "x.appliance-tmp-Ab0123456789",
        ] {
            assert!(!is_temporary(other.as_ref()), "{other}");
        }
    }

    #[test]
    fn leftovers_are_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at(NAME), b"key").unwrap();
        fs::create_dir_all(at(".appliance-tmp-directory000/bin")).unwrap();
        symlink("/etc", at(".appliance-tmp-directory000/bin/link")).unwrap();
        fs::write(at("precious"), b"mine").unwrap();
        symlink("precious", at(".appliance-tmp-link00000000")).unwrap();
        fs::write(at(".appliance-tmp-other"), b"mine").unwrap();
        let used = file_in(dir.path()).unwrap();
        remove_leftovers(dir.path());
        let used = used.path().file_name().unwrap().to_str().unwrap();
        let mut expected = [
            ".appliance-tmp-link00000000",
            ".appliance-tmp-other",
            "precious",
            used,
        ];
        expected.sort_unstable();
        assert_eq!(names(dir.path()), expected);
        assert!(Path::new("/etc/hostname").exists());
    }

    #[test]
    fn a_directory_in_use_stays() {
        let dir = tempfile::tempdir().unwrap();
        let used = directory_in(dir.path()).unwrap();
        remove_leftovers(dir.path());
        assert!(used.path().exists());
        drop(used);
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }

    #[test]
    fn a_file_of_someone_else_in_a_common_directory_stays() {
        if !geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        fs::write(&path, b"theirs").unwrap();
        chown(&path, Some(65534), None).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        remove_leftovers(dir.path());
        assert!(path.exists());
        // Elsewhere, it is a leftover of a service, or of a file that keeps its owner.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        remove_leftovers(dir.path());
        assert!(!path.exists());
    }

    #[test]
    fn a_new_file_is_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = file_in(dir.path()).unwrap();
        let mode = file.as_file().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
