//! Which authorities each node has taken, by its own report. A master drops an authority only after all nodes have
//! taken the file with the new one.

use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::shared::Etcd;
use super::store::{All, Record, Records};
use crate::formats;

/// What a node reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taken {
    /// SHA-256 of the file with the authorities, in hexadecimal.
    pub digest: String,
    /// SHA-256 of the public key of the node's certificate kubelet-client: a rebuilt machine has another one.
    pub key: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub seen: OffsetDateTime,
}

impl Record for Taken {
    const STAYS: bool = false;

    fn joined(&self, _own: &Taken, _first: bool) -> Taken {
        self.clone()
    }
}

/// The reports by the names of the nodes.
#[derive(Clone, Debug)]
pub struct Followers(Records<String, Taken>);

impl Followers {
    /// The reports that the master with its records in `dir` got.
    pub fn new(dir: &Path) -> Followers {
        Followers(Records::new(dir, &formats::TRUST, None))
    }

    /// The reports that masters share in `etcd`, with `dir` for the records of this master.
    pub fn shared(dir: &Path, etcd: Etcd) -> Followers {
        Followers(Records::new(dir, &formats::TRUST, Some(etcd)))
    }

    /// Takes the records out of etcd into the file of this machine, which is the only master from now on.
    pub fn take_home(&self) -> Result<()> {
        self.0.take_home()
    }

    /// All reports.
    pub fn all(&self) -> Result<All<String, Taken>> {
        self.0.read()
    }

    /// Keeps what the node `name` reports.
    pub fn note(&self, name: &str, taken: &Taken) -> Result<()> {
        self.0.change(&name.to_owned(), |found| {
            *found = Some(taken.clone());
            Ok(())
        })?
    }
}
