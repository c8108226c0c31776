//! The entry point of the image that holds a pod's network: it waits for SIGTERM.

use anyhow::Result;

use crate::lifecycle;

/// Waits. The arguments are the real programs' affair.
///
/// # Errors
/// Signals cannot be waited for.
pub fn run(name: &str, arguments: &[String]) -> Result<()> {
    eprintln!(
        "{name}: appliance test stand-in, waiting ({} arguments)",
        arguments.len()
    );
    lifecycle::run_until_stopped(|| Ok(()))
}
