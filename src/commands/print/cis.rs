//! The output of `appliance check --cis`.

use super::{print_table, table};
use crate::cis::facts::{Facts, Program};
use crate::cis::{BENCHMARK, Judged, Source, Verdict, count, is_sound};
use crate::language::{tr, translated};
use crate::nodespec::Profile;
use crate::records::state::State;
use crate::sys::out::say;
use crate::sys::progress::escaped;

/// Prints the results: a table, and below it the reasons.
pub fn report(state: &State, facts: &Facts, judged: &[Judged]) {
    say!(
        "{}",
        tr!(
            "{BENCHMARK}, on the {} {}, profile {}",
            state.role,
            state.node,
            state.profile,
            BENCHMARK
        )
    );
    sources(facts);
    let mut rows = table(&["ITEM", "RESULT", "REQUIRED", "FOUND"]);
    // Items of other kinds of nodes have no row, only a place in the summary.
    let here = |one: &&Judged| one.result != Verdict::NotApplicable;
    for one in judged.iter().filter(here) {
        rows.add_row([
            one.item,
            &translated(one.result.words()),
            one.requires,
            &one.found,
        ]);
    }
    print_table(&rows);
    reasons(
        judged,
        Verdict::Differs,
        &tr!("These items differ on purpose:"),
    );
    reasons(
        judged,
        Verdict::Manual,
        &tr!("A person must look at these items:"),
    );
    summary(facts, judged);
}

/// Where the flags of each program were read.
fn sources(facts: &Facts) {
    let own = Program::ALL.into_iter().filter(|p| p.is_on(facts.role));
    for program in own {
        let from = match facts.programs.get(&program).map(|line| &line.source) {
            Some(Source::Process(id)) => tr!("of its process {id}", id),
            Some(Source::Unit(path)) => tr!("of {path}; it does not run", path),
            None => tr!("none: it has no unit and does not run"),
        };
        say!("{}", tr!("flags of {}: {}", program.name(), escaped(&from)));
    }
}

fn reasons(judged: &[Judged], result: Verdict, head: &str) {
    if count(judged, result) == 0 {
        return;
    }
    say!("\n{head}");
    for one in judged.iter().filter(|one| one.result == result) {
        say!("  {}: {}", one.item, one.why);
    }
}

fn summary(facts: &Facts, judged: &[Judged]) {
    let counts: Vec<String> = Verdict::ALL
        .into_iter()
        .map(|result| format!("{} {}", count(judged, result), translated(result.words())))
        .collect();
    say!("{}", tr!("\n{} items: {}", judged.len(), counts.join(", ")));
    if is_sound(judged) {
        return;
    }
    if facts.profile == Profile::Simple {
        say!(
            "{}",
            tr!(
                "\nTHIS NODE IS NOT HARDENED. The profile simple has no TLS and no authorization: anyone who reaches \
             this machine over the network has full control of the cluster. Use the profile with-ca: `appliance \
             convert --dry-run` shows what changes."
            )
        );
        return;
    }
    say!(
        "{}",
        tr!(
            "\nItems failed. `appliance install` restores the units and files of the appliance. If a unit has a \
         drop-in, it wins: `systemctl cat UNIT` shows it."
        )
    );
}
