//! Messages for people on standard error: plain lines, as the journal wants them.

use log::{LevelFilter, Log, Metadata, Record};

use crate::sys::progress;

struct Lines;

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("appliance")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        match record.level() {
            log::Level::Error | log::Level::Warn => {
                progress::print_line(&format!("warning: {}", record.args()));
            }
            _ => progress::print_line(&record.args().to_string()),
        }
    }

    fn flush(&self) {}
}

/// Starts to print messages: progress and warnings always, details if `verbose`.
pub fn start(verbose: bool) {
    let level = if verbose {
        LevelFilter::Debug
    } else {
        LevelFilter::Info
    };
    // Only a second logger in one process can fail here, and there is none.
    if log::set_logger(&Lines).is_ok() {
        log::set_max_level(level);
    }
}
