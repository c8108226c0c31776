//! Takes the time of what a program does, by a clock that nobody corrects.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use time::OffsetDateTime;

/// What began and ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lap {
    /// What it is.
    pub what: String,
    /// When it began, by the machine's clock.
    pub at: OffsetDateTime,
    /// From the start of the watch to its beginning.
    pub begin: Duration,
    /// From the start of the watch to its end.
    pub end: Duration,
}

/// A watch that runs from its creation on.
#[derive(Debug)]
pub struct Stopwatch {
    begun: OffsetDateTime,
    start: Instant,
    laps: Mutex<Vec<Lap>>,
}

impl Stopwatch {
    /// Starts it.
    pub fn start() -> Stopwatch {
        Stopwatch {
            begun: OffsetDateTime::now_utc(),
            start: Instant::now(),
            laps: Mutex::new(Vec::new()),
        }
    }

    /// When it was started, by the machine's clock.
    pub fn begun(&self) -> OffsetDateTime {
        self.begun
    }

    /// How long it has run.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Does `work`, and notes how long that took.
    pub fn time<T>(&self, what: &str, work: impl FnOnce() -> T) -> T {
        let (at, begin) = (OffsetDateTime::now_utc(), self.elapsed());
        let result = work();
        let lap = Lap {
            what: what.to_owned(),
            at,
            begin,
            end: self.elapsed(),
        };
        let mut laps = self.laps.lock().unwrap_or_else(PoisonError::into_inner);
        laps.push(lap);
        result
    }

    /// What was noted so far, in the order of the ends.
    pub fn laps(&self) -> Vec<Lap> {
        let laps = self.laps.lock().unwrap_or_else(PoisonError::into_inner);
        laps.clone()
    }
}
