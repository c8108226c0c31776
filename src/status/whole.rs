//! The whole report: what every part of the node says.

use anyhow::Result;
use time::OffsetDateTime;

use super::{Changing, InstalledNode, Report, ask_masters, backup};
use crate::language::tr;
use crate::records::state::State;
use crate::sys::lock::Holder;
use crate::sys::process::Runner;
use crate::sys::root::Root;

impl Report {
    /// Asks everything about the machine at `root`: the node of `state`, or `None` if it is not installed, and the run
    /// that is changing it.
    ///
    /// # Errors
    /// If the records of the node are missing or damaged, or if systemd or docker cannot be asked.
    pub fn whole(root: &Root, runner: &dyn Runner, state: Option<&State>) -> Result<Report> {
        let changing = Holder::of(root).as_ref().map(Changing::of);
        let report = match state {
            Some(state) => of_node(root, runner, state)?,
            None => Report::not_installed(),
        };
        let report =
            Report { changing, ..report }.with_interrupted(root, OffsetDateTime::now_utc());
        Ok(report.with_upgrade(root))
    }
}

fn of_node(root: &Root, runner: &dyn Runner, state: &State) -> Result<Report> {
    let masters = ask_masters(root, state).unwrap_or_else(|error| {
        log::warn!(
            "{}",
            tr!(
                "cannot ask the masters: {error}",
                error = format_args!("{error:#}")
            )
        );
        None
    });
    let node = InstalledNode::of(root, runner, state)?;
    let now = OffsetDateTime::now_utc();
    let report = node.report(now)?.with_cluster(node.cluster(now)?);
    let report = report.with_masters(masters).with_boot(runner)?;
    let report = Report {
        backup: backup::read(root, now)?,
        ..report.with_storage(node.storage()?)
    };
    Ok(report.with_rollout(root, state)?.with_journal(runner))
}
