//! `appliance status`.

use anyhow::Result;

use super::failure::NotInstalled;
use super::{Outcome, check_node, print};
use crate::cli::Output;
use crate::status::Report;
use crate::sys::process::System;
use crate::sys::root::Root;

/// Asks the node and prints its report.
pub fn run(output: Output) -> Result<Outcome> {
    let root = Root::open("/".as_ref())?;
    let state = match check_node(&root) {
        Ok(state) => Some(state),
        Err(error) if error.is::<NotInstalled>() => None,
        Err(error) => return Err(error),
    };
    let report = Report::whole(&root, &System, state.as_ref())?;
    print::report(&report, output)?;
    Ok(report.overall.into())
}
