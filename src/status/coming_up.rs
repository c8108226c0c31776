//! Waits for a node that comes up.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use time::OffsetDateTime;

use super::{InstalledNode, Report};
use crate::sys::waiting::Waiting;

/// The pause between two checks of the node.
const POLL: Duration = Duration::from_secs(2);

/// Waits until the node is healthy, for `limit` at most, and returns its last report. A report
/// after `limit` contains the problems.
pub fn until_healthy(node: &InstalledNode<'_>, limit: Duration) -> Result<Report> {
    let start = Instant::now();
    let mut waited_for = String::new();
    let waiting = Waiting::new("the node", Some(limit));
    loop {
        let now = OffsetDateTime::now_utc();
        let report = node.report(now)?;
        let waiting_for = waiting_for(&report);
        if start.elapsed() >= limit || waiting_for.is_empty() {
            // Ask about add-ons only once, at the end: a master asks the API for each of them, and
            // that takes time from an API server that is still coming up.
            let report = report.with_cluster(node.cluster(now)?.of_own_node());
            return Ok(report.with_journal(node.runner));
        }
        if waiting_for != waited_for {
            waiting.changed(&waiting_for);
            waited_for = waiting_for;
        }
        thread::sleep(POLL);
    }
}

fn waiting_for(report: &Report) -> String {
    let services = report
        .services
        .iter()
        .filter(|s| s.problem.is_some())
        .map(|s| s.name.as_str());
    let images = report
        .images
        .iter()
        .filter(|i| i.problem.is_some())
        .map(|i| i.reference.as_str());
    let certificates = report
        .certificates
        .iter()
        .filter(|c| c.problem.is_some())
        .map(|c| c.name.as_str());
    services
        .chain(images)
        .chain(certificates)
        .collect::<Vec<_>>()
        .join(", ")
}
