//! Waits for a node that comes up, and for the cluster around it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use time::OffsetDateTime;

use super::verdict::{Kind, Lack, listed};
use super::{InstalledNode, Report};
use crate::language::tr;
use crate::sys::clock::age;
use crate::sys::notify;
use crate::sys::waiting::{Said, Waiting};

/// The least pause between two checks. Health endpoints and images announce nothing.
const LEAST: Duration = Duration::from_millis(250);
/// How many times longer than a check the pause after it is: a slow machine needs its time for what is waited for.
const SHARE: u32 = 3;

/// What is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Goal {
    /// The node: its services, images and certificates.
    #[default]
    Node,
    /// The node, and then the cluster: its nodes, add-ons and workloads, as far as this node sees them.
    Cluster,
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Goal::Node => "node",
            Goal::Cluster => "cluster",
        })
    }
}

/// Waits until the node is healthy, for `limit` at most, and returns its last report. A report
/// after `limit` contains the problems.
pub fn until_healthy(node: &InstalledNode<'_>, limit: Duration) -> Result<Report> {
    until(node, Goal::Node, limit, &mut |_| ())
}

/// Waits until the goal is reached, for `limit` at most, and returns the last report. It tells systemd as soon as the node
/// is healthy, and others what it waits for. Each report is passed to `seen`.
///
/// A node that was not Ready for a long time is not waited for, and neither are BGP sessions with other nodes: the report
/// has them.
pub fn until(
    node: &InstalledNode<'_>,
    goal: Goal,
    limit: Duration,
    seen: &mut dyn FnMut(&Report),
) -> Result<Report> {
    let start = Instant::now();
    let story = Arc::new(Mutex::new(Story::new(start, limit)));
    let told = story.clone();
    let shown = Waiting::telling(move |said| locked(&told).text(said, Instant::now()));
    loop {
        let began = Instant::now();
        let now = OffsetDateTime::now_utc();
        let report = node.report(now)?;
        seen(&report);
        let is_over = start.elapsed() >= limit;
        if report.is_node_healthy() {
            notify::ready();
            locked(&story).node_is_healthy(Instant::now());
        } else {
            let lacks = words(&report.verdict.node.lacks);
            locked(&story).node_waits_for(lacks, Instant::now());
        }
        if report.is_node_healthy() || is_over {
            // Ask about the cluster only now: a master asks the API for each add-on, and that takes time from an API
            // server that is still coming up.
            let report = report.with_cluster(node.cluster(now)?.of_own_node());
            let pending = pending(&report);
            if goal == Goal::Node || is_over || (report.is_node_healthy() && pending.is_empty()) {
                drop(shown);
                return Ok(report.with_journal(node.runner));
            }
            locked(&story).cluster_waits_for(words(&pending), Instant::now());
        }
        thread::sleep(LEAST.max(began.elapsed() * SHARE));
    }
}

fn locked(story: &Mutex<Story>) -> std::sync::MutexGuard<'_, Story> {
    story.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the cluster lacks that can still come up by itself, or that a retry may mend.
fn pending(report: &Report) -> Vec<Lack> {
    let cluster = report.verdict.cluster.iter();
    let lacks = cluster.flat_map(|part| part.lacks.iter());
    lacks
        .filter(|lack| lack.problem.is_none() || lack.kind == Kind::AddOn)
        .cloned()
        .collect()
}

fn words(lacks: &[Lack]) -> Vec<String> {
    let name = |lack: &Lack| match lack.kind {
        // Its state changes all the time while it comes up.
        Kind::Service => lack.name.clone(),
        _ => lack.words(),
    };
    lacks.iter().map(name).collect()
}

/// What has come up so far, and what is waited for.
struct Story {
    start: Instant,
    limit: Duration,
    /// What came up since the last line, and how long that took.
    up: Vec<(String, Duration)>,
    /// What is waited for.
    pending: Vec<String>,
    /// When that changed last.
    moved: Instant,
    /// Whether the node is healthy: then the cluster is waited for.
    is_healthy: bool,
}

impl Story {
    fn new(start: Instant, limit: Duration) -> Story {
        Story {
            start,
            limit,
            up: Vec::new(),
            pending: Vec::new(),
            moved: start,
            is_healthy: false,
        }
    }

    /// Notes what the node waits for at `now`.
    fn node_waits_for(&mut self, pending: Vec<String>, now: Instant) {
        self.is_healthy = false;
        let up = self.pending.iter().filter(|name| !pending.contains(name));
        let up = up.map(|name| (tr!("{name} healthy", name), now - self.start));
        self.up.extend(up);
        self.waits_for(pending, now);
    }

    /// Notes what the cluster around a healthy node waits for at `now`.
    fn cluster_waits_for(&mut self, pending: Vec<String>, now: Instant) {
        self.waits_for(pending, now);
    }

    fn waits_for(&mut self, pending: Vec<String>, now: Instant) {
        if self.pending != pending {
            self.pending = pending;
            self.moved = now;
        }
    }

    /// Notes that the node is healthy.
    fn node_is_healthy(&mut self, now: Instant) {
        if !self.is_healthy {
            self.is_healthy = true;
            self.up = vec![(tr!("node healthy"), now - self.start)];
            self.waits_for(Vec::new(), now);
        }
    }

    /// What to say at `now`: `etcd healthy after 12 s; waiting for kube-apiserver (8 s)`.
    fn text(&mut self, said: Said, now: Instant) -> String {
        let up = match self.up.as_slice() {
            [] => String::new(),
            [all @ .., (last, time)] if all.len() >= 3 => {
                tr!("{} up, {last} after {}; ", all.len(), age(*time), last)
            }
            all => {
                let each =
                    |(name, time): &(String, Duration)| tr!("{name} after {}", age(*time), name);
                let each: Vec<String> = all.iter().map(each).collect();
                format!("{}; ", each.join(", "))
            }
        };
        if said == Said::Printed {
            self.up.clear();
        }
        let what = match (self.pending.is_empty(), self.is_healthy) {
            (true, false) => tr!("the node"),
            (true, true) => tr!("the cluster"),
            (false, false) => listed(&self.pending),
            (false, true) => tr!("the cluster: {}", listed(&self.pending)),
        };
        let first = now - self.start < Duration::from_secs(2);
        let limit = match first {
            true => tr!(", for {} at most", age(self.limit)),
            false => String::new(),
        };
        tr!(
            "{up}waiting for {what} ({}{limit})",
            age(now - self.moved),
            up,
            what,
            limit
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_line_says_what_came_up_and_what_is_waited_for() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut story = Story::new(start, Duration::from_secs(900));
        assert_eq!(
            story.text(Said::Printed, at(0)),
            "waiting for the node (0 s, for 15 min at most)"
        );
        story.node_waits_for(names(&["etcd", "kube-apiserver"]), at(1));
        story.node_waits_for(names(&["kube-apiserver"]), at(12));
        let line = "etcd healthy after 12 s; waiting for kube-apiserver (8 s)";
        assert_eq!(story.text(Said::Living, at(20)), line);
        assert_eq!(story.text(Said::Printed, at(20)), line);
        assert_eq!(
            story.text(Said::Printed, at(30)),
            "waiting for kube-apiserver (18 s)"
        );
        story.node_is_healthy(at(70));
        story.cluster_waits_for(
            names(&["kube-dns 0 of 1", "node server01 NotReady"]),
            at(71),
        );
        assert_eq!(
            story.text(Said::Printed, at(91)),
            "node healthy after 70 s; waiting for the cluster: kube-dns 0 of 1, node server01 NotReady (20 s)"
        );
        assert_eq!(
            story.text(Said::Printed, at(101)),
            "waiting for the cluster: kube-dns 0 of 1, node server01 NotReady (30 s)"
        );
    }

    #[test]
    fn many_are_counted() {
        let start = Instant::now();
        let mut story = Story::new(start, Duration::from_secs(900));
        story.node_waits_for(names(&["a", "b", "c", "d", "e", "f"]), start);
        let later = start + Duration::from_secs(9);
        story.node_waits_for(names(&["f"]), later);
        assert_eq!(
            story.text(Said::Printed, later),
            "4 up, e healthy after 9 s; waiting for f (0 s)"
        );
    }
}
