//! Checks a cluster as the tutorial does, and its network: a table of small checks over collected
//! facts. [`facts`] collects them, [`workload`] starts pods as probes, and [`serve`] runs in these
//! pods.

use std::fmt::Display;

use schemars::JsonSchema;
use serde::Serialize;

use crate::language::tr;
use crate::records::expected::Expected;

mod ask;
mod between;
mod checks;
pub mod facts;
pub mod probe;
pub mod serve;
pub mod workload;

pub use ask::find_out;

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase", tag = "result")]
pub enum Verdict {
    /// The check passed.
    Passed {
        /// What was found.
        found: String,
    },
    /// The check failed.
    Failed {
        /// What was found.
        found: String,
        /// How to fix it.
        hint: String,
    },
    /// The check could not run, or does not apply.
    Skipped {
        /// Why.
        found: String,
    },
}

impl Verdict {
    pub(crate) fn passed(found: impl Display) -> Verdict {
        Verdict::Passed {
            found: found.to_string(),
        }
    }

    pub(crate) fn failed(found: impl Display, hint: impl Display) -> Verdict {
        Verdict::Failed {
            found: found.to_string(),
            hint: hint.to_string(),
        }
    }

    pub(crate) fn skipped(found: impl Display) -> Verdict {
        Verdict::Skipped {
            found: found.to_string(),
        }
    }

    /// What was found, if the check failed.
    fn reason(&self) -> Option<&str> {
        match self {
            Verdict::Failed { found, .. } => Some(found),
            Verdict::Passed { .. } | Verdict::Skipped { .. } => None,
        }
    }
}

/// One check with its verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Checked {
    /// What was checked.
    pub check: &'static str,
    /// Its result.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// All verdicts, in the order of the table. Of checks that fail for the same reason, such as an API server that does not
/// answer, the first one tells it.
pub fn judge(expected: &Expected, facts: &facts::Facts) -> Vec<Checked> {
    let mut checked: Vec<Checked> = Vec::new();
    for (check, judge) in checks::CHECKS {
        let verdict = judge(expected, facts);
        let reason = verdict.reason();
        let mut before = checked.iter();
        let same = before.find(|one| reason.is_some() && one.verdict.reason() == reason);
        let verdict = match same {
            Some(first) => Verdict::skipped(tr!("the same as {}", first.check)),
            None => verdict,
        };
        checked.push(Checked { check, verdict });
    }
    checked
}

/// Whether no check failed.
pub fn is_sound(checked: &[Checked]) -> bool {
    let failed = |c: &Checked| matches!(c.verdict, Verdict::Failed { .. });
    !checked.iter().any(failed)
}
