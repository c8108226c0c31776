//! The page of a reading: its values. All words of the page itself are in the template.

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::nodes::Nodes;
use super::reading::Reading;
use super::timeline::Event;
use crate::maintenance::mebibytes;
use crate::maintenance::storage::StorageReport;
use crate::render::render;
use crate::status::{CertificateReport, Report};
use crate::sys::clock::moment;

/// The template of the page.
const PAGE: &str = "page/status.html";
/// The template of a page without a reading.
const NOTHING: &str = "page/nothing.html";
/// The style of both.
const STYLE: &str = "page/style.css";

/// After how many seconds a browser asks for the page again.
const AGAIN: u64 = 15;
/// The same while a run is changing the machine, or while nothing is known yet.
const SOON: u64 = 5;

/// A longer table shows what has a problem, and the rest when it is opened.
const MOST_ROWS: usize = 20;

/// The rows of a table.
#[derive(Serialize)]
struct Rows<T> {
    /// How many there are.
    count: usize,
    /// Those to show at once. What has a problem comes first.
    shown: Vec<T>,
    /// Those to show when asked: none of them has a problem.
    more: Vec<T>,
}

impl<T> Rows<T> {
    fn of(all: impl IntoIterator<Item = T>, is_bad: impl Fn(&T) -> bool) -> Rows<T> {
        let (mut shown, mut more): (Vec<T>, Vec<T>) = all.into_iter().partition(is_bad);
        let count = shown.len() + more.len();
        if count <= MOST_ROWS {
            shown.append(&mut more);
        }
        Rows { count, shown, more }
    }
}

/// A problem, for the list at the top of the page.
#[derive(Serialize)]
struct Problem<'a> {
    /// The part of the page that has it.
    part: &'static str,
    /// What has it.
    name: &'a str,
    /// What is wrong.
    problem: &'a str,
}

/// The style of the pages, which they contain as it is.
pub fn style() -> Result<String> {
    render(STYLE, &json!({}))
}

/// The page of `reading`. A browser asks for it again by itself if `again` is true.
pub fn page(reading: &Reading, again: bool) -> Result<String> {
    let Reading { report, nodes, .. } = reading;
    let seconds = match report.changing {
        Some(_) => SOON,
        None => AGAIN,
    };
    let values = json!({
        "again": again.then_some(seconds),
        "every": seconds,
        "at": told(reading.at),
        "report": report,
        "run": reading.run.as_ref().filter(|_| report.changing.is_some()),
        "problems": problems(report, nodes),
        "nodes": Rows::of(&nodes.list, |node| node.state.is_bad()),
        "unknown": nodes.unknown,
        "services": Rows::of(&report.services, |one| one.problem.is_some()),
        "images": Rows::of(&report.images, |one| one.problem.is_some()),
        "peers": Rows::of(&report.peers, |one| one.problem.is_some()),
        "addons": Rows::of(&report.addons, |one| one.problem.is_some()),
        "certificates": certificates(&report.certificates, reading.at),
        "storage": storage(report),
        "backup": backup(report),
        "events": reading.events.iter().map(event).collect::<Vec<_>>(),
    });
    render(PAGE, &values)
}

/// The page while there is no reading: because the node could not be asked for the reason `why`, or has not answered yet.
pub fn nothing(why: Option<&str>) -> Result<String> {
    render(NOTHING, &json!({ "why": why, "every": SOON }))
}

fn problems<'a>(report: &'a Report, nodes: &'a Nodes) -> Vec<Problem<'a>> {
    let mut all = Vec::new();
    let mut add = |part, name: &'a str, problem: Option<&'a String>| {
        all.extend(problem.map(|problem| Problem {
            part,
            name,
            problem,
        }));
    };
    for one in &report.services {
        add("services", &one.name, one.problem.as_ref());
    }
    for one in &report.certificates {
        add("certificates", &one.name, one.problem.as_ref());
    }
    for one in &report.storage {
        add("storage", &one.name, one.problem.as_ref());
    }
    for one in &report.images {
        add("images", &one.reference, one.problem.as_ref());
    }
    for one in &report.addons {
        add("addons", &one.name, one.problem.as_ref());
    }
    for one in &report.peers {
        let name = one.node.as_ref().unwrap_or(&one.peer.address);
        add("peers", name, one.problem.as_ref());
    }
    if let Some(masters) = &report.masters {
        add("nodes", "", masters.problem.as_ref());
    }
    for one in nodes.list.iter().filter(|node| !node.here) {
        // A peer is told above.
        let is_told = report.peers.iter().any(|peer| peer.problem == one.why);
        add("nodes", &one.name, one.why.as_ref().filter(|_| !is_told));
    }
    if let Some(backup) = &report.backup {
        add("backup", "", backup.problem.as_ref());
    }
    all
}

fn certificates(all: &[CertificateReport], now: OffsetDateTime) -> Rows<Value> {
    let shown = |one: &CertificateReport| {
        let expires = OffsetDateTime::parse(&one.not_after, &Rfc3339).ok();
        json!({
            "name": one.name,
            "path": one.path,
            "expires": expires.map(|expires| expires.date().to_string()),
            "days": expires.map(|expires| (expires - now).whole_days()),
            "problem": one.problem,
        })
    };
    Rows::of(all.iter().map(shown), |one| !one["problem"].is_null())
}

fn storage(report: &Report) -> Vec<Value> {
    let shown = |one: &StorageReport| {
        json!({
            "name": one.name,
            "used": mebibytes(one.used),
            "size": mebibytes(one.size),
            "percent": (one.used * 100).checked_div(one.size).unwrap_or(0).min(100),
            "problem": one.problem,
        })
    };
    report.storage.iter().map(shown).collect()
}

fn backup(report: &Report) -> Option<Value> {
    let backup = report.backup.as_ref()?;
    Some(json!({
        "last": backup.last.as_ref().map(|last| told(last.created)),
        "place": backup.last.as_ref().map(|last| &last.place),
        "problem": backup.problem,
    }))
}

fn event(event: &Event) -> Value {
    json!({ "at": told(event.at), "what": event.what })
}

/// A time for people, and for programs.
fn told(at: OffsetDateTime) -> Value {
    let second = at.replace_nanosecond(0).unwrap_or(at);
    json!({ "words": moment(at), "exact": second.format(&Rfc3339).unwrap_or_default() })
}
