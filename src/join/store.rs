//! The records of the join service: a file for root only, with one writer at a time. If several
//! masters share the records, they are in etcd, and the file is a copy of what this machine saw
//! last.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::marker::PhantomData;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};
use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::shared::{Etcd, Listing, Unreachable};
use crate::formats::Format;
use crate::sys::atomic;

/// How often to retry a change after other masters changed the same record.
const TRIES: usize = 50;

/// How the names of marker files end.
const SHARED: &str = "shared";
const HOME: &str = "home";

/// The name of a record.
pub trait Name: Ord + Clone + Display + FromStr + Serialize + DeserializeOwned {}
impl<T: Ord + Clone + Display + FromStr + Serialize + DeserializeOwned> Name for T {}

/// A record that masters can share.
pub trait Record: PartialEq + Clone + Serialize + DeserializeOwned {
    /// Whether records are never removed. If etcd lost such a record, this machine writes it again.
    const STAYS: bool;

    /// Merges the record in etcd with the `own` record of this machine. `first` is true if this
    /// machine uses etcd for the first time: no other master knows its records yet.
    #[must_use]
    fn joined(&self, own: &Self, first: bool) -> Self;
}

/// Records by name.
pub type All<N, R> = BTreeMap<N, R>;

/// Records that several processes change, and possibly several masters.
#[derive(Clone, Debug)]
pub struct Records<N, R> {
    path: PathBuf,
    format: &'static Format,
    etcd: Option<Etcd>,
    of: PhantomData<(N, R)>,
}

impl<N: Name, R: Record> Records<N, R> {
    /// The records of this format in a file in the directory `dir`, which need not exist yet, and in
    /// `etcd` if masters share them. The name of the format is that of the file.
    pub fn new(dir: &Path, format: &'static Format, etcd: Option<Etcd>) -> Records<N, R> {
        Records {
            path: dir.join(format!("{}.json", format.name)),
            format,
            etcd,
            of: PhantomData,
        }
    }

    /// The records in the file of this machine; for shared records, the copy it saw last.
    pub fn known(&self) -> Result<All<N, R>> {
        match fs::read(&self.path) {
            Ok(bytes) => self.format.read(&bytes, || {
                format!(
                    "{} is not valid JSON; correct it, or move it away to start without these \
                     records",
                    self.path.display()
                )
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(All::new()),
            Err(error) => Err(error).with_context(|| self.path.display().to_string()),
        }
    }

    /// All records.
    pub fn read(&self) -> Result<All<N, R>> {
        Ok(match self.meet()? {
            Some((_, all)) => all,
            None => self.known()?,
        })
    }

    /// Changes one record atomically. If `change` fails, nothing is written.
    pub fn change<T, E>(
        &self,
        name: &N,
        mut change: impl FnMut(&mut Option<R>) -> Result<T, E>,
    ) -> Result<Result<T, E>> {
        for _ in 0..TRIES {
            let Some((listing, mut all)) = self.meet()? else {
                return self.change_here(name, change);
            };
            let before = all.get(name).cloned();
            let mut record = before.clone();
            let outcome = change(&mut record);
            if outcome.is_err() || record == before {
                return Ok(outcome);
            }
            let (etcd, key) = (self.etcd.as_ref(), name.to_string());
            let etcd = etcd.context("these records are not shared in etcd")?;
            let done = match &record {
                Some(record) => etcd.put(&listing, self.format.name, &key, &text(record)?)?,
                None => etcd.remove(&listing, self.format.name, &key)?,
            };
            if done {
                set(&mut all, name, record);
                let _lock = self.lock()?;
                self.write(&all)?;
                return Ok(outcome);
            }
        }
        bail!(
            "{} {name}: other masters changed this record {TRIES} times during this run; run the \
             command again",
            self.format.name
        )
    }

    /// Changes one record on this machine alone.
    pub fn change_here<T, E>(
        &self,
        name: &N,
        mut change: impl FnMut(&mut Option<R>) -> Result<T, E>,
    ) -> Result<Result<T, E>> {
        let _lock = self.lock()?;
        let mut all = self.known()?;
        let mut record = all.get(name).cloned();
        let outcome = change(&mut record);
        if outcome.is_ok() {
            set(&mut all, name, record);
            self.write(&all)?;
        }
        Ok(outcome)
    }

    /// Synchronizes the records of this machine and of etcd. `None` if records are not shared, or
    /// not yet: nodes may join the founding master before etcd can answer.
    fn meet(&self) -> Result<Option<(Listing, All<N, R>)>> {
        let Some(etcd) = &self.etcd else {
            return Ok(None);
        };
        let _lock = self.lock()?;
        self.leave_etcd()?;
        let first = !self.has_met().exists();
        'tries: for _ in 0..TRIES {
            let listing = match etcd.list(self.format.name) {
                Err(error) if first && error.is::<Unreachable>() => {
                    log::debug!("{error:#}");
                    return Ok(None);
                }
                listing => listing?,
            };
            let all: All<N, R> = self.read_all(&listing)?;
            for (name, own) in self.known()? {
                let found = all.get(&name);
                let wanted = match found {
                    Some(found) => found.joined(&own, first),
                    None if first || R::STAYS => own,
                    None => continue,
                };
                if found == Some(&wanted) {
                    continue;
                }
                if etcd.put(
                    &listing,
                    self.format.name,
                    &name.to_string(),
                    &text(&wanted)?,
                )? {
                    // Mark this as done, so that it is not repeated.
                    let mut known = self.known()?;
                    known.remove(&name);
                    self.write(&known)?;
                }
                // The listing is now outdated, or another master made a change first.
                continue 'tries;
            }
            self.write(&all)?;
            if first {
                atomic::replace(&self.has_met(), 0o600, |_| Ok(()))?;
            }
            return Ok(Some((listing, all)));
        }
        bail!(
            "{}: other masters changed these records {TRIES} times during this run; run the \
             command again",
            self.format.name
        )
    }

    /// The records of a listing. Entries that no master wrote are ignored. One that a newer version of the program
    /// wrote is refused: what it says would be lost.
    fn read_all(&self, listing: &Listing) -> Result<All<N, R>> {
        let mut all = All::new();
        for (name, found) in &listing.records {
            let Some(text) = found.text.as_deref() else {
                continue;
            };
            self.format.check(text)?;
            if let (Ok(name), Ok(record)) = (name.parse(), serde_json::from_slice(text)) {
                all.insert(name, record);
            }
        }
        Ok(all)
    }

    /// Takes the records out of etcd into the file of this machine, which is the only master from now on. If masters
    /// come later, etcd has nothing that is older than the file.
    ///
    /// # Errors
    /// If etcd does not answer. This can be run again after any cut.
    pub fn take_home(&self) -> Result<()> {
        if self.has_met().exists() || !self.is_home().exists() {
            self.meet()?;
            // The file has all from here on: what is missing in etcd is no longer missing in the file.
            atomic::replace(&self.is_home(), 0o600, |_| Ok(()))?;
            self.forget(&self.has_met())?;
        }
        self.leave_etcd()
    }

    /// Removes from etcd what this machine has taken into its file.
    fn leave_etcd(&self) -> Result<()> {
        if !self.is_home().exists() || self.has_met().exists() {
            return Ok(());
        }
        let etcd = self.etcd.as_ref();
        let etcd = etcd.context("these records are not shared in etcd")?;
        for _ in 0..TRIES {
            let listing = etcd.list(self.format.name)?;
            let mut all = true;
            for name in listing.records.keys() {
                all &= etcd.remove(&listing, self.format.name, name)?;
            }
            if all {
                return self.forget(&self.is_home());
            }
        }
        bail!(
            "{}: others changed these records in etcd {TRIES} times during this run; run the command again",
            self.format.name
        )
    }

    fn forget(&self, marker: &Path) -> Result<()> {
        fs::remove_file(marker).with_context(|| marker.display().to_string())?;
        Ok(atomic::sync_directory(atomic::parent(marker))?)
    }

    /// The marker file: etcd has all records that this machine made before etcd was up.
    fn has_met(&self) -> PathBuf {
        self.path.with_extension(SHARED)
    }

    /// The marker file: this machine was the only master since, and etcd may have older records.
    fn is_home(&self) -> PathBuf {
        self.path.with_extension(HOME)
    }

    fn write(&self, all: &All<N, R>) -> Result<()> {
        if self.known().is_ok_and(|known| known == *all) {
            return Ok(());
        }
        let mut text = serde_json::to_vec_pretty(all)?;
        text.push(b'\n');
        atomic::replace(&self.path, 0o600, |file| {
            Ok(std::io::Write::write_all(file, &text)?)
        })
    }

    fn lock(&self) -> Result<Flock<File>> {
        let path = self.path.with_extension("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| path.display().to_string())?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, error)| anyhow!(error).context(format!("cannot lock {}", path.display())))
    }
}

/// Whether a kind of records in the directory `dir` is in etcd, or was.
pub fn is_away(dir: &Path) -> bool {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut markers = files.map(|file| file.path().extension().map(std::ffi::OsStr::to_owned));
    markers.any(|extension| {
        extension.is_some_and(|extension| extension == SHARED || extension == HOME)
    })
}

fn set<N: Name, R>(all: &mut All<N, R>, name: &N, record: Option<R>) {
    match record {
        Some(record) => all.insert(name.clone(), record),
        None => all.remove(name),
    };
}

fn text(record: &impl Serialize) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(record)?)
}
