//! `appliance check`.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::documents::Benchmark;
use super::{Outcome, check_node, print};
use crate::check::{self, find_out, serve};
use crate::cis::{self, BENCHMARK, Judged, Verdict};
use crate::cli::{Check, CheckCommand, Output};
use crate::language::tr;
use crate::nodespec::Refused;
use crate::observe::{self, records};
use crate::sys::process::System;
use crate::sys::root::Root;

/// Checks the cluster, or runs as a probe of a check.
pub fn run(arguments: &Check, output: Output) -> Result<Outcome> {
    if let Some(CheckCommand::Serve { port, node }) = &arguments.command {
        serve::run(*port, node)?;
        return Ok(Outcome::Done);
    }
    let root = Root::open(&arguments.root)?;
    let state = check_node(&root)?;
    if arguments.cis {
        let facts = observe::cis::read(&root, &System, &state)?;
        let judged = cis::judge(&facts);
        let sound = cis::is_sound(&judged);
        let document = Benchmark {
            benchmark: BENCHMARK,
            node: state.node.clone(),
            role: state.role.clone(),
            profile: state.profile.clone(),
            sound,
            summary: counts(&judged),
            items: judged,
        };
        print::result(output, &document, |document| {
            print::cis::report(&state, &facts, &document.items);
        })?;
        return Ok(outcome(sound));
    }
    let Some(expected) = records::expected(&root)? else {
        bail!(Refused::new(tr!(
            "this node is a {}; run `appliance check` on a master of the cluster",
            state.role
        )));
    };
    let facts = find_out(&root, &System, &expected, arguments.no_pods)?;
    let checked = check::judge(&expected, &facts);
    let outcome = outcome(check::is_sound(&checked));
    print::checked(checked, output)?;
    Ok(outcome)
}

fn counts(judged: &[Judged]) -> BTreeMap<Verdict, usize> {
    let all = Verdict::ALL.into_iter();
    all.map(|result| (result, cis::count(judged, result)))
        .collect()
}

fn outcome(is_sound: bool) -> Outcome {
    if is_sound {
        Outcome::Done
    } else {
        Outcome::Degraded
    }
}
