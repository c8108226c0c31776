//! The CIS Kubernetes Benchmark: a table of its items, and the verdict on each, from what was read on a node.
//! [`crate::observe::cis`] reads. Pure.
//!
//! The table follows version 1.2.0 (for Kubernetes 1.8), with section 1.7 of version 1.3.0. Kubernetes v1.9 is
//! between the two.

use schemars::JsonSchema;
use serde::Serialize;

mod document;
pub mod facts;
mod flags;
mod item;
mod rule;
mod table;
#[cfg(test)]
mod tests;

pub use document::document;
pub use flags::{CommandLine, Source};
pub use item::{Item, Section};
pub use rule::Place;

use facts::Facts;
use rule::Finding;

/// The benchmark, as reports name it.
pub const BENCHMARK: &str = "CIS Kubernetes Benchmark 1.2.0, with section 1.7 of 1.3.0";

/// The result of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is as required.
    Pass,
    /// It is not as required, and nobody wants that.
    Fail,
    /// It is not as required, on purpose.
    Differs,
    /// A person must look.
    Manual,
    /// It concerns something that this node does not have.
    NotApplicable,
}

impl Verdict {
    /// All results, in the order of summaries.
    pub const ALL: [Verdict; 5] = [
        Verdict::Pass,
        Verdict::Fail,
        Verdict::Differs,
        Verdict::Manual,
        Verdict::NotApplicable,
    ];

    /// The result in words.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail => "FAIL",
            Verdict::Differs => "differs on purpose",
            Verdict::Manual => "manual",
            Verdict::NotApplicable => "not applicable",
        }
    }
}

/// An item with its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Judged {
    /// The number in the benchmark.
    pub item: &'static str,
    /// What is required.
    pub requires: &'static str,
    /// The level of the benchmark's profile: 1 or 2.
    pub level: u8,
    /// Whether it counts in the benchmark's score.
    pub scored: bool,
    /// What is read.
    pub reads: String,
    /// The result.
    pub result: Verdict,
    /// What was found; empty if nothing was read.
    pub found: String,
    /// Why it is not applicable or differs, or what a person must do; empty otherwise.
    pub why: String,
}

/// Every item of the table, in the order of the benchmark.
pub fn items() -> impl Iterator<Item = &'static Item> {
    table::SECTIONS
        .iter()
        .flat_map(|section| section.items.iter())
}

/// Every section of the table.
pub fn sections() -> &'static [Section] {
    table::SECTIONS
}

/// The verdict on every item.
pub fn judge(facts: &Facts) -> Vec<Judged> {
    items().map(|item| judge_one(item, facts)).collect()
}

fn judge_one(item: &Item, facts: &Facts) -> Judged {
    let (result, found, why) = verdict(item, facts);
    Judged {
        item: item.number,
        requires: item.requires,
        level: item.level,
        scored: item.scored,
        reads: item.rule.reads(),
        result,
        found,
        why,
    }
}

/// The result, what was found, and why.
fn verdict(item: &Item, facts: &Facts) -> (Verdict, String, String) {
    if let Some(why) = item.elsewhere(facts.role) {
        return (Verdict::NotApplicable, String::new(), why);
    }
    match item.rule.judge(facts) {
        Finding::Met(found) => (Verdict::Pass, found, String::new()),
        Finding::Absent(why) => (Verdict::NotApplicable, String::new(), why),
        Finding::AskPerson(why) => (Verdict::Manual, String::new(), why),
        Finding::Unmet(found) => match &item.differs {
            // A difference is on purpose only if it is the one that this product makes.
            Some((shipped, why)) if matches!(shipped.judge(facts), Finding::Met(_)) => {
                (Verdict::Differs, found, (*why).to_owned())
            }
            _ => (Verdict::Fail, found, String::new()),
        },
    }
}

/// How many items have this result.
pub fn count(judged: &[Judged], result: Verdict) -> usize {
    judged.iter().filter(|one| one.result == result).count()
}

/// Whether no item failed.
pub fn is_sound(judged: &[Judged]) -> bool {
    count(judged, Verdict::Fail) == 0
}
