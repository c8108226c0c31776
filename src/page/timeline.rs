//! What happened to this node, as far as it is recorded. Each record gives its own events: [`events`] lists the records.

use anyhow::Result;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::observe::records;
use crate::records::backup::{FailedBackup, LastBackup};
use crate::records::restored::{Phase, Restored};
use crate::records::run::Run;
use crate::records::upgrade::{Stage, UpgradeRecord};
use crate::status::Changing;
use crate::sys::root::Root;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it began.
    pub at: OffsetDateTime,
    /// What it is.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum What {
    /// A run is changing the machine.
    Runs {
        /// Its command.
        command: String,
    },
    /// A run ended before it was complete.
    Interrupted {
        /// Its command.
        command: String,
        /// The step at which it ended, from 1.
        step: usize,
        /// How many steps there are.
        of: usize,
        /// The step in words.
        doing: String,
    },
    /// Another bundle, or other settings.
    Upgrade {
        /// What it is, in words.
        words: String,
        /// How far it is.
        stage: Stage,
    },
    /// A backup was made.
    Backup {
        /// Where it is.
        place: String,
    },
    /// A backup could not be made.
    BackupFailed {
        /// The reason.
        why: String,
    },
    /// The cluster was restored from a backup.
    Restored {
        /// Whether it is complete.
        complete: bool,
    },
}

/// The journal of the run that is changing the machine, or that was interrupted. A damaged one tells nothing: the next
/// run writes it anew.
pub fn run(root: &Root) -> Option<Run> {
    records::run(root).ok().flatten()
}

/// What is recorded, the newest first. `changing` is the run that is changing the machine now.
///
/// # Errors
/// If a record is damaged.
pub fn events(root: &Root, changing: Option<&Changing>, run: Option<&Run>) -> Result<Vec<Event>> {
    let mut events: Vec<Event> = under_way(changing, run).into_iter().collect();
    events.extend(records::upgrade(root)?.as_ref().map(of_upgrade));
    events.extend(records::backup(root)?.as_ref().map(of_backup));
    events.extend(records::failed_backup(root)?.as_ref().map(of_failed_backup));
    events.extend(records::restored(root)?.as_ref().map(of_restored));
    events.sort_by_key(|event| std::cmp::Reverse(event.at));
    Ok(events)
}

fn under_way(changing: Option<&Changing>, run: Option<&Run>) -> Option<Event> {
    if let Some(changing) = changing {
        return Some(Event {
            at: OffsetDateTime::parse(&changing.since, &Rfc3339).ok()?,
            what: What::Runs {
                command: changing.command.clone(),
            },
        });
    }
    run.map(|run| Event {
        at: run.at,
        what: What::Interrupted {
            command: run.command.clone(),
            step: run.step,
            of: run.of,
            doing: run.what.clone(),
        },
    })
}

fn of_upgrade(record: &UpgradeRecord) -> Event {
    Event {
        at: record.begun,
        what: What::Upgrade {
            words: record.words(),
            stage: record.stage,
        },
    }
}

fn of_backup(last: &LastBackup) -> Event {
    Event {
        at: last.created,
        what: What::Backup {
            place: last.place.clone(),
        },
    }
}

fn of_failed_backup(failed: &FailedBackup) -> Event {
    Event {
        at: failed.at,
        what: What::BackupFailed {
            why: failed.why.clone(),
        },
    }
}

fn of_restored(record: &Restored) -> Event {
    Event {
        at: record.begun,
        what: What::Restored {
            complete: record.phase == Phase::Placed,
        },
    }
}
