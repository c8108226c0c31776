//! Where backups are kept, and how many.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use time::format_description::FormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use super::write::Made;
use crate::sys::atomic;

/// The permission bits of a backup.
const SECRET: u32 = 0o600;
/// The time in a name, in UTC.
const STAMP: &[FormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");
/// The end of each name.
const END: &str = ".age";
/// How many digits of the cluster's identifier are in a name.
const DIGITS: usize = 8;

/// The names of the backups that one master makes of one cluster: `appliance-CLUSTER-MASTER-TIME.age`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names(String);

impl Names {
    /// Those of the master `node`. `authority` is SHA-256 of the certificates of the cluster's authority.
    pub fn of(authority: &[String], node: &str) -> Names {
        let cluster: String = authority
            .first()
            .map_or("", String::as_str)
            .chars()
            .take(DIGITS)
            .collect();
        Names(format!("appliance-{cluster}-{node}-"))
    }

    /// The name of the backup that is begun at that time.
    pub fn at(&self, time: OffsetDateTime) -> String {
        let utc = time.to_offset(time::UtcOffset::UTC);
        // Writing to text does not fail.
        let stamp = utc.format(STAMP).unwrap_or_default();
        format!("{}{stamp}{END}", self.0)
    }

    /// When the backup of that name was begun; `None` if it is no such name.
    pub fn time(&self, name: &str) -> Option<OffsetDateTime> {
        let stamp = name.strip_prefix(&self.0)?.strip_suffix(END)?;
        let time = PrimitiveDateTime::parse(stamp, STAMP).ok()?.assume_utc();
        (self.at(time) == name).then_some(time)
    }
}

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A directory, which exists: a volume that is not mounted must not fill another disk.
    Directory(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Directory(path) => path.display().fmt(f),
        }
    }
}

impl std::str::FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        match text.starts_with('/') {
            true => Ok(Place::Directory(PathBuf::from(text))),
            false => Err("expected the absolute path of a directory".to_owned()),
        }
    }
}

impl Place {
    /// Where the backup of that name is.
    pub fn shown(&self, name: &str) -> String {
        match self {
            Place::Directory(path) => path.join(name).display().to_string(),
        }
    }

    /// Keeps a new backup of that name, which `write` writes: as a whole, or not at all.
    pub fn put(
        &self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> Result<Made>,
    ) -> Result<Made> {
        match self {
            Place::Directory(directory) => {
                ensure!(
                    directory.is_dir(),
                    "{0} is not a directory; mount it, or make it: `mkdir -m 700 {0}`",
                    directory.display()
                );
                into_file(&directory.join(name), write)
            }
        }
    }

    /// The backups of `names`, the oldest first.
    pub fn list(&self, names: &Names) -> Result<Vec<Kept>> {
        let mut all = match self {
            Place::Directory(directory) => in_directory(directory, names)
                .with_context(|| format!("cannot list {}", directory.display()))?,
        };
        all.sort_by_key(|kept| kept.time);
        Ok(all)
    }

    /// Removes a backup.
    fn remove(&self, name: &str) -> Result<()> {
        match self {
            Place::Directory(directory) => fs::remove_file(directory.join(name))
                .with_context(|| format!("cannot remove {}", self.shown(name))),
        }
    }

    /// Removes the oldest backups of `names`, so that `keep` stay. Files with other names are not touched. Returns what
    /// it removed.
    pub fn prune(&self, names: &Names, keep: usize) -> Result<Vec<String>> {
        let all = self.list(names)?;
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
        None => bail!("nothing was written"),
    }
}

fn in_directory(directory: &Path, names: &Names) -> Result<Vec<Kept>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let Some(time) = names.time(&name) else {
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
    fn a_name_tells_the_cluster_the_master_and_the_time() {
        let names = names("server02");
        let name = names.at(NOW);
        assert_eq!(name, "appliance-01234567-server02-20261130T071509Z.age");
        assert_eq!(names.time(&name), Some(NOW));
        for other in [
            "appliance-01234567-server02-20261130T071509Z.age.gz",
            "appliance-01234567-server02-20261130T071509.age",
            "appliance-01234567-server02-20261330T071509Z.age",
            "appliance-01234567-server02-x-20261130T071509Z.age",
            "appliance-01234567-server020-20261130T071509Z.age",
            "appliance-11234567-server02-20261130T071509Z.age",
            "notes.txt",
        ] {
            assert_eq!(names.time(other), None, "{other}");
        }
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
        let place = Place::Directory(dir.path().to_owned());
        assert_eq!(place.prune(&own, 3).unwrap(), &all[..2]);
        assert_eq!(place.prune(&own, 3).unwrap(), Vec::<String>::new());
        all.drain(..2);
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
        assert_eq!(place.prune(&own, 0).unwrap(), &all[..2]);
    }

    #[test]
    fn a_directory_that_does_not_exist_is_not_made() {
        let place: Place = "/nonexistent/backups".parse().unwrap();
        let error = place.put("x", |_| unreachable!()).unwrap_err().to_string();
        assert!(
            error.contains("mkdir -m 700 /nonexistent/backups"),
            "{error}"
        );
        assert!("backups".parse::<Place>().is_err());
    }
}
