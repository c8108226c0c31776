//! etcd on a master.

use crate::language::tr;

use super::super::facts::{Facts, Unit};
use super::super::{Fault, Seen};
use super::{cause, shortened};

#[rustfmt::skip]
pub const FAULTS: &[Fault] = &[
    cause("etcd-no-space", "the alarms of etcd",
        "etcd's database reached its quota, and the whole cluster refuses to write until it is compacted and defragmented.",
        "appliance etcd maintain", no_space).explains(&["api-server-down", "etcd-down", "node-not-ready", "other-service-down"]),
    cause("etcd-corrupt", "the alarms and the journal of etcd",
        "The data of this member of etcd is damaged, after errors of the disk or a power cut. Other members may have it whole; else restore a backup.",
        "appliance help high-availability", corrupt).explains(&["etcd-down", "etcd-no-leader"]),
    cause("etcd-removed", "the journal of etcd",
        "The other members removed this one from etcd's cluster. It can come back only as a new member, with its data moved away.",
        "mv /var/lib/etcd/member /var/lib/etcd/member.old && appliance install", removed).explains(&["etcd-down"]),
    cause("etcd-other-cluster", "the journal of etcd",
        "etcd's data on this master belongs to another cluster than that of the other masters.",
        "mv /var/lib/etcd/member /var/lib/etcd/member.old && appliance install", other_cluster).explains(&["etcd-down", "etcd-no-leader"]),
    cause("etcd-no-leader", "what etcd says of its cluster",
        "Most members of etcd are down, or do not reach each other at TCP 2380. Without a majority nothing can be written, and the API server fails.",
        "appliance etcd status", no_leader).explains(&["etcd-down", "api-server-down"]),
];

fn alarm(facts: &Facts, name: &str) -> Option<Seen> {
    let alarms = &facts.etcd.as_ref()?.alarms;
    let has = alarms.iter().any(|alarm| alarm == name);
    has.then(|| Seen::of(tr!("etcd raised the alarm {name}", name)))
}

/// The newest line of etcd's journal with one of these words.
fn line(facts: &Facts, words: &[&str]) -> Option<Seen> {
    let unit: &Unit = facts.units.get("etcd")?;
    let mut lines = unit.lines.iter().rev();
    let found = lines.find(|line| {
        let lower = line.to_lowercase();
        words.iter().any(|word| lower.contains(word))
    })?;
    Some(Seen::of(tr!("etcd says: {}", shortened(found))))
}

fn no_space(facts: &Facts) -> Option<Seen> {
    alarm(facts, "NOSPACE").or_else(|| line(facts, &["database space exceeded"]))
}

fn corrupt(facts: &Facts) -> Option<Seen> {
    const WORDS: &[&str] = &[
        "crc mismatch",
        "file checksum mismatch",
        "snapshot file doesn't exist",
        "panic: freepages",
        "invalid page type",
        "wal: slice bounds",
        "unexpected eof",
        "failed to recover v3 backend from snapshot",
        "tocommit(",
        "database file is corrupt",
        "invalid database",
    ];
    alarm(facts, "CORRUPT").or_else(|| line(facts, WORDS).map(Seen::likely))
}

fn removed(facts: &Facts) -> Option<Seen> {
    line(
        facts,
        &[
            "permanently removed from the cluster",
            "has been removed from the cluster",
        ],
    )
}

fn other_cluster(facts: &Facts) -> Option<Seen> {
    line(facts, &["cluster id mismatch", "mismatch cluster id"])
}

fn no_leader(facts: &Facts) -> Option<Seen> {
    let etcd = facts.etcd.as_ref();
    let without = etcd.is_some_and(|etcd| etcd.answers && etcd.has_leader == Some(false));
    match without {
        true => Some(Seen::of(tr!("etcd answers, but has no leader"))),
        false => line(
            facts,
            &[
                "etcdserver: no leader",
                "is starting a new election at term",
            ],
        )
        .map(Seen::likely),
    }
}
