//! Times for people.

use std::time::Duration;

use chrono::{DateTime, Local, Offset, TimeZone};
use time::{OffsetDateTime, UtcOffset};

use crate::language::tr;

/// What to do about a clock that is wrong.
pub const CORRECT: &str = "correct the clock that is wrong: `timedatectl set-ntp true`, or \
                          `timedatectl set-time 'YYYY-MM-DD hh:mm:ss'`";

/// A time to the minute, in this machine's time zone, with its offset from UTC: `2026-11-30 09:15 +01:00`. The zone is
/// that of the variable `TZ`, else that of `/etc/localtime`, else UTC.
pub fn moment(time: OffsetDateTime) -> String {
    let time = time.to_offset(offset(time));
    let (hours, minutes, _) = time.offset().as_hms();
    let sign = if time.offset().is_negative() {
        '-'
    } else {
        '+'
    };
    format!(
        "{} {:02}:{:02} {sign}{:02}:{:02}",
        time.date(),
        time.hour(),
        time.minute(),
        hours.unsigned_abs(),
        minutes.unsigned_abs()
    )
}

/// The offset of this machine's time zone at that time.
fn offset(time: OffsetDateTime) -> UtcOffset {
    let at = DateTime::from_timestamp(time.unix_timestamp(), 0);
    let seconds = at.map(|at| {
        Local
            .offset_from_utc_datetime(&at.naive_utc())
            .fix()
            .local_minus_utc()
    });
    let offset = seconds.and_then(|seconds| UtcOffset::from_whole_seconds(seconds).ok());
    offset.unwrap_or(UtcOffset::UTC)
}

/// A span of time: in seconds below an hour, else in hours and minutes.
pub fn span(time: Duration) -> String {
    const HOUR: u64 = 3600;
    let seconds = time.as_secs();
    match (seconds / HOUR, seconds % HOUR / 60) {
        (0, _) => tr!("{seconds} s", seconds),
        (hours, 0) => tr!("{hours} h", hours),
        (hours, minutes) => tr!("{hours} h {minutes} min", hours, minutes),
    }
}

/// An age in one unit, for a short line: `12 s`, `2 min`, `3 h`, `4 days`.
pub fn age(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => tr!("{seconds} s", seconds),
        seconds @ 120..7200 => tr!("{} min", seconds / 60),
        seconds @ 7200..172_800 => tr!("{} h", seconds / 3600),
        seconds => tr!("{} days", seconds / 86_400),
    }
}

/// The present time to the second, in UTC, as a part of the name of a file.
pub fn stamp() -> String {
    let now = OffsetDateTime::now_utc();
    let (hour, minute, second) = now.to_hms();
    format!("{}-{hour:02}{minute:02}{second:02}", now.date())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_one_unit() {
        let of = |seconds| age(Duration::from_secs(seconds));
        assert_eq!(of(119), "119 s");
        assert_eq!(of(150), "2 min");
        assert_eq!(of(47 * 3600), "47 h");
        assert_eq!(of(48 * 3600), "2 days");
    }

    #[test]
    fn a_span_is_short_and_has_units() {
        let of = |seconds| span(Duration::from_secs(seconds));
        assert_eq!(of(600), "600 s");
        assert_eq!(of(3600), "1 h");
        assert_eq!(of(5 * 3600 + 90), "5 h 1 min");
    }
}
