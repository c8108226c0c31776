//! The nodes that joined a master: which machine has which name.

use core::net::Ipv4Addr;
use std::path::Path;

use anyhow::Result;
use time::{Duration, OffsetDateTime};

use super::message::{Reason, Refusal};
use super::shared::Etcd;
use super::store::{self, Record, Records};
use crate::records::nodes::NodeRecord;

const KIND: &str = "nodes";
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
        Nodes(Records::new(dir, KIND, None))
    }

    /// The nodes that masters share in `etcd`, with `dir` for the records of this master.
    pub fn shared(dir: &Path, etcd: Etcd) -> Nodes {
        Nodes(Records::new(dir, KIND, Some(etcd)))
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

/// Checks whether the machine with the key `key` at `address` may have the name `name`; `record` is
/// the present record of this name. A rebuilt machine has a different key: it may have the name as
/// soon as the old node counts as gone.
pub fn may_have(
    name: &str,
    record: Option<&NodeRecord>,
    key: &str,
    address: Ipv4Addr,
    now: OffsetDateTime,
    cluster: &AskCluster<'_>,
) -> Result<(), Refusal> {
    if record.is_some_and(|record| record.key == key) {
        return Ok(());
    }
    let presence = cluster(name).map_err(|error| {
        log::warn!("cannot find out whether a node {name} exists: {error:#}");
        Refusal::new(
            Reason::Unavailable,
            format!(
                "the API server of the master does not answer, so it is unknown whether a node \
                 {name} exists; try again"
            ),
        )
    })?;
    let next = format!(
        "if that machine is gone, wait until its node counts as gone (5 minutes), or run this on \
         the master: kubectl delete node {name}; appliance node release {name}"
    );
    let taken = |what: String| Err(Refusal::new(Reason::NameTaken, format!("{what}; {next}")));
    match (presence, record) {
        (Presence::Absent, None) => Ok(()),
        // It may still be on its way: after it joined, it has to register.
        (Presence::Absent, Some(old))
            if old.address != address && now - old.seen < REGISTRATION =>
        {
            taken(format!(
                "the machine at {} joined with the name {name} only {} ago",
                old.address,
                minutes(now - old.seen)
            ))
        }
        (Presence::Absent, Some(_)) => Ok(()),
        (Presence::Ready, _) => taken(format!("a node {name} is in the cluster, and ready")),
        (Presence::Silent(since), _) if now - since < GONE => taken(format!(
            "a node {name} is in the cluster, and last reported {} ago",
            minutes(now - since)
        )),
        (Presence::Silent(_), _) => Ok(()),
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
            token: "abcdef".parse().unwrap(),
            seen: NOW - Duration::minutes(minutes_ago),
        }
    }

    fn may(record: Option<&NodeRecord>, key: &str, at: Ipv4Addr, presence: Presence) -> bool {
        may_have("server01", record, key, at, NOW, &|_| Ok(presence)).is_ok()
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
        let refusal = may_have("server01", None, "new", HERE, NOW, &asked).unwrap_err();
        assert_eq!(refusal.reason, Reason::Unavailable);
    }
}
