//! The nodes that joined a master: which machine has which name.

use core::net::Ipv4Addr;
use std::path::Path;

use anyhow::Result;
use time::{Duration, OffsetDateTime};

use super::message::{Reason, Refusal};
use super::shared::Etcd;
use super::store::{self, Record, Records};
use crate::formats;
use crate::nodespec::token::Bytes32;
use crate::records::nodes::NodeRecord;

/// How long a worker that joined may take to register with the API server. Its name stays reserved
/// that long.
const REGISTRATION: Duration = Duration::minutes(15);
/// A node counts as gone if the cluster has not heard from it for this long.
const GONE: Duration = Duration::minutes(5);

/// The state of a node in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// No node has this name.
    Absent,
    /// The node is ready.
    Ready,
    /// The cluster has not heard from it since then.
    Silent(OffsetDateTime),
}

/// Finds out the state of a node in the cluster.
pub type AskCluster<'a> = dyn Fn(&str) -> Result<Presence> + 'a;

impl Record for NodeRecord {
    /// `node release` removes a record.
    const STAYS: bool = false;

    /// The machine that joined later has the name.
    fn joined(&self, own: &NodeRecord, first: bool) -> NodeRecord {
        let later = first && own.seen > self.seen;
        if later { own.clone() } else { self.clone() }
    }
}

/// The nodes by name.
pub type All = store::All<String, NodeRecord>;

/// The nodes of a master, or of all masters.
#[derive(Clone, Debug)]
pub struct Nodes(Records<String, NodeRecord>);

impl Nodes {
    /// The nodes in the directory `dir`: of a single master, or the records of this master alone.
    pub fn new(dir: &Path) -> Nodes {
        Nodes(Records::new(dir, &formats::NODES, None))
    }

    /// The nodes that masters share in `etcd`, with `dir` for the records of this master.
    pub fn shared(dir: &Path, etcd: Etcd) -> Nodes {
        Nodes(Records::new(dir, &formats::NODES, Some(etcd)))
    }

    /// Takes the records out of etcd into the file of this machine, which is the only master from now on.
    pub fn take_home(&self) -> Result<()> {
        self.0.take_home()
    }

    /// All nodes.
    pub fn all(&self) -> Result<All> {
        self.0.read()
    }

    /// Records that the machine with this key and address now has the name.
    pub fn note(&self, name: &str, record: &NodeRecord) -> Result<()> {
        self.0.change(&name.to_owned(), |found| {
            *found = Some(record.clone());
            Ok(())
        })?
    }

    /// Removes the record of a name. Returns whether there was one.
    pub fn release(&self, name: &str) -> Result<bool> {
        let name = name.to_owned();
        self.0.change(&name, |found| Ok(found.take().is_some()))?
    }
}

/// A machine that asks for certificates.
#[derive(Clone, Copy, Debug)]
pub struct Applicant<'a> {
    /// SHA-256 of the public key that identifies it, in hexadecimal.
    pub key: &'a str,
    /// Its address.
    pub address: Ipv4Addr,
    /// SHA-256 of the UUID of its machine, if it told one.
    pub machine: Option<Bytes32>,
}

impl Applicant<'_> {
    /// Whether it has the keys of the recorded machine, but is another machine at another address. A machine that
    /// tells no UUID is another one than a machine that told one.
    pub fn is_copy_of(&self, record: &NodeRecord) -> bool {
        record.key == self.key
            && record.address != self.address
            && record.machine.is_some()
            && self.machine != record.machine
    }

    /// Checks whether its address is free for a node `name`, if `all` are the nodes that joined: no other
    /// machine has it, as a node that the cluster hears from.
    pub fn may_have_address(
        &self,
        name: &str,
        all: &All,
        now: OffsetDateTime,
        cluster: &AskCluster<'_>,
    ) -> Result<(), Refusal> {
        let mut others = all.iter().filter(|(other, record)| {
            *other != name && record.address == self.address && record.key != self.key
        });
        others.try_for_each(|(other, record)| {
            let presence = ask(other, cluster)?;
            match still_here(other, presence, Some(record), self.address, now) {
                None => Ok(()),
                Some(what) => Err(Refusal::new(
                    Reason::NameTaken,
                    format!(
                        "{what}, at the address {} that {name} says it has; if the machine of {other} is gone, \
                         wait until its node counts as gone (5 minutes), or run this on the master: kubectl \
                         delete node {other}; appliance node release {other}",
                        self.address
                    ),
                )),
            }
        })
    }

    /// Checks whether it may have the name `name`, if `all` are the nodes that joined. A rebuilt
    /// machine has a different key: it may have the name as soon as the old node counts as gone.
    /// So may a copy of a machine, with the key of that machine.
    pub fn may_have(
        &self,
        name: &str,
        all: &All,
        now: OffsetDateTime,
        cluster: &AskCluster<'_>,
    ) -> Result<(), Refusal> {
        let original = all.iter().find(|(_, record)| self.is_copy_of(record));
        if let Some((original, record)) = original {
            let presence = ask(original, cluster)?;
            return match still_here(original, presence, Some(record), self.address, now) {
                Some(_) => Err(copy(original, record)),
                None => Ok(()),
            };
        }
        let record = all.get(name);
        if record.is_some_and(|record| record.key == self.key) {
            return Ok(());
        }
        let presence = ask(name, cluster)?;
        match still_here(name, presence, record, self.address, now) {
            None => Ok(()),
            Some(what) => Err(Refusal::new(
                Reason::NameTaken,
                format!(
                    "{what}; if that machine is gone, wait until its node counts as gone (5 minutes), \
                     or run this on the master: kubectl delete node {name}; appliance node release \
                     {name}"
                ),
            )),
        }
    }
}

/// The refusal for a copy of the machine of `record`, whose node is `name`.
pub fn copy(name: &str, record: &NodeRecord) -> Refusal {
    let address = record.address;
    Refusal::new(
        Reason::NotYours,
        format!(
            "this machine is a copy of {name} at {address}: it has the same keys, and two machines cannot \
             be one node. To add a node, make a VM from an image without a node. If this machine replaces \
             {name}, which is gone: give it the address {address}, or run `appliance install --change \
             address` here with a token"
        ),
    )
}

fn ask(name: &str, cluster: &AskCluster<'_>) -> Result<Presence, Refusal> {
    cluster(name).map_err(|error| {
        log::warn!("cannot find out whether a machine {name} is in the cluster: {error:#}");
        Refusal::new(
            Reason::Unavailable,
            format!(
                "the master cannot find out whether a machine {name} is in the cluster; try again, and look for \
                 the cause in `journalctl -u appliance-signer` on the master"
            ),
        )
    })
}

/// Why the node `name` counts as present, for a machine at `address`; `None` if it is gone.
fn still_here(
    name: &str,
    presence: Presence,
    record: Option<&NodeRecord>,
    address: Ipv4Addr,
    now: OffsetDateTime,
) -> Option<String> {
    match (presence, record) {
        // It may still be on its way: after it joined, it has to register.
        (Presence::Absent, Some(old))
            if old.address != address && now - old.seen < REGISTRATION =>
        {
            Some(format!(
                "the machine at {} joined with the name {name} only {} ago",
                old.address,
                minutes(now - old.seen)
            ))
        }
        (Presence::Ready, _) => Some(format!("a node {name} is in the cluster, and ready")),
        (Presence::Silent(since), _) if now - since < GONE => Some(format!(
            "a node {name} is in the cluster, and last reported {} ago",
            minutes(now - since)
        )),
        (Presence::Absent | Presence::Silent(_), _) => None,
    }
}

fn minutes(duration: Duration) -> String {
    match duration.whole_minutes() {
        ..=0 => "less than a minute".to_owned(),
        1 => "a minute".to_owned(),
        n => format!("{n} minutes"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
    const HERE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 101);
    const THERE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 111);

    fn known(minutes_ago: i64) -> NodeRecord {
        NodeRecord {
            address: HERE,
            key: "old".to_owned(),
            machine: Some(Bytes32([1; 32])),
            token: "abcdef".parse().unwrap(),
            seen: NOW - Duration::minutes(minutes_ago),
        }
    }

    /// Whether the machine with that key and UUID may have the name, beside the node `server01` of `record`.
    fn told(
        record: Option<&NodeRecord>,
        (name, key, machine): (&str, &str, u8),
        address: Ipv4Addr,
        presence: Presence,
    ) -> Result<(), Refusal> {
        let record = record.map(|record| ("server01".to_owned(), record.clone()));
        let applicant = Applicant {
            key,
            address,
            machine: Some(Bytes32([machine; 32])),
        };
        let cluster = |_: &str| Ok(presence);
        applicant.may_have(name, &record.into_iter().collect(), NOW, &cluster)
    }

    fn may(record: Option<&NodeRecord>, key: &str, at: Ipv4Addr, presence: Presence) -> bool {
        told(record, ("server01", key, 1), at, presence).is_ok()
    }

    #[test]
    fn a_copy_is_refused_while_its_original_lives() {
        let record = known(60);
        for name in ["server01", "server07"] {
            let copied = |address, presence| {
                let told = told(Some(&record), (name, "old", 2), address, presence);
                told.map_err(|refusal| refusal.error)
            };
            let refusal = copied(THERE, Presence::Ready).unwrap_err();
            assert!(
                refusal.contains("a copy of server01 at 192.168.1.101"),
                "{refusal}"
            );
            assert!(copied(THERE, Presence::Silent(NOW)).is_err());
            assert!(copied(THERE, Presence::Silent(NOW - GONE)).is_ok());
            assert!(copied(THERE, Presence::Absent).is_ok());
        }
        // It replaces the first, which had this address.
        assert!(told(Some(&record), ("server01", "old", 2), HERE, Presence::Ready).is_ok());
        // A copy of a machine that has not registered yet.
        assert!(
            told(
                Some(&known(1)),
                ("server07", "old", 2),
                THERE,
                Presence::Absent
            )
            .is_err()
        );
    }

    #[test]
    fn a_copy_that_tells_no_uuid_is_a_copy() {
        let record = known(60);
        let silent = |address| Applicant {
            key: "old",
            address,
            machine: None,
        };
        assert!(silent(THERE).is_copy_of(&record));
        assert!(!silent(HERE).is_copy_of(&record));
        let without = NodeRecord {
            machine: None,
            ..record
        };
        assert!(!silent(THERE).is_copy_of(&without));
    }

    #[test]
    fn the_address_of_a_living_node_is_not_free() {
        let all = All::from([("server01".to_owned(), known(60))]);
        let told = |(name, key), address, presence| {
            let applicant = Applicant {
                key,
                address,
                machine: None,
            };
            applicant.may_have_address(name, &all, NOW, &|_: &str| Ok(presence))
        };
        let other = ("server09", "new");
        let refusal = told(other, HERE, Presence::Ready).unwrap_err();
        let expected = "a node server01 is in the cluster, and ready, at the address 192.168.1.101";
        assert!(refusal.error.contains(expected), "{}", refusal.error);
        assert_eq!(refusal.reason, Reason::NameTaken);
        assert!(told(other, HERE, Presence::Silent(NOW)).is_err());
        assert!(told(other, HERE, Presence::Silent(NOW - GONE)).is_ok());
        assert!(told(other, HERE, Presence::Absent).is_ok());
        assert!(told(other, THERE, Presence::Ready).is_ok());
        // The same machine under a new name, and a machine that asks for its own name.
        assert!(told(("server09", "old"), HERE, Presence::Ready).is_ok());
        assert!(told(("server01", "new"), HERE, Presence::Ready).is_ok());
    }

    #[test]
    fn a_machine_keeps_its_name_and_nobody_takes_it_while_it_lives() {
        let record = known(60);
        assert!(may(Some(&record), "old", THERE, Presence::Ready));
        assert!(!may(Some(&record), "new", HERE, Presence::Ready));
        let just_now = Presence::Silent(NOW - Duration::minutes(1));
        assert!(!may(Some(&record), "new", HERE, just_now));
        assert!(!may(None, "new", HERE, Presence::Ready));
    }

    #[test]
    fn a_rebuilt_machine_has_its_name_once_the_old_one_is_gone() {
        let record = known(60);
        let long_ago = Presence::Silent(NOW - GONE);
        assert!(may(Some(&record), "new", THERE, long_ago));
        assert!(may(Some(&record), "new", THERE, Presence::Absent));
        // A machine that was rebuilt with its old address before it ever registered.
        assert!(may(Some(&known(1)), "new", HERE, Presence::Absent));
        assert!(!may(Some(&known(1)), "new", THERE, Presence::Absent));
    }

    #[test]
    fn nobody_gets_a_name_while_the_cluster_does_not_answer() {
        let asked = |_: &str| anyhow::bail!("connection refused");
        let applicant = Applicant {
            key: "new",
            address: HERE,
            machine: None,
        };
        let refusal = applicant.may_have("server01", &All::default(), NOW, &asked);
        assert_eq!(refusal.unwrap_err().reason, Reason::Unavailable);
    }
}
