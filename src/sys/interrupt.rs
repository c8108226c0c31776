//! Signals that end this process, which cleans up first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};

/// Whether this process got a signal to end (SIGINT, SIGTERM or SIGHUP).
#[derive(Clone, Debug, Default)]
pub struct Interruption(Arc<AtomicBool>);

impl Interruption {
    /// Blocks those signals from now on: the process continues, so that it can clean up. When one
    /// comes, a warning says that `what` is done first.
    ///
    /// # Errors
    /// If the kernel refuses that.
    pub fn watch(what: &'static str) -> Result<Interruption> {
        let interruption = Interruption::default();
        let flag = interruption.0.clone();
        at_signal(move || {
            log::warn!("interrupted: {what} first");
            flag.store(true, Ordering::Relaxed);
        })?;
        Ok(interruption)
    }

    /// Whether one has come.
    pub fn has_come(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails once one has come.
    pub fn check(&self) -> Result<()> {
        if self.has_come() {
            bail!("interrupted");
        }
        Ok(())
    }
}

/// Blocks those signals from now on, in this thread and those that it starts later, and calls `then` when one comes.
///
/// # Errors
/// If the kernel refuses that.
pub fn at_signal(then: impl FnOnce() + Send + 'static) -> Result<()> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .collect();
    signals.thread_block().context("cannot block signals")?;
    let watch = move || {
        if signals.wait().is_ok() {
            then();
        }
    };
    let watcher = std::thread::Builder::new().spawn(watch);
    watcher.context("cannot watch for signals").map(drop)
}
