//! The journal of a run that changes the machine: what was begun, and how far it is. It exists from the first
//! change to the last one. Pure.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::timeline::Timeline;
use crate::language::tr;

/// The command that installs a node.
pub const INSTALL: &str = "install";
/// The command that renews certificates, and continues every rotation of keys.
pub const RENEW: &str = "certs renew";
/// The command that changes the profile of a node.
pub const CONVERT: &str = "convert";
/// The command that makes a node an ordinary machine again.
pub const RESET: &str = "reset";
/// The command that makes a master of a worker: it resets the machine first.
pub const PROMOTE: &str = "node promote";
/// The command that makes a worker of a master: it resets the machine first.
pub const DEMOTE: &str = "node demote";

/// The command that installs another bundle.
pub const UPGRADE: &str = "upgrade";
/// The command that changes the settings of a node.
pub const APPLY: &str = "apply";
/// The command that returns to what was before an upgrade or a change of settings.
pub const ROLLBACK: &str = "rollback";
/// The command that removes old bundles.
pub const PRUNE: &str = "prune";

/// A run that has begun to change the machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// The command, such as `install`.
    pub command: String,
    /// When its first step began.
    #[serde(with = "time::serde::rfc3339")]
    pub begun: OffsetDateTime,
    /// When the step under way began.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The number of the first step under way, from 1. The steps before it are done, unless one of them failed and this
    /// one does not need it.
    pub step: usize,
    /// How many steps there are.
    pub of: usize,
    /// The step under way, in words.
    pub what: String,
    /// The process that runs it.
    pub process: Option<ProcessId>,
    /// The last copy of data and keys that a reset has made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<LastCopy>,
    /// When its steps began and ended, if that is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<Timeline>,
}

/// The last copy of data and keys, before a reset removes them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct LastCopy {
    /// The archive.
    pub path: String,
    /// The directories in it.
    pub of: Vec<String>,
}

/// A process, told apart from all others, also after a boot.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ProcessId {
    /// Its number.
    pub id: i32,
    /// When it began, in the kernel's ticks since the boot.
    pub began: u64,
    /// The identifier of the boot.
    pub boot: String,
}

impl Run {
    /// Whether it makes the machine an ordinary one.
    pub fn ends_node(&self) -> bool {
        [RESET, PROMOTE, DEMOTE].contains(&self.command.as_str())
    }

    /// What to tell about this run at the time `now`, if it was interrupted.
    pub fn told(&self, now: OffsetDateTime) -> String {
        let Run {
            command,
            step,
            of,
            what,
            ..
        } = self;
        let ago = ago((now - self.at).whole_seconds());
        let next = match command.as_str() {
            // The program on the node may be the one before the upgrade.
            UPGRADE => {
                tr!(
                    "run it again with the appliance of the new version, or go back: `appliance rollback`"
                )
            }
            APPLY => {
                tr!(
                    "run it again with the same file: `appliance apply FILE`, or go back: `appliance rollback`"
                )
            }
            _ => tr!("run it again: `appliance {command}`", command),
        };
        tr!(
            "{command} was interrupted {ago} at step {step} of {of} ({what}); {next}",
            command,
            ago,
            step,
            of,
            what,
            next
        )
    }
}

/// How long ago, in the largest unit that fits.
fn ago(seconds: i64) -> String {
    match seconds.unsigned_abs() {
        _ if seconds < 60 => tr!("just now"),
        seconds @ ..3600 => tr!("1 minute ago" | "{n} minutes ago" % seconds / 60),
        seconds @ ..86_400 => tr!("1 hour ago" | "{n} hours ago" % seconds / 3600),
        seconds => tr!("1 day ago" | "{n} days ago" % seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use time::Duration;

    use super::*;

    fn run(at: OffsetDateTime) -> Run {
        Run {
            command: "install".to_owned(),
            begun: at,
            at,
            step: 41,
            of: 91,
            what: "start etcd".to_owned(),
            process: None,
            copy: None,
            times: None,
        }
    }

    #[test]
    fn an_interrupted_run_is_told_with_its_step_and_the_next_command() {
        let at = OffsetDateTime::UNIX_EPOCH;
        assert_eq!(
            run(at).told(at + Duration::seconds(200)),
            "install was interrupted 3 minutes ago at step 41 of 91 (start etcd); run it again: \
             `appliance install`"
        );
        for (seconds, expected) in [
            // The clock may have been set back.
            (-5, "just now"),
            (3599, "59 minutes ago"),
            (3600, "1 hour ago"),
            (200_000, "2 days ago"),
        ] {
            assert_eq!(ago(seconds), expected);
        }
    }

    #[test]
    fn a_journal_is_read_as_it_was_written() {
        let run = run(OffsetDateTime::UNIX_EPOCH);
        let text = serde_json::to_string(&run).unwrap();
        assert_eq!(serde_json::from_str::<Run>(&text).unwrap(), run);
    }
}
