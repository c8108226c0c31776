//! Says what this program waits for, since when and how long: a living line on a terminal, now and then a
//! line anywhere else.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::clock::span;
use super::progress::Living;
use super::retry::{Failure, Schedule, retried};
use super::terminal::is_living;
use crate::language::tr;

/// A wait that is shorter is not told.
const FIRST: Duration = Duration::from_millis(500);
/// The pause between two changes of the living line.
const TICK: Duration = Duration::from_secs(1);
/// The pause between two lines of a log.
const OFTEN: Duration = Duration::from_secs(10);
/// That pause in a long wait.
const SELDOM: Duration = Duration::from_secs(60);
/// A wait is long after this time.
const LONG: Duration = Duration::from_secs(120);

/// Waits for `what`, for `limit` at most, and shows it: does `attempt` until it succeeds, with pauses of up to `pause`.
///
/// # Errors
/// That of the last attempt, or of one after which no other can succeed.
pub fn awaited<T>(
    what: &str,
    limit: Duration,
    pause: Duration,
    attempt: impl FnMut() -> Result<T, Failure>,
) -> Result<T> {
    let schedule = Schedule::until(Instant::now() + limit, pause);
    let _waiting = Waiting::new(what, Some(limit));
    retried(&format!("waiting for {what}"), schedule, attempt).map_err(Failure::into_error)
}

/// Whether a text is shown until the next one, or printed for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// The next text takes its place.
    Living,
    /// It stays.
    Printed,
}

/// Shows a wait, from its creation until it is dropped.
#[derive(Debug)]
pub struct Waiting {
    /// Nothing is sent. The thread ends when this is dropped.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Waiting {
    /// Begins to show that this program waits for `what`, for `limit` at most, or without limit. Where the
    /// system has no thread for it, nothing is shown, and the wait goes on.
    pub fn new(what: &str, limit: Option<Duration>) -> Waiting {
        let start = Instant::now();
        let what = what.to_owned();
        let tell = move |_| text(&what, start.elapsed(), limit);
        Waiting::begin(Wait {
            tell: Box::new(tell),
            start,
            next,
        })
    }

    /// Begins to show what `tell` says of a wait: in a log, every ten seconds as long as it takes.
    pub fn telling(tell: impl FnMut(Said) -> String + Send + 'static) -> Waiting {
        Waiting::begin(Wait {
            tell: Box::new(tell),
            start: Instant::now(),
            next: |waited| after(waited, OFTEN),
        })
    }

    fn begin(mut wait: Wait) -> Waiting {
        let (end, ended) = mpsc::channel();
        let show = move || match is_living(&io::stderr()) {
            true => wait.live(&ended),
            false => wait.log(&ended),
        };
        Waiting {
            end: Some(end),
            thread: thread::Builder::new().spawn(show).ok(),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked shows nothing any more.
            drop(thread.join());
        }
    }
}

struct Wait {
    tell: Box<dyn FnMut(Said) -> String + Send>,
    start: Instant,
    /// When the next line of a log is due, counted from the start, after this time.
    next: fn(Duration) -> Duration,
}

impl Wait {
    fn live(&mut self, ended: &Receiver<()>) {
        let mut pause = FIRST;
        let mut line = None;
        while goes_on(ended, pause) {
            let line = line.get_or_insert_with(Living::new);
            line.set(&(self.tell)(Said::Living));
            pause = TICK;
        }
    }

    fn log(&mut self, ended: &Receiver<()>) {
        let mut due = FIRST;
        while goes_on(ended, due.saturating_sub(self.start.elapsed())) {
            log::info!("{}", (self.tell)(Said::Printed));
            due = (self.next)(self.start.elapsed());
        }
    }
}

/// Waits until there is something to show; false if the wait is over.
fn goes_on(ended: &Receiver<()>, pause: Duration) -> bool {
    ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout)
}

fn text(what: &str, waited: Duration, limit: Option<Duration>) -> String {
    let limit = match limit {
        // The limit was counted from a moment before.
        Some(limit) => tr!(" of {}", span(limit + Duration::from_millis(500))),
        None => tr!(", no limit"),
    };
    tr!("waiting for {what} ({}{limit})", span(waited), what, limit)
}

/// When the next line is due, counted from the start, after this time: often at first.
fn next(waited: Duration) -> Duration {
    after(waited, if waited < LONG { OFTEN } else { SELDOM })
}

/// The next full step after this time.
fn after(waited: Duration, step: Duration) -> Duration {
    let steps = waited.as_secs() / step.as_secs() + 1;
    step * u32::try_from(steps).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_long_and_how_long_at_most() {
        let waited = Duration::from_millis(12_700);
        let of = |limit: Option<u64>| text("192.0.2.1", waited, limit.map(Duration::from_secs));
        assert_eq!(of(Some(600)), "waiting for 192.0.2.1 (12 s of 600 s)");
        assert_eq!(of(None), "waiting for 192.0.2.1 (12 s, no limit)");
    }

    #[test]
    fn a_log_gets_a_line_every_ten_seconds_and_then_every_minute() {
        let mut due = vec![FIRST];
        while due.len() < 17 {
            due.push(next(due[due.len() - 1]));
        }
        let seconds: Vec<u64> = due.iter().map(Duration::as_secs).collect();
        assert_eq!(
            seconds,
            [
                0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 180, 240, 300, 360
            ]
        );
    }
}
