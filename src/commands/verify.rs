//! `appliance verify`: an installed node, compared with what was installed.

use anyhow::Result;

use super::{Outcome, check_node, print};
use crate::cli::{Output, Verify};
use crate::nodespec::Refused;
use crate::sys::lock::{Holder, Lock, Patience};
use crate::sys::out::say;
use crate::sys::process::System;
use crate::sys::root::Root;
use crate::verify::{Node, Report};

/// Compares the node.
pub fn run(arguments: &Verify, output: Output) -> Result<Outcome> {
    let root = Root::open(&arguments.root).map_err(Refused::because)?;
    let state = check_node(&root)?;
    // A run that changes the machine makes differences. It may begin while this reads: nobody has to wait for it.
    drop(Lock::take(&root, arguments.waiting.patience())?);
    let report = Node::of(&root, &System, &state)?.verify()?;
    if !report.as_installed && Holder::of(&root).is_some() {
        drop(Lock::take(&root, Patience::None)?);
    }
    print::result(output, &report, |report| match arguments.brief {
        true => say!("{}", report.line()),
        false => print::verify::report(report),
    })?;
    Ok(outcome(&report))
}

fn outcome(report: &Report) -> Outcome {
    match report.as_installed {
        true => Outcome::Done,
        false => Outcome::Differs,
    }
}
