//! The members of etcd on several masters: they restart one after the other.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use core::net::Ipv4Addr;
use serde::{Deserialize, Serialize};

use super::authority::Members;
use super::masters::Subject;
use crate::clients::{etcd, mtls};
use crate::components::ETCD_CERTIFICATE;
use crate::formats::ROTATION;
use crate::join::registry;
use crate::join::shared::{Etcd, Listing};
use crate::language::tr;
use crate::nodespec::ports::ETCD_CLIENTS;
use crate::records::names::NodeNames;
use crate::sys::http;
use crate::sys::retry::{Failure, permanent, transient};
use crate::sys::root::Root;
use crate::sys::waiting::awaited;

/// The record of the master whose turn it is.
const TURN: &str = "turn";
/// How long a member may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How long to wait for the turn, and for members to be healthy.
const PATIENCE: Duration = Duration::from_secs(900);
/// The longest pause between two looks.
const PAUSE: Duration = Duration::from_secs(5);

/// The only member.
pub struct Single;

impl Members for Single {
    fn in_turn(&self, work: &dyn Fn() -> Result<()>) -> Result<()> {
        work()
    }

    fn has_turn(&self) -> Result<bool> {
        Ok(false)
    }

    fn seal_again(&self) -> Result<()> {
        Ok(())
    }
}

/// One of several members.
pub struct Turns {
    root: Root,
    names: NodeNames,
    patience: Duration,
}

/// Whose turn it is.
#[derive(Serialize, Deserialize)]
struct Turn {
    master: String,
}

/// Whose turn it is. An entry that no master wrote is ignored; one of a newer version of the program is refused.
fn whose(listing: &Listing) -> Result<Option<Turn>> {
    let found = listing.records.get(TURN);
    let Some(text) = found.and_then(|found| found.text.as_deref()) else {
        return Ok(None);
    };
    ROTATION.check(text)?;
    Ok(serde_json::from_slice(text).ok())
}

/// The members of the cluster of the master at `root`.
pub fn of(root: &Root) -> Result<Box<dyn Members>> {
    let names = registry::names(root)?.filter(|names| names.masters.len() > 1);
    Ok(match names {
        Some(names) => Box::new(Turns::new(root, names, PATIENCE)),
        None => Box::new(Single),
    })
}

impl Turns {
    /// The member of the master at `root`, which waits at most `patience` for its turn and for other members.
    pub fn new(root: &Root, names: NodeNames, patience: Duration) -> Turns {
        Turns {
            root: root.clone(),
            names,
            patience,
        }
    }

    /// The records in etcd, with the keys of the authorities that this master has now.
    fn etcd(&self) -> Result<Etcd> {
        registry::etcd(&self.root)?.context(tr!("this master is the only one"))
    }

    fn until<T>(&self, what: &str, attempt: impl FnMut() -> Result<T, Failure>) -> Result<T> {
        awaited(what, self.patience, PAUSE, attempt)
    }

    /// Takes the turn, unless another master has it. A run that was cut has left it to the next one on this master.
    fn begin(&self) -> Result<(), Failure> {
        let (etcd, kind) = (self.etcd().map_err(permanent)?, Subject::Authorities.name());
        let listing = etcd.list(kind).map_err(transient)?;
        let own = &self.names.name;
        match whose(&listing).map_err(permanent)? {
            Some(turn) if turn.master == *own => return Ok(()),
            Some(turn) if self.is_gone(&turn.master).map_err(transient)? => {
                log::warn!("{} is no master any more; its turn ends", turn.master);
            }
            Some(turn) => {
                return Err(transient(anyhow!(tr!(
                    "{0} restarts its services; members of etcd restart one after the other. If nothing runs there, run this \
                     there: `appliance certs rotate-ca --continue`",
                    turn.master
                ))));
            }
            None => {}
        }
        let turn = Turn {
            master: own.clone(),
        };
        let text = serde_json::to_vec(&turn).map_err(permanent)?;
        match etcd.put(&listing, kind, TURN, &text).map_err(transient)? {
            true => Ok(()),
            false => Err(transient(anyhow!(tr!(
                "another master took the turn just now"
            )))),
        }
    }

    /// Whether `name` is no master of the cluster any more. The names on this machine can be older than the cluster, so
    /// etcd has to say the same.
    fn is_gone(&self, name: &str) -> Result<bool> {
        let masters = &self.names.masters;
        if masters.iter().any(|master| master.name == name) {
            return Ok(false);
        }
        let client = mtls::client(&self.root, ETCD_CERTIFICATE, ANSWER)?;
        let addresses: Vec<Ipv4Addr> = masters.iter().map(|master| master.address).collect();
        let members = etcd::known_members(&client, &addresses)?;
        Ok(members.iter().all(|member| member.name != name))
    }

    fn end(&self) -> Result<(), Failure> {
        let (etcd, kind) = (self.etcd().map_err(permanent)?, Subject::Authorities.name());
        let listing = etcd.list(kind).map_err(transient)?;
        if !listing.records.contains_key(TURN) {
            return Ok(());
        }
        match etcd.remove(&listing, kind, TURN).map_err(transient)? {
            true => Ok(()),
            false => Err(transient(anyhow!(tr!(
                "the record of the turn changed just now"
            )))),
        }
    }

    /// Fails unless the member at `address` says that it is healthy: it is, if it has a leader and a quorum.
    fn check(&self, address: Ipv4Addr) -> Result<()> {
        #[derive(Deserialize)]
        struct Health {
            health: String,
        }
        let client = mtls::client(&self.root, ETCD_CERTIFICATE, ANSWER)?;
        let url = format!("https://{address}:{ETCD_CLIENTS}/health");
        let what = || {
            tr!(
                "etcd at {address} is not healthy; see `appliance status`",
                address
            )
        };
        let answer = http::send(client.get(url)).with_context(what)?;
        let health: Health = serde_json::from_str(&answer.text()?).with_context(what)?;
        ensure!(health.health == "true", "{}", what());
        Ok(())
    }

    fn are_healthy(&self, is_wanted: impl Fn(Ipv4Addr) -> bool) -> Result<(), Failure> {
        let addresses = self.names.masters.iter().map(|master| master.address);
        for address in addresses.filter(|address| is_wanted(*address)) {
            self.check(address).map_err(transient)?;
        }
        Ok(())
    }
}

impl Members for Turns {
    fn in_turn(&self, work: &dyn Fn() -> Result<()>) -> Result<()> {
        let own = self.names.address;
        self.until("the other masters", || self.begin())?;
        let others = self.until("the other members of etcd", || {
            self.are_healthy(|address| address != own)
        });
        if let Err(error) = others {
            // Nothing was restarted.
            self.until("the end of this turn", || self.end())?;
            return Err(error);
        }
        work()?;
        self.until("this member of etcd", || {
            self.are_healthy(|address| address == own)
        })?;
        self.until("the end of this turn", || self.end())
    }

    fn has_turn(&self) -> Result<bool> {
        let listing = self.etcd()?.list(Subject::Authorities.name())?;
        Ok(whose(&listing)?.is_some_and(|turn| turn.master == self.names.name))
    }

    fn seal_again(&self) -> Result<()> {
        self.etcd()?.seal_again()
    }
}
