//! `appliance doctor`.

use anyhow::Result;

use super::{Outcome, print};
use crate::cli::{Doctor, Output};
use crate::doctor::{Diagnosis, diagnose};
use crate::nodespec::Refused;
use crate::observe;
use crate::observe::doctor::PROGRAM;
use crate::observe::user::check_user;
use crate::sys::process::Limited;
use crate::sys::root::Root;

/// Looks for known faults.
pub fn run(arguments: &Doctor, output: Output) -> Result<Outcome> {
    let root = Root::open(&arguments.root).map_err(Refused::because)?;
    check_user(&root)?;
    let diagnosis = examined(&root);
    print::result(output, &diagnosis, print::doctor::report)?;
    Ok(match diagnosis.sound {
        true => Outcome::Done,
        false => Outcome::Degraded,
    })
}

/// What is found at `root`.
pub(super) fn examined(root: &Root) -> Diagnosis {
    diagnose(&observe::doctor::read(root, &Limited(PROGRAM)))
}
