//! Telling how far long work is: a bar on a terminal, plain lines anywhere else.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// One piece of work that is counted in bytes.
pub trait Progress {
    /// So many bytes more are done.
    fn advance(&self, bytes: u64);
}

/// Nobody watches.
pub struct Silent;

impl Progress for Silent {
    fn advance(&self, _bytes: u64) {}
}

/// Work called `what`, of `total` bytes, shown on standard error in the way that suits it.
pub fn standard_error(what: &str, total: u64) -> Box<dyn Progress> {
    if std::io::stderr().is_terminal() {
        Box::new(Bar::new(what, total))
    } else {
        Box::new(Lines {
            what: what.to_owned(),
            total,
            done: AtomicU64::new(0),
        })
    }
}

struct Bar(ProgressBar);

impl Bar {
    fn new(what: &str, total: u64) -> Bar {
        const FORM: &str = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        let bar = ProgressBar::new(total).with_message(what.to_owned());
        // A form that cannot be read would leave the default one, which is as good.
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
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A line at every tenth of the way.
struct Lines {
    what: String,
    total: u64,
    done: AtomicU64,
}

impl Progress for Lines {
    fn advance(&self, bytes: u64) {
        let before = self.done.fetch_add(bytes, Ordering::Relaxed);
        let tenth = |done: u64| {
            done.saturating_mul(10)
                .checked_div(self.total)
                .unwrap_or(10)
        };
        if tenth(before) < tenth(before + bytes) {
            let (done, total) = (HumanBytes(before + bytes), HumanBytes(self.total));
            log::info!(
                "{}: {}0% ({done} of {total})",
                self.what,
                tenth(before + bytes)
            );
        }
    }
}
