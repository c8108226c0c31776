//! What commands print: tables for people, JSON for programs.

use std::collections::BTreeMap;

use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::json;

use crate::bundle::manifest::Manifest;
use crate::bundle::verify::{Audit, Difference, Measure};
use crate::check::{Checked, Verdict, is_sound};
use crate::cli::Output;
use crate::clients::bird::Peer;
use crate::nodespec::NodeSpec;
use crate::nodespec::token::TokenId;
use crate::plan::Plan;
use crate::records::nodes::NodeRecord;
use crate::records::state::State;
use crate::records::tokens::{Standing, TokenRecord};
use crate::status::certificates::HeldCertificate;
use crate::status::{MastersReport, Overall, Report};
use time::OffsetDateTime;

/// How much of a digest tells it from others.
const SHORT: usize = 12;

/// Prints what a node answered.
pub fn report(report: &Report, output: Output) -> Result<()> {
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(report)?);
        return Ok(());
    }
    let Some(node) = &report.node else {
        println!("not installed: run `appliance install` to make this machine a node");
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
            println!("\n{problem}");
        }
    }
    println!("\n{}", verdict(report));
    Ok(())
}

fn heading(node: &State, report: &Report) {
    println!(
        "{} {} ({}), profile {}",
        node.role, node.node, node.address, node.profile
    );
    println!(
        "appliance {}, bundle {} (Kubernetes {}), {}",
        report.appliance,
        node.bundle,
        node.kubernetes,
        short(&node.digest)
    );
    if node.demonstration {
        println!("This is a demonstration: some components are stand-ins.");
    }
    if report.certificates.is_empty() {
        println!("Profile simple: anyone who reaches this machine may do anything to the cluster.");
    }
}

fn verdict(report: &Report) -> &'static str {
    match report.overall {
        Overall::Healthy => "The node is healthy.",
        Overall::Degraded => "The node is NOT healthy: see the problems above.",
        Overall::NotInstalled => "The node is not installed.",
    }
}

/// Says what an installation changed; `noted` tells whether the node's state is news.
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

/// Prints the tokens a master knows, without their secrets.
pub fn tokens(all: &BTreeMap<TokenId, TokenRecord>, now: OffsetDateTime) {
    let mut rows = table(&["TOKEN", "STANDING", "ENDS", "USED", "FROM"]);
    for (id, token) in all {
        let standing = match token.standing(now) {
            Standing::Live => "live",
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

/// Prints certificates, and what renewing each would restart.
pub fn certificates_of(shown: &[HeldCertificate]) {
    let mut rows = table(&[
        "CERTIFICATE",
        "SUBJECT",
        "ENDS",
        "SIGNED",
        "RENEWING RESTARTS",
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
        rows.add_row([
            certificate.name,
            &certificate.info.subject,
            &certificate.info.not_after.date().to_string(),
            if certificate.signed {
                "by the CA"
            } else {
                "BY ANOTHER"
            },
            &or_none(restarts.collect()),
            &or_none(certificate.info.sans()),
        ]);
    }
    print_table(&rows);
}

/// Prints the nodes that joined a master.
pub fn nodes(all: &BTreeMap<String, NodeRecord>) {
    let mut rows = table(&["NODE", "ADDRESS", "TOKEN", "CERTIFICATES OF", "KEY"]);
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

/// A moment to the minute, in UTC.
fn moment(time: OffsetDateTime) -> String {
    let time = time.to_offset(time::UtcOffset::UTC);
    format!(
        "{} {:02}:{:02} UTC",
        time.date(),
        time.hour(),
        time.minute()
    )
}

/// An empty table with that header, aligned and without lines.
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

/// Prints a table below an empty line, without blanks at the ends of its lines.
pub fn print_table(table: &Table) {
    println!();
    table
        .lines()
        .for_each(|line| println!("{}", line.trim_end()));
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
            &certificate.subject,
            day,
            ok_or(certificate.problem.as_ref()),
        ]);
    }
    table
}

/// Prints the verdicts of a check, and below them what mends the failures.
pub fn checked(checked: &[Checked], output: Output) -> Result<()> {
    if output == Output::Json {
        let document = json!({ "sound": is_sound(checked), "checks": checked });
        println!("{}", serde_json::to_string_pretty(&document)?);
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
    println!();
    for one in checked {
        if let Verdict::Failed { hint, .. } = &one.verdict {
            println!("{}: {hint}\n", one.check);
        }
    }
    let passed = checked.len() - failed - skipped;
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(())
}

/// The table of `calicoctl node status`, and what is wrong.
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

/// Prints what a payload holds.
pub fn manifest(manifest: &Manifest) {
    println!(
        "{} (Kubernetes {})\n{}",
        manifest.bundle.name, manifest.bundle.kubernetes, manifest.bundle.description
    );
    let mut table = table(&[
        "COMPONENT",
        "VERSION",
        "LICENSE",
        "BYTES",
        "SHA256",
        "SOURCE",
    ]);
    for component in &manifest.components {
        let size = component.size.to_string();
        table.add_row([
            &component.name,
            &component.version,
            component.license.as_deref().unwrap_or("-"),
            &size,
            short(component.sha256.as_str()),
            component
                .source
                .as_deref()
                .or(component.supplier.as_deref())
                .unwrap_or("-"),
        ]);
    }
    print_table(&table);
}

/// Prints what was found of a payload.
pub fn audit(audit: &Audit, output: Output) -> Result<()> {
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(audit)?);
        return Ok(());
    }
    println!("bundle {}, {}", audit.bundle, audit.digest);
    let mut table = table(&["COMPONENT", "VERSION", "HELD TO", "RESULT"]);
    for finding in &audit.components {
        let held_to = match finding.held_to {
            Measure::Manifest => "its manifest",
            Measure::Lock => "bundle.lock",
        };
        table.add_row([
            finding.name.as_str(),
            &finding.version,
            held_to,
            ok_or(finding.problem.as_ref()),
        ]);
    }
    print_table(&table);
    for Difference { name, problem } in &audit.workloads {
        println!("workload {name}: {problem}");
    }
    let verdict = if audit.is_sound() {
        "The payload is what it should be."
    } else {
        "The payload is NOT what it should be: see the problems above."
    };
    println!("\n{verdict}");
    Ok(())
}

/// Prints what the node is to be and where each value came from, and every change a plan makes.
pub fn plan(spec: &NodeSpec, plan: &Plan) {
    let mut values = table(&["SETTING", "VALUE", "FROM"]);
    for row in spec.explain() {
        values.add_row([row.name, &row.value, &row.from]);
    }
    print_table(&values);
    println!();
    if plan.is_empty() {
        println!("nothing to change");
        return;
    }
    for step in &plan.steps {
        println!("{step}");
        for line in step.diff().lines() {
            println!("    {line}");
        }
    }
    println!("\n{} changes; none was made (--dry-run)", plan.steps.len());
}
