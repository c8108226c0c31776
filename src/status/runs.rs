//! What runs have left unfinished: on this node, and in the cluster.

use anyhow::Result;
use time::OffsetDateTime;

use super::Report;
use crate::join::registry;
use crate::join::rollout::Progress;
use crate::language::tr;
use crate::nodespec::Profile;
use crate::observe::records;
use crate::records::state::State;
use crate::sys::root::Root;

impl Report {
    /// Adds a run that was interrupted.
    #[must_use]
    pub fn with_interrupted(self, root: &Root, now: OffsetDateTime) -> Report {
        // A damaged journal does not say what to run again; the next run writes it anew.
        let run = records::run(root).ok().flatten();
        let run = run.filter(|run| !run.process.as_ref().is_some_and(records::lives));
        let interrupted = run.map(|run| run.told(now));
        Report {
            interrupted,
            ..self
        }
    }

    /// Adds an upgrade that is not finished, unless a run is at it now.
    #[must_use]
    pub fn with_upgrade(self, root: &Root) -> Report {
        let record = records::upgrade(root).ok().flatten();
        let upgrade = record.and_then(|record| record.told());
        Report {
            upgrade: upgrade.filter(|_| self.changing.is_none() && self.interrupted.is_none()),
            ..self
        }
    }

    /// Adds how far the upgrade of the whole cluster is, as a master of `state` knows it.
    pub fn with_rollout(self, root: &Root, state: &State) -> Result<Report> {
        let shape = state.shape()?;
        if !shape.role.is_master() || shape.profile != Profile::WithCa {
            return Ok(self);
        }
        let progress = registry::rollouts(root).and_then(|rollouts| Progress::of(&rollouts));
        let cluster = progress.unwrap_or_else(|error| {
            log::warn!(
                "{}",
                tr!(
                    "cannot read how far the upgrade of the cluster is: {error}",
                    error = format_args!("{error:#}")
                )
            );
            None
        });
        Ok(Report { cluster, ..self })
    }
}
