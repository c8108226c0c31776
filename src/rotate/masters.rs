//! What masters tell each other about a rotation: a single one nothing, several ones through records in etcd.
//!
//! The records are sealed with a key that is derived from the CA's key, as those of tokens and nodes: only masters
//! have it. So new keys can be in etcd for the time of a rotation.

use std::cell::RefCell;

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::components::ETCD_CERTIFICATE;
use crate::formats::ROTATION;
use crate::join::registry;
use crate::join::shared::{Etcd, Found, Listing};
use crate::language::tr;
use crate::paths;
use crate::pki::{Secret, inspect};
use crate::records::names::NodeNames;
use crate::sys::root::Root;

/// What is rotated: the directory of its records in etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The key that encrypts secrets.
    Encryption,
    /// The key that signs the tokens of service accounts.
    ServiceAccounts,
    /// The authorities of the cluster and of etcd.
    Authorities,
}

impl Subject {
    /// The name of the directory.
    pub fn name(self) -> &'static str {
        match self {
            Subject::Encryption => "encryption",
            Subject::ServiceAccounts => "service-accounts",
            Subject::Authorities => "authorities",
        }
    }
}

/// The record of what all masters are to have.
const AGREED: &str = "agreed";

/// What the masters of a cluster tell each other about a rotation.
pub trait Masters {
    /// Whether there are several.
    fn are_several(&self) -> bool;

    /// The text that all masters are to follow, with keys in it; `None` if no rotation is under way.
    fn agreed(&self) -> Result<Option<Secret>>;

    /// Replaces the text that all are to follow. Returns false if another master was faster.
    fn agree(&self, before: Option<&Secret>, text: &Secret) -> Result<bool>;

    /// Tells the others that this master's services are up with `text`.
    fn note(&self, text: &Secret) -> Result<()>;

    /// The masters that have not noted `text`.
    fn behind(&self, text: &Secret) -> Result<Vec<String>>;

    /// Ends the rotation that led to `text`.
    fn end(&self, text: &Secret) -> Result<()>;
}

/// The only master: it agrees with itself.
#[derive(Default)]
pub struct Alone(RefCell<Option<Secret>>);

impl Masters for Alone {
    fn are_several(&self) -> bool {
        false
    }

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

/// The text that all masters are to follow: for the key that encrypts secrets, its file.
#[derive(Serialize, Deserialize)]
struct Agreed {
    file: Zeroizing<String>,
}

/// What a master says about itself.
#[derive(PartialEq, Serialize, Deserialize)]
struct Followed {
    /// SHA-256 of the text with which its services are up, in hexadecimal.
    digest: String,
    /// SHA-256 of the public key of its member of etcd: a machine that was rebuilt has another one.
    machine: String,
}

/// One of several masters.
pub struct Several {
    root: Root,
    names: NodeNames,
    subject: Subject,
    /// The public key of this machine, as in [`Followed`].
    machine: String,
}

/// The masters of the cluster of the master at `root`, in a rotation of `subject`.
pub fn of(root: &Root, subject: Subject) -> Result<Box<dyn Masters>> {
    Ok(match Several::open(root, subject)? {
        Some(several) => Box::new(several),
        None => Box::<Alone>::default(),
    })
}

impl Several {
    /// The master at `root`, in a rotation of `subject`; `None` if it is the only one.
    pub fn open(root: &Root, subject: Subject) -> Result<Option<Several>> {
        let Some(names) = registry::names(root)?.filter(|names| names.masters.len() > 1) else {
            return Ok(None);
        };
        let path = paths::certificate(ETCD_CERTIFICATE);
        let pem = root.read(&path)?;
        let pem = pem.with_context(|| tr!("{path} is missing; run `appliance install`", path))?;
        let own = inspect::inspect(&pem).with_context(|| path.clone())?;
        Ok(Some(Several {
            root: root.clone(),
            names,
            subject,
            machine: inspect::fingerprint(&own),
        }))
    }

    /// Whether a rotation is under way, or has left the file at the path `left` on this master.
    pub fn is_under_way(&self, left: Option<&str>) -> Result<bool> {
        let is_left = left.map_or(Ok(false), |left| self.root.exists(left))?;
        Ok(is_left || self.agreed()?.is_some())
    }

    /// The records in etcd, with the keys of the authorities that this master has now: a rotation changes them.
    fn etcd(&self) -> Result<Etcd> {
        let etcd = registry::etcd(&self.root)?;
        etcd.context(tr!(
            "the masters are gone from the names of this master; run `appliance install`"
        ))
    }

    fn list(&self) -> Result<Listing> {
        self.etcd()?.list(self.subject.name())
    }

    /// The record of what all are to follow.
    fn read_agreed(&self, listing: &Listing) -> Result<Option<Secret>> {
        let agreed: Option<Agreed> = match listing.records.get(AGREED) {
            Some(found) => Some(read(self.subject, AGREED, found)?),
            None => None,
        };
        Ok(agreed.map(|agreed| Secret::new(agreed.file.as_bytes().to_vec())))
    }
}

/// A record that masters wrote. The error never quotes it.
fn read<T: DeserializeOwned>(subject: Subject, name: &str, found: &Found) -> Result<T> {
    let strange = || {
        let kind = subject.name();
        tr!(
            "no master of this cluster wrote the record {kind}/{name} in etcd; see who writes to etcd, and remove it: \
             `ETCDCTL_API=2 appliance etcdctl rm /appliance/join/{kind}/{name}`",
            kind,
            name
        )
    };
    let text = found.text.as_deref().with_context(strange)?;
    ROTATION.read_secret(text, strange)
}

/// The record of what the master `name` says.
fn of_master(name: &str) -> String {
    format!("master-{name}")
}

fn digest(file: &Secret) -> String {
    hex::encode(Sha256::digest(file.expose()))
}

impl Masters for Several {
    fn are_several(&self) -> bool {
        true
    }

    fn agreed(&self) -> Result<Option<Secret>> {
        self.read_agreed(&self.list()?)
    }

    fn agree(&self, before: Option<&Secret>, file: &Secret) -> Result<bool> {
        let listing = self.list()?;
        if self.read_agreed(&listing)?.as_ref() != before {
            return Ok(false);
        }
        let file =
            String::from_utf8(file.expose().to_vec()).context(tr!("what is agreed is text"))?;
        let text = Zeroizing::new(serde_json::to_vec(&Agreed { file: file.into() })?);
        self.etcd()?
            .put(&listing, self.subject.name(), AGREED, &text)
    }

    fn note(&self, file: &Secret) -> Result<()> {
        let followed = Followed {
            digest: digest(file),
            machine: self.machine.clone(),
        };
        let name = of_master(&self.names.name);
        let listing = self.list()?;
        let before = listing.records.get(&name);
        if before
            .is_some_and(|found| read(self.subject, &name, found).ok().as_ref() == Some(&followed))
        {
            return Ok(());
        }
        if !self.etcd()?.put(
            &listing,
            self.subject.name(),
            &name,
            &serde_json::to_vec(&followed)?,
        )? {
            bail!(tr!(
                "another run of this command on this master changed its record; run this again"
            ));
        }
        Ok(())
    }

    fn behind(&self, file: &Secret) -> Result<Vec<String>> {
        let (listing, nodes) = (self.list()?, registry::open(&self.root)?.1.all()?);
        let digest = digest(file);
        let mut behind = Vec::new();
        for master in &self.names.masters {
            let name = of_master(&master.name);
            let found = listing.records.get(&name);
            let followed: Option<Followed> =
                found.and_then(|found| read(self.subject, &name, found).ok());
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
        let listing = self.list()?;
        if self.read_agreed(&listing)?.as_ref() == Some(file) {
            self.etcd()?.remove(&listing, self.subject.name(), AGREED)?;
        }
        Ok(())
    }
}
