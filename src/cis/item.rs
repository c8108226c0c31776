//! One item of the table.

use super::rule::{Place, Rule};
use crate::nodespec::Role;

/// A section of the benchmark.
pub struct Section {
    /// Its number, such as `1.1`.
    pub number: &'static str,
    /// Its subject.
    pub title: &'static str,
    /// Its items.
    pub items: &'static [Item],
}

/// An item of the benchmark.
#[derive(Clone, Copy)]
pub struct Item {
    /// Its number.
    pub number: &'static str,
    /// What is required, in one line.
    pub requires: &'static str,
    /// The level of the benchmark's profile: 1 or 2.
    pub level: u8,
    /// Whether it counts in the benchmark's score.
    pub scored: bool,
    /// The requirement as data.
    pub(super) rule: Rule,
    /// How this product differs on purpose, and why.
    pub(super) differs: Option<(Rule, &'static str)>,
}

impl Item {
    /// A scored item of level 1, which this product fulfils.
    pub(super) const fn new(number: &'static str, requires: &'static str, rule: Rule) -> Item {
        Item {
            number,
            requires,
            level: 1,
            scored: true,
            rule,
            differs: None,
        }
    }

    /// The item as one that is not scored.
    pub(super) const fn unscored(self) -> Item {
        Item {
            scored: false,
            ..self
        }
    }

    /// The item as one of level 2.
    pub(super) const fn second_level(self) -> Item {
        Item { level: 2, ..self }
    }

    /// The item as one that this product does not fulfil, on purpose. `shipped` is what it does instead: any
    /// other difference is a failure.
    pub(super) const fn differs(self, shipped: Rule, why: &'static str) -> Item {
        Item {
            differs: Some((shipped, why)),
            ..self
        }
    }

    /// The files that a verdict on it needs.
    pub fn places(&self) -> Vec<Place> {
        self.rule.places()
    }

    /// Why it does not concern a node of this role; `None` if it does.
    pub(super) fn elsewhere(&self, role: Role) -> Option<String> {
        if self.number.starts_with("1.") && !role.is_master() {
            return Some("it concerns masters, and this node is a worker".to_owned());
        }
        if self.number.starts_with("2.") && !role.is_worker() {
            return Some("it concerns kubelets, and this master has none".to_owned());
        }
        None
    }
}
