//! How old the last backup of this master is.

use std::time::Duration;

use anyhow::Result;
use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;

use crate::language::tr;
use crate::observe::records;
use crate::records::backup::{FailedBackup, LastBackup};
use crate::sys::clock::{moment, span};
use crate::sys::root::Root;

/// The backups of this master, if it makes some by itself or has made one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupReport {
    /// The last one that was made.
    pub last: Option<LastBackup>,
    /// Why the last one by the timer failed; `null` if it did not.
    pub failed: Option<FailedBackup>,
    /// How often one should be made, in seconds; `null` if none is made by itself.
    pub every: Option<u64>,
    /// What is wrong with it. The node may be healthy.
    pub problem: Option<String>,
}

/// Reads the record of the last backup, and judges its age at `now`. `None` if there is neither a record nor a schedule.
pub fn read(root: &Root, now: OffsetDateTime) -> Result<Option<BackupReport>> {
    let last = records::backup(root)?;
    let every = records::backup_schedule(root)?.and_then(|schedule| schedule.every);
    if last.is_none() && every.is_none() {
        return Ok(None);
    }
    let since = records::scheduled_since(root)?;
    let failed = records::failed_backup(root)?;
    let problem =
        every.and_then(|every| problem(last.as_ref(), failed.as_ref(), since, every, now));
    Ok(Some(BackupReport {
        last,
        failed,
        every,
        problem,
    }))
}

/// What is wrong, if one should be made every that many seconds. Before the first one, the age is that of the schedule.
fn problem(
    last: Option<&LastBackup>,
    failed: Option<&FailedBackup>,
    scheduled: Option<OffsetDateTime>,
    every: u64,
    now: OffsetDateTime,
) -> Option<String> {
    let since = last.map(|last| last.created).or(scheduled)?;
    let age = u64::try_from((now - since).whole_seconds()).unwrap_or(0);
    if age <= every.saturating_mul(2) {
        return None;
    }
    let wanted = span(Duration::from_secs(every));
    let why = failed.map_or(String::new(), |failed| {
        tr!(
            " (the attempt at {} failed: {})",
            moment(failed.at),
            failed.why
        )
    });
    Some(match last {
        Some(last) => tr!(
            "the last backup is of {}, although one should be made every {wanted}{why}; see `journalctl -u appliance-backup`, and make one: `appliance backup`",
            moment(last.created),
            wanted,
            why
        ),
        None => {
            tr!(
                "no backup was made yet, although one should be made every {wanted}{why}; see `journalctl -u appliance-backup`, and make one: `appliance backup`",
                wanted,
                why
            )
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::digest::Sha256;

    #[test]
    fn a_backup_is_too_old_after_twice_the_time_between_two() {
        let at = |hours: i64| OffsetDateTime::UNIX_EPOCH + time::Duration::hours(hours);
        let last = LastBackup {
            created: at(0),
            place: "/srv/a".to_owned(),
            bytes: 1,
            sha256: Sha256::of(b""),
            revision: 1,
        };
        let failed = FailedBackup {
            at: at(6),
            why: "no room".to_owned(),
        };
        let told = |hours| problem(Some(&last), Some(&failed), None, 6 * 3600, at(hours));
        assert_eq!(told(12), None);
        // The clock may have been set back.
        assert_eq!(told(-5), None);
        let told = told(13).unwrap();
        assert!(
            told.contains("every 6 h") && told.contains("no room"),
            "{told}"
        );
        let first = |failed, hours| problem(None, failed, Some(at(0)), 3600, at(hours));
        assert_eq!(problem(None, None, None, 3600, at(99)), None);
        assert_eq!(first(None, 2), None);
        assert!(first(None, 3).unwrap().contains("no backup"));
        let told = first(Some(&failed), 7).unwrap();
        assert!(
            told.contains("no backup") && told.contains("no room"),
            "{told}"
        );
    }
}
