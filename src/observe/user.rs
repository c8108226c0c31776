//! Which user may run a command that looks at the running system.

use anyhow::Result;

use crate::language::tr;
use crate::nodespec::Refused;
use crate::sys::host;
use crate::sys::root::Root;

/// Refuses to read or change the running system as any user but root: only root may read its
/// keys and its config drive.
pub fn check_user(root: &Root) -> Result<()> {
    if !root.is_live() || host::is_root() {
        return Ok(());
    }
    let problem = &tr!(
        "this command needs root: only root may read the node's keys and change the system; run the same command with `sudo`"
    );
    Err(Refused::new(problem).into())
}
