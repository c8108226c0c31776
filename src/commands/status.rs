//! `appliance status`.

use anyhow::Result;
use time::OffsetDateTime;

use super::{Outcome, print};
use crate::cli::Status;
use crate::observe::records;
use crate::observe::user::check_user;
use crate::status::{InstalledNode, Report, ask_masters};
use crate::sys::process::System;
use crate::sys::root::Root;

/// Asks the node and prints its report.
pub fn run(arguments: &Status) -> Result<Outcome> {
    let root = Root::open("/".as_ref())?;
    check_user(&root)?;
    let report = match records::state(&root)? {
        Some(state) => {
            let masters = ask_masters(&root, &state).unwrap_or_else(|error| {
                log::warn!("cannot ask the masters: {error:#}");
                None
            });
            let node = InstalledNode::of(&root, &System, &state)?;
            let now = OffsetDateTime::now_utc();
            let report = node.report(now)?.with_cluster(node.cluster(now)?);
            report.with_masters(masters).with_boot(&System)?
        }
        None => Report::not_installed(),
    };
    print::report(&report, arguments.output)?;
    Ok(report.overall.into())
}
