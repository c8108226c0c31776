//! The output of commands: tables for people, JSON for programs.

pub mod backup;
pub mod bundle;
pub mod cis;
pub mod doctor;
pub mod etcd;
pub mod keys;
pub mod plan;
pub mod preflight;
pub mod report;
mod table;
pub mod upgrade;
pub mod verify;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, IsTerminal};

use anyhow::Result;
use schemars::JsonSchema;
use serde::Serialize;

use self::table::Table;
use super::documents::{CertificateOfNode, Checks, Done, Text, TokenOfMaster};
use crate::check::{Checked, Verdict, is_sound};
use crate::cli::Output;
use crate::language::{tr, translated};
use crate::plan::Plan;
use crate::records::nodes::NodeRecord;
use crate::records::state::State;
use crate::records::tokens::Standing;
use crate::sys::clock::moment;
use crate::sys::out::{self, say};
use crate::sys::progress::escaped;
use crate::topics::breaks;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Prints a document as JSON, or as `text` prints it.
pub fn result<T: Serialize + JsonSchema>(
    output: Output,
    document: &T,
    text: impl FnOnce(&T),
) -> Result<()> {
    match output {
        Output::Text => text(document),
        Output::Json => say!("{}", serde_json::to_string_pretty(document)?),
    }
    Ok(())
}

/// Says that a command has done what its name says.
pub fn done(message: impl Display, output: Output) -> Result<()> {
    let done = Done {
        done: true,
        message: message.to_string(),
    };
    result(output, &done, |done| log::info!("{}", done.message))
}

/// Prints a text that is the result.
pub fn text(text: &str, output: Output) -> Result<()> {
    let document = Text {
        text: text.to_owned(),
    };
    result(output, &document, |document| out::text(&document.text))
}

/// How many characters of a digest to show.
const SHORT: usize = 12;

/// Logs what an installation changed. `noted` says whether the record of the node's state changed.
pub fn changes(state: &State, plan: &Plan, noted: bool) {
    let is = tr!(
        "{} is a {} of bundle {}",
        state.node,
        state.role,
        state.bundle
    );
    if plan.is_empty() && !noted {
        log::info!("{}", tr!("nothing to change: {is}", is));
    } else {
        log::info!(
            "{}",
            tr!(
                "1 change made: {is}" | "{n} changes made: {is}" % plan.steps.len(),
                is
            )
        );
    }
}

/// Prints the tokens of a master, without their secrets.
pub fn tokens(all: &[TokenOfMaster]) {
    let mut rows = table(&["TOKEN", "STATE", "EXPIRES", "USED", "FROM"]);
    for token in all {
        let standing = match token.standing {
            Standing::Live => tr!("valid"),
            Standing::Expired => tr!("expired"),
            Standing::Revoked => tr!("revoked"),
            Standing::Ahead => tr!("made by a clock that was ahead"),
            Standing::UsedUp => tr!("used up"),
        };
        let ends = token.expires.as_deref().map_or_else(|| tr!("never"), told);
        let used = match token.uses {
            Some(uses) => tr!("{} of {uses}", token.used, uses),
            None => token.used.to_string(),
        };
        rows.add_row([&token.id.to_string(), &standing, &ends, &used, &token.from]);
    }
    print_table(&rows);
}

/// A time in the format of RFC 3339, for people.
fn told(time: &str) -> String {
    OffsetDateTime::parse(time, &Rfc3339).map_or_else(|_| time.to_owned(), moment)
}

/// Prints certificates, and the services that the renewal of each restarts.
pub fn certificates_of(shown: &[CertificateOfNode]) {
    print_table(&held(shown));
}

fn held(shown: &[CertificateOfNode]) -> Table {
    let mut rows = table(&[
        "CERTIFICATE",
        "SUBJECT",
        "EXPIRES",
        "SIGNED",
        "RENEWAL RESTARTS",
        "NAMES",
    ]);
    for certificate in shown {
        let or_none = |words: String| match words.is_empty() {
            true => "-".to_owned(),
            false => words,
        };
        let sans: Vec<String> = certificate.sans.iter().map(|name| escaped(name)).collect();
        rows.add_row([
            certificate.name,
            &escaped(&certificate.subject),
            &told(&certificate.not_after),
            &match certificate.signed_by_authority {
                true => tr!("by {}", certificate.authority),
                false => tr!("BY ANOTHER CA"),
            },
            &or_none(certificate.restarts.join(" ")),
            &or_none(sans.join(" ")),
        ]);
    }
    rows
}

/// Prints the nodes that joined a master.
pub fn nodes(all: &BTreeMap<String, NodeRecord>) {
    let mut rows = table(&["NODE", "ADDRESS", "TOKEN", "CERTIFICATES ISSUED", "KEY"]);
    for (name, node) in all {
        rows.add_row([
            name,
            &node.address.to_string(),
            &node.token.to_string(),
            &moment(node.seen),
            short(&node.key),
        ]);
    }
    print_table(&rows);
}

/// How many characters fit a line: of the terminal, or 80.
fn width() -> usize {
    match io::stdout().is_terminal() {
        true => textwrap::termwidth(),
        false => 80,
    }
}

/// An empty table with these headings, as wide as the terminal, or 80 columns.
pub fn table(headings: &[&str]) -> Table {
    let headings = headings.iter().map(|heading| translated(heading));
    Table::new(headings, width())
}

/// Prints an empty line and the table, without trailing blanks and control characters.
pub fn print_table(table: &Table) {
    say!();
    table
        .lines()
        .iter()
        .for_each(|line| say!("{}", escaped(line.trim_end())));
}

/// Prints a text that begins with `first`, on lines that fit; the others begin with `indent` blanks.
pub fn say_wrapped(text: &str, first: &str, indent: usize) {
    let rest = " ".repeat(indent);
    let options = breaks::options(width())
        .initial_indent(first)
        .subsequent_indent(&rest)
        .break_words(false);
    for line in textwrap::wrap(&escaped(text), options) {
        say!("{}", line.trim_end());
    }
}

/// Prints the verdicts of a check, then the hints for the failures.
pub fn checked(checked: Vec<Checked>, output: Output) -> Result<()> {
    let document = Checks {
        sound: is_sound(&checked),
        checks: checked,
    };
    result(output, &document, |document| checks(&document.checks))
}

/// Prints the verdicts as a table, then the hints for the failures.
pub fn checks(checked: &[Checked]) {
    let mut rows = table(&["CHECK", "RESULT", "FOUND"]);
    let (mut failed, mut skipped) = (0, 0);
    for one in checked {
        let (result, found) = match &one.verdict {
            Verdict::Passed { found } => (tr!("passed"), found),
            Verdict::Failed { found, .. } => {
                failed += 1;
                (tr!("FAILED"), found)
            }
            Verdict::Skipped { found } => {
                skipped += 1;
                (tr!("skipped"), found)
            }
        };
        rows.add_row([one.check, &result, found]);
    }
    print_table(&rows);
    say!();
    for one in checked {
        if let Verdict::Failed { hint, .. } = &one.verdict {
            say!("{}: {hint}\n", one.check);
        }
    }
    let passed = checked.len() - failed - skipped;
    say!(
        "{}",
        tr!(
            "{passed} passed, {failed} failed, {skipped} skipped",
            passed,
            failed,
            skipped
        )
    );
}

fn short(digest: &str) -> &str {
    &digest[..SHORT.min(digest.len())]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_names_in_a_certificate_control_no_terminal() {
        let certificate = CertificateOfNode {
            name: "admin",
            path: String::new(),
            subject: "CN=a\u{1b}[31m\nCN=b".to_owned(),
            sans: vec!["c\u{7}\r\nd".to_owned()],
            not_before: "1970-01-01T00:00:00Z".to_owned(),
            not_after: "1970-01-01T00:00:00Z".to_owned(),
            signed_by_authority: true,
            authority: "ca",
            restarts: Vec::new(),
        };
        let lines = held(&[certificate]).lines();
        let text = lines.concat();
        assert!(!text.contains(char::is_control), "{lines:?}");
        assert!(text.contains(r"CN=a\u{1b}"), "{lines:?}");
        assert!(text.contains(r"c\u{7}\r\nd"), "{lines:?}");
    }
}
