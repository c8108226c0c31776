//! The output of rotations of keys.

use super::{print_table, table};
use crate::rotate::secrets::{Overview, Report, State};
use crate::sys::out::say;
use crate::sys::progress::escaped;

/// Prints what a rotation of the key that encrypts secrets did, and what comes next.
pub fn rotation(report: &Report) {
    let keys = report.keys.join(", then ");
    if report.rewritten > 0 {
        say!("{} secrets were written again", report.rewritten);
    }
    match report.state {
        State::Complete => say!("the rotation is complete; secrets are encrypted with {keys}"),
        State::Idle => say!("no rotation is under way; secrets are encrypted with {keys}"),
        State::Waiting => {
            say!(
                "this master has {keys}; these masters have to follow: {}",
                report.behind.join(", ")
            );
            say!("run this there: appliance secrets rotate --continue");
        }
    }
}

/// Prints which key encrypts how many secrets.
pub fn encryption(overview: &Overview) {
    let mut rows = table(&["KEY", "SECRETS", "USE"]);
    for (name, count) in &overview.secrets {
        let place = overview.keys.iter().position(|key| key == name);
        let used_for = match place {
            Some(0) => "encrypts",
            Some(_) => "decrypts only",
            None => "NOT ON THIS MASTER",
        };
        rows.add_row([&escaped(name), &count.to_string(), used_for]);
    }
    if overview.plain > 0 {
        rows.add_row(["-", &overview.plain.to_string(), "not encrypted"]);
    }
    print_table(&rows);
    if overview.under_way {
        say!("a rotation is under way; continue it: appliance secrets rotate --continue");
    }
    if !overview.behind.is_empty() {
        say!(
            "these masters have to follow: {}",
            overview.behind.join(", ")
        );
    }
}
