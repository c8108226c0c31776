//! When each step of a bring-up began and ended. Pure.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The times of one run.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// The command, such as `install`.
    pub command: String,
    /// When it began (RFC 3339), by the clock of the machine.
    pub begun: String,
    /// What it did, in the order in which each began.
    pub spans: Vec<Span>,
}

/// What one part of a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// What comes before the first step: reading, checking, asking.
    Before,
    /// A step of the plan.
    Step,
    /// The time from the start of a service until it is healthy.
    Healthy,
}

/// Something that began and ended.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// What it is, in words.
    pub what: String,
    /// What part of the run it is.
    pub part: Part,
    /// The number of the step in the plan, from 1; absent if it is no step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    /// The numbers of the steps that it needed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub needs: BTreeSet<usize>,
    /// When it began (RFC 3339), by the clock of the machine, which may be corrected meanwhile.
    pub at: String,
    /// When it began, in milliseconds since the run began. No correction of the clock changes that.
    pub begin: u64,
    /// When it ended, likewise; `null` if it had not ended when this was written.
    pub end: Option<u64>,
    /// Whether it failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
}

impl Timeline {
    /// The times of a run of `command` that begins at `now`.
    pub fn new(command: &str, now: OffsetDateTime) -> Timeline {
        Timeline {
            command: command.to_owned(),
            begun: written(now),
            spans: Vec::new(),
        }
    }

    /// The milliseconds from the beginning of the run to the last thing that is known of it.
    pub fn total(&self) -> u64 {
        let ends = self.spans.iter().map(|span| span.end.unwrap_or(span.begin));
        ends.max().unwrap_or_default()
    }
}

/// The time as it is recorded (RFC 3339), in seconds.
pub fn written(time: OffsetDateTime) -> String {
    let time = time.replace_nanosecond(0).unwrap_or(time);
    time.format(&Rfc3339).unwrap_or_default()
}
