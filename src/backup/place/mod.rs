//! Where backups are kept, and how many.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use time::OffsetDateTime;

use super::write::Made;
use crate::language::tr;
use crate::nodespec::Refused;
use crate::nodespec::objects::{Destination, StoreSpec};
use crate::sys::atomic;

mod names;
mod objects;

pub use names::Names;
pub use objects::Objects;

/// The permission bits of a backup.
const SECRET: u32 = 0o600;

/// A backup in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// When it was begun.
    pub time: OffsetDateTime,
    /// Its size, in bytes.
    pub bytes: u64,
}

/// Where backups are kept.
#[derive(Clone, Debug)]
pub enum Place {
    /// A directory, which exists: a volume that is not mounted must not fill another disk.
    Directory(PathBuf),
    /// A bucket of an object store, which exists.
    Objects(Objects),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Directory(path) => path.display().fmt(f),
            Place::Objects(objects) => objects.fmt(f),
        }
    }
}

/// When the backup of a name was begun; `None` for another name.
type TimeOf<'a> = &'a dyn Fn(&str) -> Option<OffsetDateTime>;

impl Place {
    /// The place that was named. An object store is reached as `s3` says.
    ///
    /// # Errors
    /// [`Refused`] if that is not known, or if its files of credentials or authorities cannot be used. A store is not
    /// asked yet.
    pub fn open(named: &Destination, s3: Option<&StoreSpec>) -> Result<Place, Refused> {
        Ok(match named {
            Destination::Directory(path) => Place::Directory(path.clone()),
            Destination::Objects(at) => Place::Objects(Objects::open(at, s3)?),
        })
    }

    /// Where the backup of that name is.
    pub fn shown(&self, name: &str) -> String {
        match self {
            Place::Directory(path) => path.join(name).display().to_string(),
            Place::Objects(objects) => objects.shown(name),
        }
    }

    /// Keeps a new backup of that name, which `write` writes: as a whole, or not at all.
    pub fn put(
        &self,
        names: &Names,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> Result<Made>,
    ) -> Result<Made> {
        match self {
            Place::Directory(directory) => {
                ensure!(
                    directory.is_dir(),
                    tr!(
                        "{0} is not a directory; mount it, or make it: `mkdir -m 700 {0}`",
                        directory.display()
                    )
                );
                into_file(&directory.join(name), write)
            }
            Place::Objects(objects) => objects.put(names, name, write),
        }
    }

    /// The backups of `names`, the oldest first.
    pub fn list(&self, names: &Names) -> Result<Vec<Kept>> {
        self.found(names.start(), &|name| names.time(name))
    }

    /// The backups of every cluster and master, the oldest first.
    pub fn list_all(&self) -> Result<Vec<Kept>> {
        self.found(names::ANY, &names::time_of_any)
    }

    fn found(&self, start: &str, time: TimeOf<'_>) -> Result<Vec<Kept>> {
        let mut all = match self {
            Place::Directory(directory) => in_directory(directory, time)
                .with_context(|| tr!("cannot list {}", directory.display()))?,
            Place::Objects(objects) => objects.list(start, time)?,
        };
        all.sort_by_key(|kept| kept.time);
        Ok(all)
    }

    /// Removes a backup.
    fn remove(&self, name: &str) -> Result<()> {
        match self {
            Place::Directory(directory) => fs::remove_file(directory.join(name))
                .with_context(|| tr!("cannot remove {}", self.shown(name))),
            Place::Objects(objects) => objects.remove(name),
        }
    }

    /// Removes the oldest backups of `names`, so that `keep` of those up to the time `last` stay: that of the newest one.
    /// Later ones come from a clock that was ahead, and do not count. Files with other names are not touched. Returns what
    /// it removed.
    pub fn prune(&self, names: &Names, keep: usize, last: OffsetDateTime) -> Result<Vec<String>> {
        let mut all = self.list(names)?;
        all.retain(|kept| kept.time <= last);
        let many = all.len().saturating_sub(keep.max(1));
        let mut removed = Vec::new();
        for old in &all[..many] {
            self.remove(&old.name)?;
            removed.push(old.name.clone());
        }
        Ok(removed)
    }
}

/// Writes a backup into the file at `path`, as a whole or not at all.
pub fn into_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<Made>) -> Result<Made> {
    let mut made = None;
    atomic::replace(path, SECRET, |file| {
        made = Some(write(file)?);
        Ok(())
    })?;
    match made {
        Some(made) => Ok(made),
        None => bail!(tr!("nothing was written")),
    }
}

fn in_directory(directory: &Path, time: TimeOf<'_>) -> Result<Vec<Kept>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let Some(time) = time(&name) else {
            continue;
        };
        if entry.file_type()?.is_file() {
            let bytes = entry.metadata()?.len();
            all.push(Kept { name, time, bytes });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-30 08:15:09 +1);

    fn names(node: &str) -> Names {
        Names::of(&["0123456789abcdef".to_owned()], node)
    }

    #[test]
    fn only_the_oldest_own_backups_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let own = names("server02");
        let mut all: Vec<String> = (0..5)
            .map(|hour| own.at(NOW + time::Duration::hours(hour)))
            .collect();
        let others = [
            names("server04").at(NOW),
            "appliance-01234567-server02-mine.age".to_owned(),
        ];
        for name in all.iter().chain(&others) {
            fs::write(dir.path().join(name), b"x").unwrap();
        }
        // Not a file.
        let directory = own.at(NOW - time::Duration::hours(1));
        fs::create_dir(dir.path().join(&directory)).unwrap();
        // Of a clock that was ahead.
        let later = own.at(NOW + time::Duration::days(3650));
        fs::write(dir.path().join(&later), b"x").unwrap();
        let last = NOW + time::Duration::hours(4);
        let place = Place::Directory(dir.path().to_owned());
        assert_eq!(place.prune(&own, 3, last).unwrap(), &all[..2]);
        assert_eq!(place.prune(&own, 3, last).unwrap(), Vec::<String>::new());
        all.drain(..2);
        all.push(later);
        let kept: Vec<_> = place
            .list(&own)
            .unwrap()
            .into_iter()
            .map(|one| one.name)
            .collect();
        assert_eq!(kept, all);
        for other in others {
            assert!(dir.path().join(other).exists());
        }
        // One stays, whatever was asked for.
        assert_eq!(place.prune(&own, 0, last).unwrap(), &all[..2]);
    }

    #[test]
    fn a_directory_that_does_not_exist_is_not_made() {
        let place = Place::Directory("/nonexistent/backups".into());
        let error = place.put(&names("a"), "x", |_| unreachable!()).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("mkdir -m 700 /nonexistent/backups"),
            "{error}"
        );
    }
}
