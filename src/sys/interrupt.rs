//! Being told to end, and cleaning up first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};

/// Whether this process was told to end (SIGINT, SIGTERM or SIGHUP).
#[derive(Clone, Debug, Default)]
pub struct Interruption(Arc<AtomicBool>);

impl Interruption {
    /// Holds those signals back from now on: the process goes on, so that what it made can be
    /// removed. `what` is done first is said when one comes.
    ///
    /// # Errors
    /// If the kernel does not let it.
    pub fn watch(what: &'static str) -> Result<Interruption> {
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
            .into_iter()
            .collect();
        signals.thread_block().context("hold signals back")?;
        let interruption = Interruption::default();
        let flag = interruption.0.clone();
        std::thread::spawn(move || {
            if signals.wait().is_ok() {
                log::warn!("ending: {what} first");
                flag.store(true, Ordering::Relaxed);
            }
        });
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
