//! `appliance status`.

use anyhow::Result;
use time::OffsetDateTime;

use super::failure::NotInstalled;
use super::{Outcome, check_node, print};
use crate::cli::Output;
use crate::status::{Changing, InstalledNode, Report, ask_masters, backup};
use crate::sys::lock::Holder;
use crate::sys::process::System;
use crate::sys::root::Root;

/// Asks the node and prints its report.
pub fn run(output: Output) -> Result<Outcome> {
    let root = Root::open("/".as_ref())?;
    let changing = Holder::of(&root).as_ref().map(Changing::of);
    let report = match check_node(&root) {
        Ok(state) => {
            let masters = ask_masters(&root, &state).unwrap_or_else(|error| {
                log::warn!("cannot ask the masters: {error:#}");
                None
            });
            let node = InstalledNode::of(&root, &System, &state)?;
            let now = OffsetDateTime::now_utc();
            let report = node.report(now)?.with_cluster(node.cluster(now)?);
            let report = report.with_masters(masters).with_boot(&System)?;
            let report = Report {
                backup: backup::read(&root, now)?,
                ..report.with_storage(node.storage()?)
            };
            report.with_rollout(&root, &state)?.with_journal(&System)
        }
        Err(error) if error.is::<NotInstalled>() => Report::not_installed(),
        Err(error) => return Err(error),
    };
    let report = Report { changing, ..report }.with_interrupted(&root, OffsetDateTime::now_utc());
    let report = report.with_upgrade(&root);
    print::report(&report, output)?;
    Ok(report.overall.into())
}
