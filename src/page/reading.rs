//! What the page shows, read at one time.

use anyhow::Result;
use time::OffsetDateTime;

use super::nodes::Nodes;
use super::timeline::{self, Event};
use crate::observe::records;
use crate::records::run::Run;
use crate::status::Report;
use crate::sys::process::Runner;
use crate::sys::root::Root;

/// What the page shows.
#[derive(Clone, Debug)]
pub struct Reading {
    /// When it was read.
    pub at: OffsetDateTime,
    /// What `appliance status` reports.
    pub report: Report,
    /// The nodes of the cluster.
    pub nodes: Nodes,
    /// The journal of a run that is not complete: how far it is.
    pub run: Option<Run>,
    /// What happened, the newest first.
    pub events: Vec<Event>,
}

impl Reading {
    /// Asks the machine at `root`. It changes nothing.
    ///
    /// # Errors
    /// If a record of the node is damaged, or if systemd or docker cannot be asked.
    pub fn of(root: &Root, runner: &dyn Runner) -> Result<Reading> {
        let state = records::state(root)?;
        let report = Report::whole(root, runner, state.as_ref())?;
        let run = timeline::run(root);
        Ok(Reading {
            at: OffsetDateTime::now_utc(),
            nodes: Nodes::of(&report),
            events: timeline::events(root, report.changing.as_ref(), run.as_ref())?,
            run,
            report,
        })
    }
}
