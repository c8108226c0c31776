//! What masters tell each other about a rotation: a single one nothing, several ones through records in etcd.
//!
//! The records are sealed with a key that is derived from the CA's key, as those of tokens and nodes: only masters
//! have it. So the file with the keys can be in etcd for the time of the rotation.

use std::cell::RefCell;

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::secrets::Masters;
use crate::components::ETCD_CERTIFICATE;
use crate::join::nodes::Nodes;
use crate::join::registry;
use crate::join::shared::{Etcd, Found, Listing};
use crate::paths;
use crate::pki::{Secret, inspect};
use crate::records::names::NodeNames;
use crate::sys::root::Root;

/// The kind of the records in etcd.
const KIND: &str = "encryption";
/// The record of the file that all masters are to have.
const AGREED: &str = "agreed";

/// The only master: it agrees with itself.
#[derive(Default)]
pub struct Alone(RefCell<Option<Secret>>);

impl Masters for Alone {
    fn agreed(&self) -> Result<Option<Secret>> {
        Ok(self.0.borrow().clone())
    }

    fn agree(&self, _before: Option<&Secret>, file: &Secret) -> Result<bool> {
        *self.0.borrow_mut() = Some(file.clone());
        Ok(true)
    }

    fn note(&self, _file: &Secret) -> Result<()> {
        Ok(())
    }

    fn behind(&self, _file: &Secret) -> Result<Vec<String>> {
        Ok(vec![])
    }

    fn end(&self, _file: &Secret) -> Result<()> {
        *self.0.borrow_mut() = None;
        Ok(())
    }
}

/// The file that all masters are to have.
#[derive(Serialize, Deserialize)]
struct Agreed {
    file: Zeroizing<String>,
}

/// What a master says about itself.
#[derive(PartialEq, Serialize, Deserialize)]
struct Followed {
    /// SHA-256 of the file with which its API server is up, in hexadecimal.
    digest: String,
    /// SHA-256 of the public key of its member of etcd: a machine that was rebuilt has another one.
    machine: String,
}

/// One of several masters.
pub struct Several {
    etcd: Etcd,
    nodes: Nodes,
    names: NodeNames,
    /// The public key of this machine, as in [`Followed`].
    machine: String,
}

impl Several {
    /// The master at `root`; `None` if it is the only one.
    pub fn open(root: &Root) -> Result<Option<Several>> {
        let Some((etcd, names)) = registry::etcd(root)?.zip(registry::names(root)?) else {
            return Ok(None);
        };
        let path = paths::certificate(ETCD_CERTIFICATE);
        let pem = root.read(&path)?;
        let pem = pem.with_context(|| format!("{path} is missing; run `appliance install`"))?;
        let own = inspect::inspect(&pem).with_context(|| path.clone())?;
        Ok(Some(Several {
            etcd,
            nodes: registry::open(root)?.1,
            names,
            machine: inspect::fingerprint(&own),
        }))
    }

    /// The record of the file that all are to have.
    fn read_agreed(listing: &Listing) -> Result<Option<Secret>> {
        let agreed: Option<Agreed> = match listing.records.get(AGREED) {
            Some(found) => Some(read(AGREED, found)?),
            None => None,
        };
        Ok(agreed.map(|agreed| Secret::new(agreed.file.as_bytes().to_vec())))
    }
}

/// A record that masters wrote. The error never quotes it.
fn read<T: DeserializeOwned>(name: &str, found: &Found) -> Result<T> {
    let record = found
        .text
        .as_deref()
        .and_then(|text| serde_json::from_slice(text).ok());
    record.with_context(|| {
        format!(
            "no master of this cluster wrote the record {KIND}/{name} in etcd; see who writes to etcd, and remove it: \
             `etcdctl rm /appliance/join/{KIND}/{name}`"
        )
    })
}

/// The record of what the master `name` says.
fn of_master(name: &str) -> String {
    format!("master-{name}")
}

fn digest(file: &Secret) -> String {
    hex::encode(Sha256::digest(file.expose()))
}

impl Masters for Several {
    fn agreed(&self) -> Result<Option<Secret>> {
        Several::read_agreed(&self.etcd.list(KIND)?)
    }

    fn agree(&self, before: Option<&Secret>, file: &Secret) -> Result<bool> {
        let listing = self.etcd.list(KIND)?;
        if Several::read_agreed(&listing)?.as_ref() != before {
            return Ok(false);
        }
        let file = String::from_utf8(file.expose().to_vec()).context("a file with keys is text")?;
        let text = Zeroizing::new(serde_json::to_vec(&Agreed { file: file.into() })?);
        self.etcd.put(&listing, KIND, AGREED, &text)
    }

    fn note(&self, file: &Secret) -> Result<()> {
        let followed = Followed {
            digest: digest(file),
            machine: self.machine.clone(),
        };
        let name = of_master(&self.names.name);
        let listing = self.etcd.list(KIND)?;
        let before = listing.records.get(&name);
        if before.is_some_and(|found| read(&name, found).ok().as_ref() == Some(&followed)) {
            return Ok(());
        }
        if !self
            .etcd
            .put(&listing, KIND, &name, &serde_json::to_vec(&followed)?)?
        {
            bail!("another run of this command on this master changed its record; run this again");
        }
        Ok(())
    }

    fn behind(&self, file: &Secret) -> Result<Vec<String>> {
        let (listing, nodes) = (self.etcd.list(KIND)?, self.nodes.all()?);
        let digest = digest(file);
        let mut behind = Vec::new();
        for master in &self.names.masters {
            let name = of_master(&master.name);
            let found = listing.records.get(&name);
            let followed: Option<Followed> = found.and_then(|found| read(&name, found).ok());
            // A master that joined again is another machine, with the keys that some master sent.
            let joined = nodes.get(&master.name);
            let has_it = followed.is_some_and(|followed| {
                let is_it = joined.is_none_or(|record| record.key == followed.machine);
                followed.digest == digest && is_it
            });
            if !has_it {
                behind.push(master.name.clone());
            }
        }
        Ok(behind)
    }

    fn end(&self, file: &Secret) -> Result<()> {
        let listing = self.etcd.list(KIND)?;
        if Several::read_agreed(&listing)?.as_ref() == Some(file) {
            self.etcd.remove(&listing, KIND, AGREED)?;
        }
        Ok(())
    }
}
