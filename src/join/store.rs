//! Records of the join service's own: a file for root only, one writer at a time. Where several
//! masters share them they stand in etcd, and the file has what this machine saw there last.

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
use crate::sys::atomic;

/// How often a change is tried that others come before.
const TRIES: usize = 50;

/// What names a record.
pub trait Name: Ord + Clone + Display + FromStr + Serialize + DeserializeOwned {}
impl<T: Ord + Clone + Display + FromStr + Serialize + DeserializeOwned> Name for T {}

/// A record that masters can share.
pub trait Record: PartialEq + Clone + Serialize + DeserializeOwned {
    /// Whether one that was made is never taken away: one that etcd has lost is put there again.
    const STAYS: bool;

    /// What the record in etcd becomes, where this machine has its `own`. `first` tells that this
    /// machine meets etcd for the first time: what it noted so far, nobody else knows.
    #[must_use]
    fn joined(&self, own: &Self, first: bool) -> Self;
}

/// Records by their names.
pub type All<N, R> = BTreeMap<N, R>;

/// Records that several processes change, and perhaps several masters.
#[derive(Clone, Debug)]
pub struct Records<N, R> {
    path: PathBuf,
    kind: &'static str,
    etcd: Option<Etcd>,
    of: PhantomData<(N, R)>,
}

impl<N: Name, R: Record> Records<N, R> {
    /// Those of that kind, in a file in the directory `dir`, which need not exist yet; and in
    /// `etcd`, where masters share them.
    pub fn new(dir: &Path, kind: &'static str, etcd: Option<Etcd>) -> Records<N, R> {
        Records {
            path: dir.join(format!("{kind}.json")),
            kind,
            etcd,
            of: PhantomData,
        }
    }

    /// What this machine knows by itself: of records that masters share, what it saw last.
    pub fn known(&self) -> Result<All<N, R>> {
        match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!(
                    "{} is damaged; mend it or move it away",
                    self.path.display()
                )
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(All::new()),
            Err(error) => Err(error).with_context(|| self.path.display().to_string()),
        }
    }

    /// All there are.
    pub fn read(&self) -> Result<All<N, R>> {
        Ok(match self.meet()? {
            Some((_, all)) => all,
            None => self.known()?,
        })
    }

    /// Changes one record, with nobody else in between. Where `change` fails, nothing is written.
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
            let etcd = etcd.context("no etcd")?;
            let done = match &record {
                Some(record) => etcd.put(&listing, self.kind, &key, &text(record)?)?,
                None => etcd.remove(&listing, self.kind, &key)?,
            };
            if done {
                set(&mut all, name, record);
                let _lock = self.lock()?;
                self.write(&all)?;
                return Ok(outcome);
            }
        }
        bail!(
            "{} {name}: other masters change it all the time; try again",
            self.kind
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

    /// Tells etcd what this machine knows and etcd does not, and the other way round. `None` where records are not shared, or not yet: the master that founds a cluster lets others in
    /// before etcd can answer.
    fn meet(&self) -> Result<Option<(Listing, All<N, R>)>> {
        let Some(etcd) = &self.etcd else {
            return Ok(None);
        };
        let _lock = self.lock()?;
        let first = !self.has_met().exists();
        'tries: for _ in 0..TRIES {
            let listing = match etcd.list(self.kind) {
                Err(error) if first && error.is::<Unreachable>() => {
                    log::debug!("{error:#}");
                    return Ok(None);
                }
                listing => listing?,
            };
            let all: All<N, R> = read_all(&listing);
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
                if etcd.put(&listing, self.kind, &name.to_string(), &text(&wanted)?)? {
                    // What was told is not told again.
                    let mut known = self.known()?;
                    known.remove(&name);
                    self.write(&known)?;
                }
                // The listing is an old one now; or another master came before.
                continue 'tries;
            }
            self.write(&all)?;
            if first {
                atomic::replace(&self.has_met(), 0o600, |_| Ok(()))?;
            }
            return Ok(Some((listing, all)));
        }
        bail!(
            "{}: other masters change them all the time; try again",
            self.kind
        )
    }

    /// The file that says that etcd has what this machine noted before there was etcd.
    fn has_met(&self) -> PathBuf {
        self.path.with_extension("shared")
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
            .map_err(|(_, error)| anyhow!(error).context(format!("lock {}", path.display())))
    }
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

/// The records of a listing; what no master wrote is none.
fn read_all<N: Name, R: Record>(listing: &Listing) -> All<N, R> {
    let records = listing.records.iter();
    let record = |(name, found): (&String, &super::shared::Found)| {
        let record = serde_json::from_slice(found.text.as_deref()?).ok()?;
        Some((name.parse().ok()?, record))
    };
    records.filter_map(record).collect()
}
