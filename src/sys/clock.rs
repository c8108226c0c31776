//! Times for people.

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
