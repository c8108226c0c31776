//! The nodes a master has let in: which machine has which name.

use core::net::Ipv4Addr;
use std::path::Path;

use anyhow::Result;
use time::{Duration, OffsetDateTime};

use super::message::{Reason, Refusal};
use super::shared::Etcd;
use super::store::{self, Record, Records};
use crate::records::nodes::NodeRecord;

const KIND: &str = "nodes";
/// How long a worker that was let in may take until the cluster knows it. As long, its name is
/// kept for it.
const REGISTRATION: Duration = Duration::minutes(15);
/// How long the cluster has not heard of a node that is believed to be gone.
const GONE: Duration = Duration::minutes(5);

/// What the cluster says of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It has no node of that name.
    Absent,
    /// It heard of it just now.
    Ready,
    /// It has not heard of it since then.
    Silent(OffsetDateTime),
}

/// Asks the cluster for a node.
pub type AskCluster<'a> = dyn Fn(&str) -> Result<Presence> + 'a;

impl Record for NodeRecord {
    /// Whoever releases a name takes it away.
    const STAYS: bool = false;

    /// Who joined later has the name.
    fn joined(&self, own: &NodeRecord, first: bool) -> NodeRecord {
        let later = first && own.seen > self.seen;
        if later { own.clone() } else { self.clone() }
    }
}

/// The nodes by their names.
pub type All = store::All<String, NodeRecord>;

/// The nodes of a master, or of all masters.
#[derive(Clone, Debug)]
pub struct Nodes(Records<String, NodeRecord>);

impl Nodes {
    /// Those in the directory `dir`: of a single master, or what this one knows by itself.
    pub fn new(dir: &Path) -> Nodes {
        Nodes(Records::new(dir, KIND, None))
    }

    /// Those that masters share in `etcd`, and `dir` for what this one knows by itself.
    pub fn shared(dir: &Path, etcd: Etcd) -> Nodes {
        Nodes(Records::new(dir, KIND, Some(etcd)))
    }

    /// All of them.
    pub fn all(&self) -> Result<All> {
        self.0.read()
    }

    /// Notes that the machine of this key and address has the name now.
    pub fn note(&self, name: &str, record: &NodeRecord) -> Result<()> {
        self.0.change(&name.to_owned(), |found| {
            *found = Some(record.clone());
            Ok(())
        })?
    }

    /// Forgets who had the name. Tells whether anybody had.
    pub fn release(&self, name: &str) -> Result<bool> {
        let name = name.to_owned();
        self.0.change(&name, |found| Ok(found.take().is_some()))?
    }
}

/// Whether the machine of the key `key` at `address` may have the name `name`, of which `record`
/// is known. One that was rebuilt has another key: it may, once the cluster knows that the old one
/// is gone.
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
        log::warn!("whether a node {name} is there cannot be found out: {error:#}");
        Refusal::new(
            Reason::Unavailable,
            format!("the API server does not say whether a node {name} is there already"),
        )
    })?;
    let next = format!(
        "wait until it is gone, or say so on the master: kubectl delete node {name}; appliance \
         node release {name}"
    );
    let taken = |what: String| Err(Refusal::new(Reason::NameTaken, format!("{what}; {next}")));
    match (presence, record) {
        (Presence::Absent, None) => Ok(()),
        // It may be on its way: what it was told last was to register.
        (Presence::Absent, Some(old))
            if old.address != address && now - old.seen < REGISTRATION =>
        {
            taken(format!(
                "the machine at {} joined as {name} only {} ago",
                old.address,
                minutes(now - old.seen)
            ))
        }
        (Presence::Absent, Some(_)) => Ok(()),
        (Presence::Ready, _) => taken(format!("a node {name} is in the cluster, and ready")),
        (Presence::Silent(since), _) if now - since < GONE => taken(format!(
            "a node {name} is in the cluster, and was heard of {} ago",
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
        // Rebuilt at once, in its old place, before it had ever registered.
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
