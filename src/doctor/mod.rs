//! From symptoms to causes: a table of known faults over [`facts`] that were read once. Pure:
//! [`crate::observe::doctor`] reads.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use crate::language::tr;

mod document;
pub mod facts;
mod faults;
#[cfg(test)]
mod tests;

pub use document::document;
use facts::{Facts, Unread};

/// How much a fault matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Something does not work because of it.
    Cause,
    /// Everything may still work; look at it.
    Notice,
}

/// What was seen of a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    what: String,
    /// The command that mends it here, if it is not that of the table.
    command: Option<String>,
    /// Whether the facts leave another cause possible.
    likely: bool,
}

impl Seen {
    /// What was seen, in words.
    pub(crate) fn of(what: impl Into<String>) -> Seen {
        Seen {
            what: what.into(),
            command: None,
            likely: false,
        }
    }

    /// The same, mended by this command.
    pub(crate) fn mended_by(self, command: impl Into<String>) -> Seen {
        Seen {
            command: Some(command.into()),
            ..self
        }
    }

    /// The same, if another cause is possible.
    pub(crate) fn likely(self) -> Seen {
        Seen {
            likely: true,
            ..self
        }
    }
}

/// The things that were seen, in one sentence; `None` if there are none.
pub(crate) fn seen(things: impl IntoIterator<Item = String>) -> Option<Seen> {
    const MOST: usize = 5;
    let things: Vec<String> = things.into_iter().collect();
    let first = things.first()?;
    let more = things.len().saturating_sub(MOST);
    let told = things[1..].iter().take(MOST - 1);
    let mut text = told.fold(first.clone(), |all, one| format!("{all}; {one}"));
    if more > 0 {
        text += &tr!("; and {more} more", more);
    }
    Some(Seen::of(text))
}

/// A known fault.
pub struct Fault {
    /// Its name. Names do not change.
    pub name: &'static str,
    /// How much it matters.
    pub level: Level,
    /// What is looked at.
    pub looks_at: &'static str,
    /// The cause, in one or two sentences.
    pub cause: &'static str,
    /// The command that mends it. Words in capitals stand for what is seen.
    pub command: &'static str,
    /// The faults that follow from it.
    pub explains: &'static [&'static str],
    judge: fn(&Facts) -> Option<Seen>,
}

/// Every known fault, with the heading of its family, in the order of the document.
pub fn families() -> impl Iterator<Item = (&'static str, &'static [Fault])> {
    faults::FAMILIES.iter().copied()
}

/// Every known fault.
pub fn known() -> impl Iterator<Item = &'static Fault> {
    families().flat_map(|(_, faults)| faults)
}

/// A fault that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Found {
    /// Its name. Names do not change.
    pub name: &'static str,
    /// How much it matters.
    pub level: Level,
    /// Whether the facts leave another cause possible.
    pub likely: bool,
    /// What was seen.
    pub seen: String,
    /// The cause, in one or two sentences.
    pub cause: &'static str,
    /// The command that mends it.
    pub command: String,
    /// What else was found, and follows from it.
    pub follows: Vec<Follower>,
}

/// A fault that follows from another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Follower {
    /// Its name.
    pub name: &'static str,
    /// What was seen.
    pub seen: String,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Diagnosis {
    /// The name of the node; `null` if no installation has completed.
    pub node: Option<String>,
    /// Its role.
    pub role: Option<String>,
    /// Whether no cause was found. There may be notices.
    pub sound: bool,
    /// Causes, then notices. What follows from one is told there only.
    pub found: Vec<Found>,
    /// What could not be looked at.
    pub unread: Vec<Unread>,
    /// How many faults are known.
    pub known: usize,
}

/// Compares the facts with all known faults.
pub fn diagnose(facts: &Facts) -> Diagnosis {
    let seen: Vec<(&Fault, Seen)> = known()
        .filter_map(|fault| Some((fault, (fault.judge)(facts)?)))
        .collect();
    let below = below(&seen);
    let follows: BTreeSet<&str> = below.values().flatten().copied().collect();
    let mut found: Vec<Found> = seen
        .iter()
        .filter(|(fault, _)| !follows.contains(fault.name))
        .map(|(fault, one)| Found {
            name: fault.name,
            level: fault.level,
            likely: one.likely,
            seen: one.what.clone(),
            cause: fault.cause,
            command: one.command.clone().unwrap_or(fault.command.to_owned()),
            follows: followers(&seen, &below[fault.name]),
        })
        .collect();
    // Those that explain more come first; the order is else that of the table.
    found.sort_by_key(|one| (one.level, std::cmp::Reverse(one.follows.len())));
    let node = facts.node.as_ref();
    Diagnosis {
        node: node.map(|node| node.name.clone()),
        role: node.map(|node| node.shape.role.to_string()),
        sound: found.iter().all(|one| one.level == Level::Notice),
        found,
        unread: facts.unread.clone(),
        known: known().count(),
    }
}

/// For each fault that was seen, those that follow from it, directly or through others that were seen.
fn below<'a>(seen: &[(&'a Fault, Seen)]) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let by_name: BTreeMap<&str, &Fault> =
        seen.iter().map(|(fault, _)| (fault.name, *fault)).collect();
    let mut all = BTreeMap::new();
    for (fault, _) in seen {
        let mut reached = BTreeSet::new();
        let mut waiting = vec![*fault];
        while let Some(one) = waiting.pop() {
            for next in one.explains.iter().filter_map(|name| by_name.get(name)) {
                if reached.insert(next.name) {
                    waiting.push(next);
                }
            }
        }
        all.insert(fault.name, reached);
    }
    all
}

fn followers(seen: &[(&Fault, Seen)], names: &BTreeSet<&str>) -> Vec<Follower> {
    let below = seen.iter().filter(|(fault, _)| names.contains(fault.name));
    below
        .map(|(fault, one)| Follower {
            name: fault.name,
            seen: one.what.clone(),
        })
        .collect()
}
