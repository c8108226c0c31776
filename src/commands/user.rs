//! Which user may run a command that looks at the running system.

use anyhow::Result;

use crate::nodespec::Refused;
use crate::sys::host;
use crate::sys::root::Root;

/// Refuses to look at, let alone change, the running system as any other user than root:
/// its keys and its config drive are root's to read.
pub fn check_user(root: &Root) -> Result<()> {
    if !root.is_live() || host::is_root() {
        return Ok(());
    }
    let problem = "this user may neither read the node's keys nor change the system; run it as root (sudo appliance …)";
    Err(Refused {
        problems: vec![problem.to_owned()],
    }
    .into())
}
