//! `appliance status`.

use anyhow::Result;

use super::failure::NotInstalled;
use super::{Outcome, check_node, print};
use crate::cli::Output;
use crate::status::Report;
use crate::sys::process::{Runner, System};
use crate::sys::root::Root;

/// Asks the node and prints its report.
pub fn run(output: Output) -> Result<Outcome> {
    let report = report(&Root::open("/".as_ref())?, &System)?;
    print::report(&report, output)?;
    Ok(report.overall.into())
}

/// Asks the node at `root`, whose programs are run by `runner`.
pub(super) fn report(root: &Root, runner: &dyn Runner) -> Result<Report> {
    let state = match check_node(root) {
        Ok(state) => Some(state),
        Err(error) if error.is::<NotInstalled>() => None,
        Err(error) => return Err(error),
    };
    Report::whole(root, runner, state.as_ref())
}
