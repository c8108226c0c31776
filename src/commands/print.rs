//! The output of commands: tables for people, JSON for programs.

pub mod backup;
pub mod bundle;
pub mod cis;
pub mod doctor;
pub mod etcd;
pub mod keys;
pub mod plan;
pub mod preflight;
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
use crate::clients::bird::Peer;
use crate::maintenance::mebibytes;
use crate::plan::Plan;
use crate::records::nodes::NodeRecord;
use crate::records::state::State;
use crate::records::tokens::Standing;
use crate::status::{MastersReport, Overall, Report};
use crate::sys::clock::moment;
use crate::sys::out::{self, say};
use crate::sys::progress::escaped;
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

/// Prints the report of a node.
pub fn report(report: &Report, output: Output) -> Result<()> {
    result(output, report, report_text)
}

fn report_text(report: &Report) {
    for told in [&report.interrupted, &report.upgrade].into_iter().flatten() {
        say!("{}", escaped(told));
    }
    let Some(node) = &report.node else {
        match &report.changing {
            Some(run) => say!(
                "this machine is not installed yet; a run is changing it: {}",
                escaped(&run.words)
            ),
            None => {
                say!("this machine is not installed; to make it a node, run `appliance install`");
            }
        }
        return;
    };
    heading(node, report);
    if let Some(run) = &report.changing {
        say!(
            "A run is changing this machine now: {}",
            escaped(&run.words)
        );
    }
    print_table(&services(report));
    journals(report);
    print_table(&images(report));
    if !report.storage.is_empty() {
        print_table(&storage(report));
    }
    if !report.certificates.is_empty() {
        print_table(&certificates(report));
    }
    if !report.peers.is_empty() {
        print_table(&peers(
            report.peers.iter().map(|r| (&r.peer, r.problem.as_ref())),
        ));
    }
    if !report.addons.is_empty() {
        print_table(&addons(report));
    }
    if let Some(all) = &report.masters {
        print_table(&masters(all));
        if let Some(problem) = &all.problem {
            say!("\n{problem}");
        }
    }
    if let Some(progress) = &report.cluster {
        upgrade::progress(progress);
    }
    if let Some(backup) = &report.backup {
        backup::status(backup);
    }
    if let Some(boot) = &report.boot {
        say!("\n{boot}");
    }
    say!("\n{}", verdict(report));
}

fn heading(node: &State, report: &Report) {
    say!(
        "{} {} ({}), profile {}",
        node.role,
        node.node,
        node.address,
        node.profile
    );
    say!(
        "appliance {}, bundle {} (Kubernetes {}), {}",
        report.appliance,
        node.bundle,
        node.kubernetes,
        short(&node.digest)
    );
    if node.demonstration {
        say!("This is a demonstration: some components are stand-ins, not the real programs.");
    }
    if report.certificates.is_empty() {
        say!(
            "Profile simple has no TLS: anyone who reaches this machine over the network has full \
             control of the cluster."
        );
    }
}

fn verdict(report: &Report) -> &'static str {
    match report.overall {
        Overall::Healthy => "The node is healthy.",
        Overall::Degraded => "The node is NOT healthy: see the problems above.",
        Overall::NotInstalled => "The node is not installed.",
    }
}

/// Logs what an installation changed. `noted` says whether the record of the node's state changed.
pub fn changes(state: &State, plan: &Plan, noted: bool) {
    let is = format!(
        "{} is a {} of bundle {}",
        state.node, state.role, state.bundle
    );
    if plan.is_empty() && !noted {
        log::info!("nothing to change: {is}");
    } else {
        log::info!("{} changes made: {is}", plan.steps.len());
    }
}

/// Prints the tokens of a master, without their secrets.
pub fn tokens(all: &[TokenOfMaster]) {
    let mut rows = table(&["TOKEN", "STATE", "EXPIRES", "USED", "FROM"]);
    for token in all {
        let standing = match token.standing {
            Standing::Live => "valid",
            Standing::Expired => "expired",
            Standing::Revoked => "revoked",
            Standing::Ahead => "made by a clock that was ahead",
            Standing::UsedUp => "used up",
        };
        let ends = token.expires.as_deref().map_or("never".to_owned(), told);
        let used = match token.uses {
            Some(uses) => format!("{} of {uses}", token.used),
            None => token.used.to_string(),
        };
        rows.add_row([&token.id.to_string(), standing, &ends, &used, &token.from]);
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
                true => format!("by {}", certificate.authority),
                false => "BY ANOTHER CA".to_owned(),
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

/// An empty table with these headings, as wide as the terminal, or 80 columns.
pub fn table(headings: &[&str]) -> Table {
    let width = match io::stdout().is_terminal() {
        true => textwrap::termwidth(),
        false => 80,
    };
    Table::new(headings, width)
}

/// Prints an empty line and the table, without trailing blanks and control characters.
pub fn print_table(table: &Table) {
    say!();
    table
        .lines()
        .iter()
        .for_each(|line| say!("{}", escaped(line.trim_end())));
}

fn ok_or(problem: Option<&String>) -> &str {
    problem.map_or("ok", String::as_str)
}

fn services(report: &Report) -> Table {
    let mut table = table(&["SERVICE", "STATE", "HEALTH"]);
    for service in &report.services {
        let running = service.state.strip_prefix("active (");
        let health = match &service.endpoint {
            Some(endpoint) if running.is_some() => {
                let found = ok_or(service.problem.as_ref());
                format!("{endpoint}: {found}")
            }
            _ => ok_or(service.problem.as_ref()).to_owned(),
        };
        let state = running.map_or(&*service.state, |running| running.trim_end_matches(')'));
        table.add_row([&service.name, state, &health]);
    }
    table
}

/// The last lines of the services that do not run.
fn journals(report: &Report) {
    for service in report
        .services
        .iter()
        .filter(|service| !service.journal.is_empty())
    {
        say!("\nThe last lines of `journalctl -u {}`:", service.name);
        for line in &service.journal {
            say!("    {}", escaped(line));
        }
    }
}

fn storage(report: &Report) -> Table {
    let mut table = table(&["STORAGE", "USED", "OF", "STATE"]);
    for one in &report.storage {
        table.add_row([
            one.name.as_str(),
            &mebibytes(one.used),
            &mebibytes(one.size),
            ok_or(one.problem.as_ref()),
        ]);
    }
    table
}

fn images(report: &Report) -> Table {
    let mut table = table(&["IMAGE", "STATE"]);
    for image in &report.images {
        let state = image.problem.as_deref().unwrap_or("loaded");
        table.add_row([image.reference.as_str(), state]);
    }
    table
}

fn certificates(report: &Report) -> Table {
    let mut table = table(&["CERTIFICATE", "EXPIRES", "STATE"]);
    for certificate in &report.certificates {
        table.add_row([
            &certificate.name,
            &told(&certificate.not_after),
            ok_or(certificate.problem.as_ref()),
        ]);
    }
    table
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
            Verdict::Passed { found } => ("passed", found),
            Verdict::Failed { found, .. } => {
                failed += 1;
                ("FAILED", found)
            }
            Verdict::Skipped { found } => {
                skipped += 1;
                ("skipped", found)
            }
        };
        rows.add_row([one.check, result, found]);
    }
    print_table(&rows);
    say!();
    for one in checked {
        if let Verdict::Failed { hint, .. } = &one.verdict {
            say!("{}: {hint}\n", one.check);
        }
    }
    let passed = checked.len() - failed - skipped;
    say!("{passed} passed, {failed} failed, {skipped} skipped");
}

/// The table of `calicoctl node status`, with a column for problems.
fn peers<'a>(peers: impl Iterator<Item = (&'a Peer, Option<&'a String>)>) -> Table {
    let mut table = table(&["BGP PEER", "TYPE", "STATE", "SINCE", "INFO", "PROBLEM"]);
    for (peer, problem) in peers {
        table.add_row([
            peer.address.as_str(),
            peer.kind,
            &peer.state,
            &peer.since,
            &peer.info,
            problem.map_or("-", String::as_str),
        ]);
    }
    table
}

fn masters(all: &MastersReport) -> Table {
    let mut table = table(&["MASTER", "ADDRESS", "ETCD", "API SERVER", "PROBLEM"]);
    for master in &all.masters {
        let problem = master.problem.as_deref().unwrap_or("-");
        table.add_row([
            master.name.as_str(),
            &master.address.to_string(),
            &master.etcd,
            &master.api_server,
            problem,
        ]);
    }
    table
}

fn addons(report: &Report) -> Table {
    let mut table = table(&["ADD-ON OR WORKLOAD", "STATE", "PROBLEM"]);
    for addon in &report.addons {
        let problem = addon.problem.as_deref().unwrap_or("-");
        table.add_row([addon.name.as_str(), &addon.state, problem]);
    }
    table
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
