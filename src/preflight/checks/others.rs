//! Another Kubernetes on the machine, or what is left of one.

use super::shown;
use crate::language::tr;
use crate::preflight::Finding;
use crate::preflight::facts::{Facts, Other};

/// How many paths or chains a message names.
const NAMED: usize = 4;

pub fn kubernetes(facts: &Facts) -> Finding {
    let others = &facts.system.others;
    let Some(first) = others.first() else {
        return Finding::pass(tr!("there is none"));
    };
    let seen: Vec<String> = others
        .iter()
        .map(|Other { name, found, .. }| format!("{name} ({})", some(found)))
        .collect();
    Finding::fail(seen.join("; "), first.remove)
}

pub fn chains(facts: &Facts) -> Finding {
    if facts.installed {
        return Finding::elsewhere(tr!("this node has such chains itself"));
    }
    let Some(firewall) = &facts.firewall else {
        return Finding::elsewhere(tr!("this is not the running system"));
    };
    let mut left: Vec<String> = firewall
        .all()
        .flat_map(|rules| rules.chains.clone())
        .collect();
    left.sort();
    left.dedup();
    match left.is_empty() {
        true => Finding::pass(tr!("none is left")),
        false => Finding::warn(
            tr!("chains of another Kubernetes are left: {}", some(&left)),
            tr!(
                "`reboot` removes them, unless a service restores them: `systemctl status netfilter-persistent`"
            ),
        ),
    }
}

fn some(all: &[String]) -> String {
    let named = shown(&all[..all.len().min(NAMED)].join(", "));
    match all.len().saturating_sub(NAMED) {
        0 => named,
        more => tr!("{named} and {more} more", named, more),
    }
}
