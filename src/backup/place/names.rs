//! The names of backups.

use time::format_description::FormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

/// The time in a name, in UTC.
const STAMP: &[FormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");
/// The end of each name.
const END: &str = ".age";
/// The start of each name.
const START: &str = "appliance-";
/// How long a time is in a name.
const STAMP_LENGTH: usize = 16;
/// How many digits of the cluster's identifier are in a name.
const DIGITS: usize = 8;

/// The names of the backups that one master makes of one cluster: `appliance-CLUSTER-MASTER-TIME.age`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names(String);

impl Names {
    /// Those of the master `node`. `authority` is SHA-256 of the certificates of the cluster's authority.
    pub fn of(authority: &[String], node: &str) -> Names {
        let cluster: String = authority
            .first()
            .map_or("", String::as_str)
            .chars()
            .take(DIGITS)
            .collect();
        Names(format!("{START}{cluster}-{node}-"))
    }

    /// The name of the backup that is begun at that time.
    pub fn at(&self, time: OffsetDateTime) -> String {
        let utc = time.to_offset(time::UtcOffset::UTC);
        // Writing to text does not fail.
        let stamp = utc.format(STAMP).unwrap_or_default();
        format!("{}{stamp}{END}", self.0)
    }

    /// When the backup of that name was begun; `None` if it is no such name.
    pub fn time(&self, name: &str) -> Option<OffsetDateTime> {
        let stamp = name.strip_prefix(&self.0)?.strip_suffix(END)?;
        let time = PrimitiveDateTime::parse(stamp, STAMP).ok()?.assume_utc();
        (self.at(time) == name).then_some(time)
    }

    /// What all of them begin with.
    pub(super) fn start(&self) -> &str {
        &self.0
    }
}

/// What the names of all backups begin with, of every cluster and master.
pub(super) const ANY: &str = START;

/// When the backup of that name was begun, whichever master made it; `None` if it is no such name.
pub(super) fn time_of_any(name: &str) -> Option<OffsetDateTime> {
    let before = name.len().checked_sub(STAMP_LENGTH + END.len())?;
    let start = name.get(..before)?;
    let (cluster, node) = start
        .strip_prefix(START)?
        .strip_suffix('-')?
        .split_once('-')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    let is_one = cluster.len() == DIGITS
        && cluster.bytes().all(|byte| byte.is_ascii_hexdigit())
        && !node.is_empty()
        && node.bytes().all(plain);
    is_one.then(|| Names(start.to_owned()).time(name)).flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-30 08:15:09 +1);

    fn names(node: &str) -> Names {
        Names::of(&["0123456789abcdef".to_owned()], node)
    }

    #[test]
    fn a_name_tells_the_cluster_the_master_and_the_time() {
        let names = names("server02");
        let name = names.at(NOW);
        assert_eq!(name, "appliance-01234567-server02-20261130T071509Z.age");
        assert_eq!(names.time(&name), Some(NOW));
        assert_eq!(time_of_any(&name), Some(NOW));
        for other in [
            "appliance-01234567-server02-20261130T071509Z.age.gz",
            "appliance-01234567-server02-20261130T071509.age",
            "appliance-01234567-server02-20261330T071509Z.age",
            "appliance-01234567-server02-x-20261130T071509Z.age",
            "appliance-01234567-server020-20261130T071509Z.age",
            "appliance-11234567-server02-20261130T071509Z.age",
            "notes.txt",
        ] {
            assert_eq!(names.time(other), None, "{other}");
        }
    }

    #[test]
    fn a_name_of_another_master_is_known_and_nothing_else() {
        let stamp = "20261130T071509Z.age";
        for name in [
            "appliance-01234567-m-1.example.org-",
            "appliance-0123abcd-a-",
        ] {
            assert!(time_of_any(&format!("{name}{stamp}")).is_some(), "{name}");
        }
        for name in [
            "",
            "appliance-",
            "appliance-0123456-a-",
            "appliance-0123456z-a-",
            "appliance-01234567--",
            "appliance-01234567-a",
            "appliance-01234567-../a-",
            "appliance-01234567-ä-",
        ] {
            assert_eq!(time_of_any(&format!("{name}{stamp}")), None, "{name}");
        }
    }
}
