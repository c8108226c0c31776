//! The entry point of the image that holds a pod's network: it waits for SIGTERM.

use anyhow::Result;

use crate::lifecycle;

/// Waits. Ignores the arguments of the real programs.
///
/// # Errors It cannot wait for signals.
pub fn run(name: &str, arguments: &[String]) -> Result<()> {
    eprintln!(
        "{name}: appliance test stand-in, waiting ({} arguments)",
        arguments.len()
    );
    lifecycle::run_until_stopped(|| Ok(()))
}
