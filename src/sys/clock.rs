//! Times for people.

use std::time::Duration;

use time::{OffsetDateTime, UtcOffset};

/// What to do about a clock that is wrong.
pub const CORRECT: &str = "correct the clock that is wrong: `timedatectl set-ntp true`, or \
                          `timedatectl set-time 'YYYY-MM-DD hh:mm:ss'`";

/// A time to the minute, in UTC.
pub fn moment(time: OffsetDateTime) -> String {
    let time = time.to_offset(UtcOffset::UTC);
    format!(
        "{} {:02}:{:02} UTC",
        time.date(),
        time.hour(),
        time.minute()
    )
}

/// A span of time: in seconds below an hour, else in hours and minutes.
pub fn span(time: Duration) -> String {
    const HOUR: u64 = 3600;
    let seconds = time.as_secs();
    match (seconds / HOUR, seconds % HOUR / 60) {
        (0, _) => format!("{seconds} s"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_short_and_has_units() {
        let of = |seconds| span(Duration::from_secs(seconds));
        assert_eq!(of(600), "600 s");
        assert_eq!(of(3600), "1 h");
        assert_eq!(of(5 * 3600 + 90), "5 h 1 min");
    }
}
