//! `appliance status`.

use anyhow::{Result, bail};

use super::failure::NotInstalled;
use super::{Outcome, check_node, print, watch};
use crate::cli::{Output, Status};
use crate::language::tr;
use crate::nodespec::Refused;
use crate::status::Report;
use crate::sys::process::{Runner, System};
use crate::sys::root::Root;

/// Asks the node and prints its report, once or until Ctrl-C.
pub fn run(arguments: Status, output: Output) -> Result<Outcome> {
    if !arguments.watch {
        let report = ask()?;
        print::result(output, &report, |report| show(report, arguments))?;
        return Ok(report.overall.into());
    }
    if output == Output::Json {
        bail!(Refused::new(tr!(
            "`--watch` is for people: with `--output json`, run `appliance status` again and again"
        )));
    }
    watch::run(ask, move |report| show(report, arguments))
}

fn show(report: &Report, arguments: Status) {
    match arguments.all {
        true => print::report::whole(report),
        false => print::report::summary(report),
    }
}

/// Asks the node and the cluster around it.
fn ask() -> Result<Report> {
    report(&Root::open("/".as_ref())?, &System)
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
