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

/// Shows a wait, from its creation until it is dropped.
#[derive(Debug)]
pub struct Waiting {
    /// What is waited for now. The thread ends when this is dropped.
    news: Option<Sender<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Waiting {
    /// Begins to show that this program waits for `what`, for `limit` at most, or without limit. Where the
    /// system has no thread for it, nothing is shown, and the wait goes on.
    pub fn new(what: &str, limit: Option<Duration>) -> Waiting {
        let (news, changes) = mpsc::channel();
        let mut wait = Wait {
            what: what.to_owned(),
            limit,
            start: Instant::now(),
        };
        let show = move || match is_living(&io::stderr()) {
            true => wait.live(&changes),
            false => wait.log(&changes),
        };
        Waiting {
            news: Some(news),
            thread: thread::Builder::new().spawn(show).ok(),
        }
    }

    /// Shows at once that this program waits for something else now.
    pub fn changed(&self, what: &str) {
        if let Some(news) = &self.news {
            // Without a thread, nothing is shown.
            drop(news.send(what.to_owned()));
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.news.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked shows nothing any more.
            drop(thread.join());
        }
    }
}

struct Wait {
    what: String,
    limit: Option<Duration>,
    start: Instant,
}

impl Wait {
    fn text(&self, waited: Duration) -> String {
        let limit = match self.limit {
            // The limit was counted from a moment before.
            Some(limit) => format!(" of {}", span(limit + Duration::from_millis(500))),
            None => ", no limit".to_owned(),
        };
        format!("waiting for {} ({}{limit})", self.what, span(waited))
    }

    fn live(&mut self, changes: &Receiver<String>) {
        let mut pause = FIRST;
        let mut line = None;
        while self.goes_on(changes, pause) {
            let line = line.get_or_insert_with(Living::new);
            line.set(&self.text(self.start.elapsed()));
            pause = TICK;
        }
    }

    fn log(&mut self, changes: &Receiver<String>) {
        let mut due = FIRST;
        while self.goes_on(changes, due.saturating_sub(self.start.elapsed())) {
            let waited = self.start.elapsed();
            log::info!("{}", self.text(waited));
            due = next(waited);
        }
    }

    /// Waits until there is something to show; false if the wait is over.
    fn goes_on(&mut self, changes: &Receiver<String>, pause: Duration) -> bool {
        match changes.recv_timeout(pause) {
            Ok(what) => self.what = what,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        true
    }
}

/// When the next line is due, counted from the start, after this time: at full steps.
fn next(waited: Duration) -> Duration {
    let step = if waited < LONG { OFTEN } else { SELDOM };
    let steps = waited.as_secs() / step.as_secs() + 1;
    step * u32::try_from(steps).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(limit: Option<u64>) -> Wait {
        Wait {
            what: "192.0.2.1".to_owned(),
            limit: limit.map(Duration::from_secs),
            start: Instant::now(),
        }
    }

    #[test]
    fn the_line_says_how_long_and_how_long_at_most() {
        let waited = Duration::from_millis(12_700);
        assert_eq!(
            wait(Some(600)).text(waited),
            "waiting for 192.0.2.1 (12 s of 600 s)"
        );
        assert_eq!(
            wait(None).text(waited),
            "waiting for 192.0.2.1 (12 s, no limit)"
        );
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
