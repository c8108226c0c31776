//! Shows the progress of long work: a bar or a living line on a terminal, plain lines anywhere else.

use std::io::{self, Write};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

use super::terminal::is_living;
use crate::language::{is_hidden, tr};

/// The pause between two changes of a line for work that goes on.
const TICK: Duration = Duration::from_secs(1);
/// The least time between two lines.
const QUIET_MILLISECONDS: u64 = 2000;

/// One piece of work whose progress is counted in bytes.
pub trait Progress: Send + Sync {
    /// This many more bytes are done.
    fn advance(&self, bytes: u64);

    /// This many bytes are done in all, of a total that may be known by now.
    fn set(&self, done: u64, total: Option<u64>);
}

/// Shows nothing.
pub struct Silent;

impl Progress for Silent {
    fn advance(&self, _bytes: u64) {}

    fn set(&self, _done: u64, _total: Option<u64>) {}
}

/// Every bar on the terminal, so that several do not draw over each other.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Shows the progress of `what`, which has `total` bytes (0 if that is not known yet), on standard
/// error: as a bar on a terminal, as plain lines anywhere else.
pub fn standard_error(what: &str, total: u64) -> Box<dyn Progress> {
    if is_living(&io::stderr()) {
        Box::new(Bar::new(what, total))
    } else {
        Box::new(Lines {
            what: what.to_owned(),
            total: AtomicU64::new(total),
            done: AtomicU64::new(0),
            before: AtomicU64::new(0),
            start: Instant::now(),
            quiet_until: AtomicU64::new(QUIET_MILLISECONDS),
        })
    }
}

/// A line at the end of a terminal whose text changes. It is gone when this is dropped.
pub struct Living(ProgressBar);

impl Living {
    /// An empty line.
    pub fn new() -> Living {
        let line = BARS.add(ProgressBar::new_spinner());
        // If the template is invalid, the default one is good enough.
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            line.set_style(style);
        }
        Living(line)
    }

    /// Shows this text instead of the one before.
    pub fn set(&self, text: &str) {
        self.0.set_message(escaped(text));
        self.0.tick();
    }
}

impl Default for Living {
    fn default() -> Living {
        Living::new()
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A line at the end of a terminal for work that goes on, with the time since it began. It is gone when this is dropped.
pub struct Running(ProgressBar);

impl Running {
    /// For work with this name; `None` if standard error is no terminal.
    pub fn new(what: &str) -> Option<Running> {
        let line = Running::with("{spinner} {wide_msg} {elapsed}")?;
        line.set(what);
        line.0.enable_steady_tick(TICK);
        Some(line)
    }

    /// An empty line below all others, without a time; `None` if standard error is no terminal.
    pub fn last() -> Option<Running> {
        Running::with("  {wide_msg}")
    }

    fn with(form: &str) -> Option<Running> {
        if !is_living(&io::stderr()) {
            return None;
        }
        let line = BARS.add(ProgressBar::new_spinner());
        // If the template is invalid, the default one is good enough.
        if let Ok(style) = ProgressStyle::with_template(form) {
            line.set_style(style);
        }
        Some(Running(line))
    }

    /// Shows this text instead of the one before.
    pub fn set(&self, text: &str) {
        self.0.set_message(escaped(text));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// The text with every hidden character escaped, so that it cannot control a terminal, nor look like another text:
/// hostile text may contain any.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if is_hidden(character) {
            escaped.extend(character.escape_debug());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// Prints a line to standard error, above the progress bars, with control characters escaped. A list
/// in it keeps its lines. If standard error is closed, the work continues.
pub fn print_line(line: &str) {
    let lines: Vec<String> = line.split('\n').map(escaped).collect();
    let line = lines.join("\n");
    BARS.suspend(|| drop(writeln!(io::stderr(), "{line}")));
}

struct Bar(ProgressBar);

impl Bar {
    fn new(what: &str, total: u64) -> Bar {
        const FORM: &str =
            "{msg:28!} [{bar:24}] {bytes:>10}/{total_bytes:10} {bytes_per_sec:>12} ETA {eta}";
        let bar = BARS.add(ProgressBar::new(total).with_message(what.to_owned()));
        // If the template is invalid, the default one is good enough.
        if let Ok(style) = ProgressStyle::with_template(FORM) {
            bar.set_style(style.progress_chars("=> "));
        }
        Bar(bar)
    }
}

impl Progress for Bar {
    fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    fn set(&self, done: u64, total: Option<u64>) {
        if let Some(total) = total {
            self.0.set_length(total);
        }
        self.0.set_position(done);
        // The rate is that of this run, without an earlier run's part.
        self.0.reset_eta();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A line at every tenth, but not too often: short work needs none.
struct Lines {
    what: String,
    total: AtomicU64,
    done: AtomicU64,
    /// The part of `done` that was not done since the start.
    before: AtomicU64,
    start: Instant,
    /// Milliseconds from the start.
    quiet_until: AtomicU64,
}

impl Lines {
    fn tenth(&self, done: u64) -> u64 {
        done.saturating_mul(10)
            .checked_div(self.total.load(Ordering::Relaxed))
            .unwrap_or(0)
    }
}

impl Progress for Lines {
    fn advance(&self, bytes: u64) {
        let before = self.done.fetch_add(bytes, Ordering::Relaxed);
        let after = before + bytes;
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let is_due = now >= self.quiet_until.load(Ordering::Relaxed);
        if is_due && self.tenth(before) < self.tenth(after) {
            self.quiet_until
                .store(now.saturating_add(QUIET_MILLISECONDS), Ordering::Relaxed);
            let total = self.total.load(Ordering::Relaxed);
            // The rate is that of this run, without an earlier run's part.
            let here = after.saturating_sub(self.before.load(Ordering::Relaxed));
            let rate = here.saturating_mul(1000) / now.max(1);
            log::info!(
                "{}",
                tr!(
                    "{what}: {tenths}0% ({done} of {total}), {rate}/s, {left} s left",
                    what = self.what,
                    tenths = self.tenth(after),
                    done = HumanBytes(after),
                    total = HumanBytes(total),
                    rate = HumanBytes(rate),
                    left = total.saturating_sub(after) / rate.max(1)
                )
            );
        }
    }

    fn set(&self, done: u64, total: Option<u64>) {
        if let Some(total) = total {
            self.total.store(total, Ordering::Relaxed);
        }
        let before = self.done.swap(done, Ordering::Relaxed);
        self.before
            .fetch_add(done.saturating_sub(before), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(
            escaped("a\u{1b}]0;x\u{7}\r\n\u{9b}b ä"),
            "a\\u{1b}]0;x\\u{7}\\r\\n\\u{9b}b ä"
        );
        assert_eq!(escaped("a\u{202e}b\u{feff}中"), "a\\u{202e}b\\u{feff}中");
    }
}
