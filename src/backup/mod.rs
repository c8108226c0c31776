//! Backups of a cluster: one encrypted file with everything that a new master needs. Its layers, from outside: age, gzip,
//! tar. Nothing of it is ever on the disk in the clear, and it is never a whole in memory.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;
use time::OffsetDateTime;

use crate::language::tr;
use crate::paths::{self, CA_CERTIFICATE};
use crate::records::authorities::digests;
use crate::records::backup::{FailedBackup, LastBackup};
use crate::sys::change::Change;
use crate::sys::root::Root;

pub mod check;
pub mod place;
pub mod read;
pub mod seal;
pub mod source;
#[cfg(test)]
mod tests;
pub mod write;

use place::{Names, Place, into_file};
use seal::Seal;
use write::{Made, Source, write};

/// Where a new backup goes.
#[derive(Clone, Debug)]
pub enum Target {
    /// To this file. An existing one is replaced.
    File(PathBuf),
    /// To this place, with a name that tells the cluster, the master and the time.
    Place(Place),
}

/// A backup that was made.
#[derive(Clone, Debug)]
pub struct Stored {
    /// What it is.
    pub made: Made,
    /// Where it is, in words.
    pub shown: String,
}

/// The names of the backups of the master `node`, whose files are at `root`.
pub fn names(root: &Root, node: &str) -> Result<Names> {
    let pem = root.read(CA_CERTIFICATE)?;
    let pem = pem.with_context(|| {
        tr!(
            "{CA_CERTIFICATE} is missing; run `appliance install`",
            CA_CERTIFICATE
        )
    })?;
    let authority = digests(&String::from_utf8_lossy(&pem)).context(CA_CERTIFICATE)?;
    Ok(Names::of(&authority, node))
}

/// Makes a backup of the cluster of `source`, encrypted for `seal`, and notes that there is one. The caller holds the
/// lock of the machine.
///
/// # Errors
/// If it cannot be made or written. Then nothing is left of it.
pub fn make(source: &Source<'_>, seal: &Seal, target: &Target) -> Result<Stored> {
    let create = |output: &mut dyn std::io::Write| write(source, seal, output);
    let (made, shown) = match target {
        Target::File(path) => (into_file(path, create)?, path.display().to_string()),
        Target::Place(place) => {
            let names = names(source.root, &source.state.node)?;
            let name = names.at(source.created);
            (place.put(&names, &name, create)?, place.shown(&name))
        }
    };
    let last = LastBackup {
        created: made.manifest.created,
        place: shown.clone(),
        bytes: made.bytes,
        sha256: made.sha256.clone(),
        revision: made.manifest.revision,
    };
    note(source.root, &last)?;
    Ok(Stored { made, shown })
}

/// Notes that a backup failed at that time, and why. The next one that is made ends this.
pub fn note_failure(root: &Root, at: OffsetDateTime, why: &str) -> Result<()> {
    let failed = FailedBackup {
        at,
        why: why.to_owned(),
    };
    write_record(root, paths::FAILED_BACKUP, &failed)
}

fn note(root: &Root, last: &LastBackup) -> Result<()> {
    write_record(root, paths::LAST_BACKUP, last)?;
    root.remove_file(paths::FAILED_BACKUP)
}

fn write_record(root: &Root, path: &str, record: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(record)?;
    text.push(b'\n');
    root.write(path, &text, 0o644)
}
