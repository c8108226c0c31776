//! Files of the join service's own: JSON, for root only, one writer at a time.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sys::atomic;

/// A file of records that several processes change.
#[derive(Clone, Debug)]
pub struct Records {
    path: PathBuf,
}

impl Records {
    /// The file `name` in the directory `dir`. It need not exist yet.
    pub fn new(dir: &Path, name: &str) -> Records {
        Records {
            path: dir.join(name),
        }
    }

    /// What it holds; nothing if it is not there.
    pub fn read<T: DeserializeOwned + Default>(&self) -> Result<T> {
        match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!(
                    "{} is damaged; mend it or move it away",
                    self.path.display()
                )
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(T::default()),
            Err(error) => Err(error).with_context(|| self.path.display().to_string()),
        }
    }

    /// Changes what it holds, with no other process in between. Where `change` fails, nothing is
    /// written.
    pub fn change<T, R, E>(
        &self,
        change: impl FnOnce(&mut T) -> Result<R, E>,
    ) -> Result<Result<R, E>>
    where
        T: DeserializeOwned + Default + Serialize + PartialEq + Clone,
    {
        let _lock = self.lock()?;
        let before: T = self.read()?;
        let mut records = before.clone();
        let outcome = change(&mut records);
        if outcome.is_ok() && records != before {
            let mut text = serde_json::to_vec_pretty(&records)?;
            text.push(b'\n');
            atomic::replace(&self.path, 0o600, |file| {
                Ok(std::io::Write::write_all(file, &text)?)
            })?;
        }
        Ok(outcome)
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
