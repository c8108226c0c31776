//! Retries work that may succeed later.

use std::time::{Duration, Instant};

use anyhow::Result;
use backon::{BackoffBuilder, ExponentialBuilder};

/// The longest `Retry-After` of a server that is obeyed.
const MAX_PAUSE: Duration = Duration::from_secs(120);

/// How long to wait before the same warning is repeated.
const REPEAT: Duration = Duration::from_secs(60);

/// The minimum time for an attempt.
const LEAST: Duration = Duration::from_secs(1);

/// Why an attempt failed.
#[derive(Debug)]
pub enum Failure {
    /// Another attempt may succeed, after at least this pause.
    Transient(anyhow::Error, Duration),
    /// No other attempt can succeed.
    Permanent(anyhow::Error),
}

impl Failure {
    /// The same failure, with at least this pause before another attempt.
    pub fn after(self, pause: Duration) -> Failure {
        match self {
            Failure::Transient(error, asked_for) => Failure::Transient(error, asked_for.max(pause)),
            Failure::Permanent(error) => Failure::Permanent(error),
        }
    }

    /// The error alone.
    pub fn into_error(self) -> anyhow::Error {
        match self {
            Failure::Transient(error, _) | Failure::Permanent(error) => error,
        }
    }
}

/// A failure after which another attempt may succeed at any time.
pub fn transient(error: impl Into<anyhow::Error>) -> Failure {
    Failure::Transient(error.into(), Duration::ZERO)
}

/// A failure after which no other attempt can succeed.
pub fn permanent(error: impl Into<anyhow::Error>) -> Failure {
    Failure::Permanent(error.into())
}

/// How often, and until when, something is tried.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// How many attempts there are at most.
    pub attempts: usize,
    /// The longest pause between two; the pauses grow from a quarter of a second, with jitter.
    pub max_delay: Duration,
    /// When the last attempt may begin.
    pub deadline: Option<Instant>,
}

impl Schedule {
    /// For servers on the internet.
    pub const PATIENT: Schedule = Schedule {
        attempts: 6,
        max_delay: Duration::from_secs(30),
        deadline: None,
    };

    /// For servers on the internet, if another one has the same.
    pub const BRIEF: Schedule = Schedule {
        attempts: 2,
        max_delay: Duration::from_secs(2),
        deadline: None,
    };

    /// One attempt.
    pub const ONCE: Schedule = Schedule {
        attempts: 1,
        max_delay: Duration::ZERO,
        deadline: None,
    };

    /// Without limit.
    pub fn endless(max_delay: Duration) -> Schedule {
        Schedule {
            attempts: usize::MAX,
            max_delay,
            deadline: None,
        }
    }

    /// As often as fits before `deadline`.
    pub fn until(deadline: Instant, max_delay: Duration) -> Schedule {
        Schedule {
            attempts: usize::MAX,
            max_delay,
            deadline: Some(deadline),
        }
    }

    /// The pauses without regard to the deadline.
    fn delays(&self) -> impl Iterator<Item = Duration> {
        ExponentialBuilder::new()
            .with_jitter()
            .with_min_delay(Duration::from_millis(250))
            .with_max_delay(self.max_delay)
            .with_max_times(self.attempts.saturating_sub(1))
            .build()
    }

    /// How long to wait before an attempt that still has time to succeed: `delay`, or the time that
    /// is left, and at least what the server asked for. `None` if there is not enough time: an
    /// attempt that is cut short would only hide the real cause.
    fn pause(&self, delay: Duration, asked_for: Duration) -> Option<Duration> {
        let asked_for = asked_for.min(MAX_PAUSE);
        let Some(deadline) = self.deadline else {
            return Some(delay.max(asked_for));
        };
        let left = deadline.checked_duration_since(Instant::now() + LEAST)?;
        (asked_for <= left && !left.is_zero()).then(|| delay.min(left).max(asked_for))
    }
}

/// Runs `attempt` until it succeeds, fails permanently, or the schedule ends. The warning about
/// another attempt begins with `what`.
pub fn retried<T>(
    what: &str,
    schedule: Schedule,
    mut attempt: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut delays = schedule.delays();
    let mut said = Said::default();
    loop {
        let (error, after) = match attempt() {
            Err(Failure::Transient(error, after)) => (error, after),
            done => return done,
        };
        let pause = delays.next().and_then(|delay| schedule.pause(delay, after));
        let Some(pause) = pause else {
            return Err(Failure::Transient(error, after));
        };
        said.say(format!("{what}: {error:#}; trying again"));
        std::thread::sleep(pause);
    }
}

/// The last warning, and when it was printed, so that it is not repeated at every attempt.
#[derive(Default)]
struct Said(Option<(String, Instant)>);

impl Said {
    fn say(&mut self, text: String) {
        let again = self.0.as_ref();
        if again.is_some_and(|(said, at)| *said == text && at.elapsed() < REPEAT) {
            return;
        }
        log::warn!("{text}");
        self.0 = Some((text, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_last_pause_leaves_time_for_an_attempt() {
        let schedule = Schedule::until(Instant::now() + 10 * SECOND, 5 * SECOND);
        let pause = schedule.pause(60 * SECOND, Duration::ZERO).unwrap();
        assert!(pause <= 9 * SECOND, "{pause:?}");
        assert_eq!(schedule.pause(SECOND, 3 * SECOND), Some(3 * SECOND));
        assert_eq!(schedule.pause(SECOND, 60 * SECOND), None);
        let over = Schedule::until(Instant::now() + LEAST, SECOND);
        assert_eq!(over.pause(SECOND, Duration::ZERO), None);
    }

    #[test]
    fn without_a_deadline_a_server_is_waited_for_but_not_for_ever() {
        let patient = Schedule::PATIENT;
        assert_eq!(patient.pause(SECOND, 7 * SECOND), Some(7 * SECOND));
        assert_eq!(patient.pause(SECOND, 3600 * SECOND), Some(MAX_PAUSE));
    }

    #[test]
    fn an_endless_schedule_does_not_end_in_days_and_asks_often_enough() {
        let schedule = Schedule::endless(15 * SECOND);
        let mut waited = Duration::ZERO;
        for delay in schedule.delays().take(50_000) {
            let pause = schedule.pause(delay, Duration::ZERO).unwrap();
            assert!(pause <= 30 * SECOND, "{pause:?}");
            waited += pause;
        }
        assert!(waited > 24 * 3600 * SECOND, "{waited:?}");
    }

    #[test]
    fn what_fails_for_good_or_has_had_its_chances_is_not_tried_again() {
        let mut tries = 0;
        let result: Result<(), _> = retried("test", Schedule::PATIENT, || {
            tries += 1;
            Err(permanent(anyhow::anyhow!("no")))
        });
        assert_eq!(result.unwrap_err().into_error().to_string(), "no");
        let once = Schedule {
            attempts: 1,
            ..Schedule::PATIENT
        };
        let result: Result<(), _> = retried("test", once, || {
            tries += 1;
            Err(transient(anyhow::anyhow!("later")))
        });
        assert!(result.is_err());
        assert_eq!(tries, 2);
    }
}
