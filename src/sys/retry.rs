//! Trying again what may succeed later.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use backon::{BlockingRetryable, ExponentialBuilder};

/// The longest a server's `Retry-After` is honoured.
const MAX_PAUSE: Duration = Duration::from_secs(120);

/// Why an attempt failed.
#[derive(Debug)]
pub enum Failure {
    /// Another attempt may succeed, after at least so long.
    Transient(anyhow::Error, Duration),
    /// No other attempt will.
    Permanent(anyhow::Error),
}

impl Failure {
    /// The error, for whoever gives up.
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

/// A failure after which none will.
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

    /// As often as fits before `deadline`.
    pub fn until(deadline: Instant, max_delay: Duration) -> Schedule {
        Schedule {
            attempts: usize::MAX,
            max_delay,
            deadline: Some(deadline),
        }
    }

    /// Whether an attempt after such a pause would still be in time.
    fn allows(&self, pause: Duration) -> bool {
        self.deadline
            .is_none_or(|deadline| Instant::now() + pause < deadline)
    }
}

/// Runs `attempt` until it succeeds, fails for good, or has had its chances; `what` is named
/// in the line that tells of another try.
pub fn retried<T>(
    what: &str,
    schedule: Schedule,
    attempt: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let asked_for = Rc::new(Cell::new(Duration::ZERO));
    let pause = Rc::clone(&asked_for);
    let backoff = ExponentialBuilder::new()
        .with_jitter()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(schedule.max_delay)
        .with_max_times(schedule.attempts.saturating_sub(1));
    attempt
        .retry(backoff)
        .sleep(move |delay: Duration| std::thread::sleep(delay.max(pause.get())))
        .when(|failure| match failure {
            Failure::Transient(_, after) => schedule.allows(*after),
            Failure::Permanent(_) => false,
        })
        .notify(|failure, _| {
            if let Failure::Transient(error, after) = failure {
                asked_for.set((*after).min(MAX_PAUSE));
                log::warn!("{what}: {error:#}; trying again");
            }
        })
        .call()
}
