//! The certificates of the node.

use ::time::Duration;

use super::super::facts::{Certificate, Facts, Held};
use super::super::{Fault, Seen, seen};
use super::cause;
use crate::components::AUTHORITY;
use crate::language::tr;

/// What follows from a certificate that nobody accepts.
const FOLLOWS: &[&str] = &[
    "etcd-down",
    "api-server-down",
    "controller-manager-down",
    "scheduler-down",
    "calico-down",
    "kubelet-down",
    "kube-proxy-down",
    "other-service-down",
    "node-not-ready",
    "etcd-no-leader",
    "installation-failed",
];

#[rustfmt::skip]
pub const FAULTS: &[Fault] = &[
    cause("authority-expired", "the certificate of the authority",
        "The authority of the cluster has expired, so no certificate of any node is accepted.",
        "appliance help certificates", authority_expired).explains(&["certificate-expired"]),
    cause("certificate-expired", "each certificate of the node, and the clock",
        "A certificate has expired. The timer that renews it did not run, or could not reach a master.",
        "appliance install", expired).explains(FOLLOWS),
    cause("certificate-not-yet-valid", "each certificate of the node, and the clock",
        "A certificate begins in the future: the clock was wrong when it was made, or is wrong now.",
        "timedatectl set-ntp true", not_yet).explains(FOLLOWS),
    cause("certificate-foreign", "each certificate, and the authority on this node",
        "A certificate is not signed by the authority on this node: files of another cluster were copied here, or the authority was replaced.",
        "appliance install", foreign).explains(FOLLOWS),
    cause("certificate-unreadable", "each certificate of the node",
        "The file of a certificate is damaged: cut by a full disk or a power cut, or edited.",
        "mv PATH PATH.damaged && appliance install", unreadable).explains(FOLLOWS),
    cause("certificate-missing", "each certificate of the node",
        "The file of a certificate is gone.",
        "appliance install", missing).explains(FOLLOWS),
    cause("key-missing", "the key of each certificate",
        "The private key of a certificate is gone, or others may read it. On a master, restore the key of an authority from a backup.",
        "appliance install", key).explains(FOLLOWS),
    cause("certificate-expires-soon", "each certificate of the node, and the clock",
        "A certificate expires within a week, although the timer renews it much earlier.",
        "appliance install", soon).notice(),
];

/// The certificates of which this is true, in words.
fn each<'a>(
    facts: &'a Facts,
    told: impl Fn(&'a Certificate) -> Option<String> + 'a,
) -> Option<Seen> {
    seen(facts.certificates.iter().filter_map(told))
}

fn authority_expired(facts: &Facts) -> Option<Seen> {
    each(facts, |one| match one.found {
        Held::Valid { not_after, .. } if one.name == AUTHORITY && facts.now > not_after => {
            Some(tr!("{} ended on {}", one.path, not_after.date()))
        }
        _ => None,
    })
}

fn expired(facts: &Facts) -> Option<Seen> {
    each(facts, |one| match one.found {
        Held::Valid { not_after, .. } if one.name != AUTHORITY && facts.now > not_after => {
            Some(tr!("{} ended on {}", one.path, not_after.date()))
        }
        _ => None,
    })
}

fn not_yet(facts: &Facts) -> Option<Seen> {
    each(facts, |one| match one.found {
        Held::Valid { not_before, .. } if facts.now < not_before => Some(tr!(
            "{} begins on {}, and the clock says {}",
            one.path,
            not_before.date(),
            facts.now.date()
        )),
        _ => None,
    })
}

fn foreign(facts: &Facts) -> Option<Seen> {
    each(facts, |one| match one.found {
        Held::Valid { signed: false, .. } => Some(tr!("{} has another authority", one.path)),
        _ => None,
    })
}

fn unreadable(facts: &Facts) -> Option<Seen> {
    let found = each(facts, |one| match &one.found {
        Held::Unreadable(why) => Some(format!("{}: {why}", one.path)),
        _ => None,
    })?;
    let is_bad = |one: &&Certificate| matches!(one.found, Held::Unreadable(_));
    let path = &facts.certificates.iter().find(is_bad)?.path;
    Some(found.mended_by(format!("mv {path} {path}.damaged && appliance install")))
}

fn missing(facts: &Facts) -> Option<Seen> {
    each(facts, |one| {
        (one.found == Held::Missing).then(|| tr!("{} is not there", one.path))
    })
}

fn key(facts: &Facts) -> Option<Seen> {
    each(facts, |one| match &one.found {
        Held::Valid { key, .. } => key.clone(),
        _ => None,
    })
}

fn soon(facts: &Facts) -> Option<Seen> {
    each(facts, |one| match one.found {
        Held::Valid { not_after, .. }
            if facts.now <= not_after && not_after - facts.now < Duration::days(7) =>
        {
            Some(tr!("{} ends on {}", one.path, not_after.date()))
        }
        _ => None,
    })
}
