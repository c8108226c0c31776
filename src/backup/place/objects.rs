//! Backups in an object store.

use std::fmt;
use std::io::Write;

use anyhow::{Context, Result, anyhow};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{Kept, Names, TimeOf};
use crate::backup::seal::secret_file;
use crate::backup::write::Made;
use crate::clients::objects::{Credentials, Reading, Store};
use crate::language::tr;
use crate::nodespec::Refused;
use crate::nodespec::objects::{Location, StoreSpec};
use crate::sys::read::bounded;

/// The most that a file of authorities may have, in bytes.
const MOST: u64 = 1024 * 1024;

/// A place for backups in a bucket.
#[derive(Clone, Debug)]
pub struct Objects {
    // Boxed, because a place is moved around and seldom a bucket.
    store: Box<Store>,
    at: Location,
}

impl fmt::Display for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at.fmt(f)
    }
}

impl Objects {
    /// The place at `at`, which is reached as `spec` says. Asks the store nothing yet.
    ///
    /// # Errors
    /// [`Refused`] if nothing says it, if others may read the file of credentials, or if it cannot be used.
    pub fn open(at: &Location, spec: Option<&StoreSpec>) -> Result<Objects, Refused> {
        let open = || {
            let spec = spec.with_context(|| {
                tr!("{at}: nothing says how this object store is reached; add `--s3-endpoint https://HOST:PORT \
                     --s3-credentials FILE`, or `backup: {{s3: …}}` in the settings of a master", at)
            })?;
            let place = || spec.credentials.display().to_string();
            let secret = secret_file(&spec.credentials)
                .context(tr!("the credentials of the object store"))?;
            let credentials = Credentials::parse(secret.expose()).with_context(place)?;
            let authorities = spec.ca.as_deref().map(authorities).transpose()?;
            Ok(Objects {
                store: Box::new(Store::new(
                    spec,
                    &at.bucket,
                    credentials,
                    authorities.as_deref(),
                )?),
                at: at.clone(),
            })
        };
        open().map_err(Refused::because)
    }

    /// The place of the object at `at`, and its name there.
    pub(in crate::backup) fn of_object(
        at: &Location,
        spec: Option<&StoreSpec>,
    ) -> Result<(Objects, String), Refused> {
        let (key, name) = at.key.rsplit_once('/').unwrap_or(("", &at.key));
        if name.is_empty() {
            return Err(Refused::new(tr!(
                "{at} names no backup; see which there are: `appliance backup list --all --to {at}`",
                at
            )));
        }
        let place = Location {
            bucket: at.bucket.clone(),
            key: key.to_owned(),
        };
        Ok((Objects::open(&place, spec)?, name.to_owned()))
    }

    fn key(&self, name: &str) -> String {
        match &*self.at.key {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        }
    }

    /// The address of the backup of that name.
    pub fn shown(&self, name: &str) -> String {
        format!("{}/{name}", self.at)
    }

    /// Keeps a new backup of that name. Until the store has acknowledged all of it, there is no object.
    pub fn put(
        &self,
        names: &Names,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> Result<Made>,
    ) -> Result<Made> {
        self.clear(names);
        let mut upload = self.store.begin(&self.key(name))?;
        let made = write(&mut upload).and_then(|made| {
            upload.finish()?;
            Ok(made)
        });
        if made.is_err()
            && let Err(error) = upload.abort()
        {
            log::warn!(
                "parts of {} stay in the store until the next backup: {error:#}",
                self.shown(name)
            );
        }
        made
    }

    /// Forgets what earlier backups of this master left when they were cut. Without it, a backup can be made, too.
    fn clear(&self, names: &Names) {
        let clear = || {
            for begun in self.store.begun(&self.key(names.start()))? {
                let name = begun.key.strip_prefix(&self.key(""));
                if name.is_some_and(|name| names.time(name).is_some()) {
                    self.store.abort(&begun)?;
                    log::info!(
                        "removed what an interrupted backup left in {self}: {}",
                        begun.key
                    );
                }
            }
            Ok(())
        };
        let done: Result<()> = clear();
        if let Err(error) = done {
            log::warn!("cannot remove what interrupted backups left in {self}: {error:#}");
        }
    }

    /// The backups here whose names begin with `start`, and have a time.
    pub fn list(&self, start: &str, time: TimeOf<'_>) -> Result<Vec<Kept>> {
        let before = self.key("");
        let mut all = Vec::new();
        self.store.list(&self.key(start), |object| {
            let name = object.key.strip_prefix(&before);
            if let Some((name, time)) = name.and_then(|name| Some((name, time(name)?))) {
                all.push(Kept {
                    name: name.to_owned(),
                    time,
                    bytes: object.bytes,
                });
            }
        })?;
        Ok(all)
    }

    /// Removes a backup.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.store.remove(&self.key(name))
    }

    /// A reader of a backup.
    pub fn read(&self, name: &str) -> Result<Reading> {
        self.store.read(&self.key(name))
    }
}

/// The certificates in a file: at least one.
fn authorities(path: &std::path::Path) -> Result<Vec<u8>> {
    let place = || path.display().to_string();
    let pem = bounded(path, MOST)?.with_context(|| tr!("{} is missing", place()))?;
    let mut all = CertificateDer::pem_slice_iter(&pem);
    match all.next() {
        Some(Ok(_)) => Ok(pem),
        _ => Err(anyhow!(tr!("{} has no certificate in PEM", place()))),
    }
}
