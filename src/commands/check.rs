//! `appliance check`.

use anyhow::{Result, bail};

use super::{Outcome, not_installed, print};
use crate::check::{self, find_out, serve};
use crate::cis;
use crate::cli::{Check, CheckCommand};
use crate::nodespec::Refused;
use crate::observe::user::check_user;
use crate::observe::{self, records};
use crate::sys::process::System;
use crate::sys::root::Root;

/// Checks the cluster, or runs as a probe of a check.
pub fn run(arguments: &Check) -> Result<Outcome> {
    if let Some(CheckCommand::Serve { port, node }) = &arguments.command {
        serve::run(*port, node)?;
        return Ok(Outcome::Done);
    }
    let root = Root::open(&arguments.root)?;
    check_user(&root)?;
    let Some(state) = records::state(&root)? else {
        return Ok(not_installed());
    };
    if arguments.cis {
        let facts = observe::cis::read(&root, &System, &state)?;
        let judged = cis::judge(&facts);
        print::cis::report(&state, &facts, &judged, arguments.output)?;
        return Ok(outcome(cis::is_sound(&judged)));
    }
    let Some(expected) = records::expected(&root)? else {
        bail!(Refused {
            problems: vec![format!(
                "this node is a {}; run `appliance check` on a master of the cluster",
                state.role
            )],
        });
    };
    let facts = find_out(&root, &System, &expected, arguments.no_pods)?;
    let checked = check::judge(&expected, &facts);
    print::checked(&checked, arguments.output)?;
    Ok(outcome(check::is_sound(&checked)))
}

fn outcome(is_sound: bool) -> Outcome {
    if is_sound {
        Outcome::Done
    } else {
        Outcome::Degraded
    }
}
