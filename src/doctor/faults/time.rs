//! The clock.

use crate::language::tr;

use super::super::facts::Facts;
use super::super::{Fault, Seen, seen};
use super::cause;

/// What follows from a clock that is wrong.
const FOLLOWS: &[&str] = &[
    "clock-differs",
    "clock-unsynchronized",
    "certificate-expired",
    "certificate-not-yet-valid",
    "certificate-expires-soon",
    "api-server-down",
    "etcd-down",
    "node-not-ready",
    "token-refused",
    "installation-failed",
    "other-service-down",
    "calico-down",
];

#[rustfmt::skip]
pub const FAULTS: &[Fault] = &[
    cause("clock-behind", "the clock, and the times of files that are older than now",
        "The clock of this machine is behind its own files, so it was set back or lost. Certificates are not yet valid then.",
        "timedatectl set-ntp true", behind).explains(FOLLOWS),
    cause("clock-differs", "the time that each master sends with its answer",
        "The clocks of this machine and of a master differ. Certificates, tokens and leases are judged by two times.",
        "timedatectl set-ntp true", differs).explains(&[
            "clock-unsynchronized", "certificate-expired", "certificate-not-yet-valid", "node-not-ready", "token-refused",
        ]),
    cause("clock-unsynchronized", "whether systemd says that the clock is synchronized",
        "Nothing keeps the clock right. It drifts, and after a pause of the VM it can be hours behind.",
        "timedatectl set-ntp true", unsynchronized).notice(),
];

fn behind(facts: &Facts) -> Option<Seen> {
    let clock = facts.machine.as_ref()?.clock.as_ref()?;
    let (path, time) = clock.newest.as_ref()?;
    (*time - clock.now > ::time::Duration::days(1)).then(|| {
        Seen::of(tr!(
            "the clock says {}, but {path} was written on {}",
            day(clock.now),
            day(*time),
            path
        ))
    })
}

fn day(time: ::time::OffsetDateTime) -> String {
    time.date().to_string()
}

fn differs(facts: &Facts) -> Option<Seen> {
    const MOST: i64 = 60;
    let apart = facts
        .offsets
        .iter()
        .filter(|(_, seconds)| seconds.abs() > MOST);
    seen(apart.map(|(master, seconds)| {
        let amount = seconds.abs();
        match *seconds > 0 {
            true => tr!(
                "the clock of the master {master} is {amount} s ahead of the clock here",
                master,
                amount
            ),
            false => tr!(
                "the clock of the master {master} is {amount} s behind the clock here",
                master,
                amount
            ),
        }
    }))
}

fn unsynchronized(facts: &Facts) -> Option<Seen> {
    (facts.synchronized == Some(false))
        .then(|| Seen::of(tr!("`timedatectl` says that the clock is not synchronized")))
}
