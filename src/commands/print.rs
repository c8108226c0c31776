//! The output of commands: tables for people, JSON for programs.

pub mod bundle;
pub mod cis;
pub mod keys;
pub mod preflight;

use std::collections::BTreeMap;

use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::json;

use crate::check::{Checked, Verdict, is_sound};
use crate::cli::Output;
use crate::clients::bird::Peer;
use crate::components;
use crate::nodespec::NodeSpec;
use crate::nodespec::token::TokenId;
use crate::plan::Plan;
use crate::records::nodes::NodeRecord;
use crate::records::state::State;
use crate::records::tokens::{Standing, TokenRecord};
use crate::status::certificates::HeldCertificate;
use crate::status::{MastersReport, Overall, Report};
use crate::sys::clock::moment;
use crate::sys::out::say;
use crate::sys::progress::escaped;
use time::OffsetDateTime;

/// How many characters of a digest to show.
const SHORT: usize = 12;

/// Prints the report of a node.
pub fn report(report: &Report, output: Output) -> Result<()> {
    if output == Output::Json {
        say!("{}", serde_json::to_string_pretty(report)?);
        return Ok(());
    }
    let Some(node) = &report.node else {
        say!("this machine is not installed; to make it a node, run `appliance install`");
        return Ok(());
    };
    heading(node, report);
    print_table(&services(report));
    print_table(&images(report));
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
    if let Some(boot) = &report.boot {
        say!("\n{boot}");
    }
    say!("\n{}", verdict(report));
    Ok(())
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
pub fn tokens(all: &BTreeMap<TokenId, TokenRecord>, now: OffsetDateTime) {
    let mut rows = table(&["TOKEN", "STATE", "EXPIRES", "USED", "FROM"]);
    for (id, token) in all {
        let standing = match token.standing(now) {
            Standing::Live => "valid",
            Standing::Expired => "expired",
            Standing::Revoked => "revoked",
            Standing::UsedUp => "used up",
        };
        let ends = token.expires.map_or("never".to_owned(), moment);
        let used = match token.uses {
            Some(uses) => format!("{} of {uses}", token.used),
            None => token.used.to_string(),
        };
        rows.add_row([&id.to_string(), standing, &ends, &used, &token.from]);
    }
    print_table(&rows);
}

/// Prints certificates, and the services that the renewal of each restarts.
pub fn certificates_of(shown: &[HeldCertificate]) {
    print_table(&held(shown));
}

fn held(shown: &[HeldCertificate]) -> Table {
    let mut rows = table(&[
        "CERTIFICATE",
        "SUBJECT",
        "EXPIRES",
        "SIGNED",
        "RENEWAL RESTARTS",
        "NAMES",
    ]);
    for certificate in shown {
        let or_none = |words: Vec<String>| {
            if words.is_empty() {
                "-".to_owned()
            } else {
                words.join(" ")
            }
        };
        let restarts = certificate.restarts.iter().map(ToString::to_string);
        let sans = certificate.info.sans().into_iter();
        rows.add_row([
            certificate.name,
            &escaped(&certificate.info.subject),
            &certificate.info.not_after.date().to_string(),
            &match certificate.signed {
                true => format!("by {}", components::authority_of(certificate.name)),
                false => "BY ANOTHER CA".to_owned(),
            },
            &or_none(restarts.collect()),
            &or_none(sans.map(|name| escaped(&name)).collect()),
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

/// An empty table with this header, aligned and without lines.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// Prints an empty line and the table, without trailing blanks and control characters.
pub fn print_table(table: &Table) {
    say!();
    table
        .lines()
        .for_each(|line| say!("{}", escaped(line.trim_end())));
}

fn ok_or(problem: Option<&String>) -> &str {
    problem.map_or("ok", String::as_str)
}

fn services(report: &Report) -> Table {
    let mut table = table(&["SERVICE", "STATE", "HEALTH", "ENDPOINT"]);
    for service in &report.services {
        let endpoint = service.endpoint.as_deref().unwrap_or("-");
        table.add_row([
            &service.name,
            &service.state,
            ok_or(service.problem.as_ref()),
            endpoint,
        ]);
    }
    table
}

fn images(report: &Report) -> Table {
    let mut table = table(&["IMAGE", "ID", "STATE"]);
    for image in &report.images {
        let id = image
            .id
            .as_deref()
            .map_or("-", |id| short(id.trim_start_matches("sha256:")));
        let state = image.problem.as_deref().unwrap_or("loaded");
        table.add_row([image.reference.as_str(), id, state]);
    }
    table
}

fn certificates(report: &Report) -> Table {
    let mut table = table(&["CERTIFICATE", "SUBJECT", "EXPIRES", "STATE"]);
    for certificate in &report.certificates {
        let day = certificate.not_after.split('T').next().unwrap_or_default();
        table.add_row([
            &certificate.name,
            &escaped(&certificate.subject),
            day,
            ok_or(certificate.problem.as_ref()),
        ]);
    }
    table
}

/// Prints the verdicts of a check, then the hints for the failures.
pub fn checked(checked: &[Checked], output: Output) -> Result<()> {
    if output == Output::Json {
        let document = json!({ "sound": is_sound(checked), "checks": checked });
        say!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(());
    }
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
    Ok(())
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

/// Prints the settings of the node with the source of each, and every change of the plan.
pub fn plan(spec: &NodeSpec, plan: &Plan) {
    let mut values = table(&["SETTING", "VALUE", "FROM"]);
    for row in spec.explain() {
        values.add_row([row.name, &row.value, &row.from]);
    }
    print_table(&values);
    say!();
    if plan.is_empty() {
        say!("nothing to change");
        return;
    }
    for step in &plan.steps {
        say!("{step}");
        for line in step.diff().lines() {
            say!("    {line}");
        }
    }
    say!(
        "\n{} changes would be made; nothing was changed (--dry-run)",
        plan.steps.len()
    );
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pki::inspect::CertificateInfo;

    #[test]
    fn the_names_in_a_certificate_control_no_terminal() {
        let info = CertificateInfo {
            subject: "CN=a\u{1b}[31m\nCN=b".to_owned(),
            common_name: String::new(),
            organization: String::new(),
            dns_names: vec!["c\u{7}\r\nd".to_owned()],
            ip_addresses: Vec::new(),
            not_before: OffsetDateTime::UNIX_EPOCH,
            not_after: OffsetDateTime::UNIX_EPOCH,
            is_ca: false,
            is_self_issued: false,
            signs_certificates: false,
            server: false,
            client: false,
            public_key: Vec::new(),
        };
        let certificate = HeldCertificate {
            name: "admin",
            info,
            signed: true,
            restarts: Vec::new(),
        };
        let lines: Vec<String> = held(&[certificate]).lines().collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[1].contains(r"CN=a\u{1b}[31m\nCN=b"), "{lines:?}");
        assert!(lines[1].contains(r"c\u{7}\r\nd"), "{lines:?}");
    }
}
