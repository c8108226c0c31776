//! Waits for a node that was installed, and notes when each of its services became healthy.

use std::time::Duration;

use anyhow::Result;

use super::Machine;
use crate::apply::timeline::Healthy;
use crate::status::{self, Goal, InstalledNode, Report};

/// Waits until the node of `machine` is as `goal` says, for `limit` at most, and returns its last report.
pub fn until(machine: &Machine, goal: Goal, limit: Duration) -> Result<Report> {
    let state = machine.state();
    let node = InstalledNode::of(&machine.root, machine.runner, &state)?;
    let mut healthy = Healthy::of(&machine.root, &machine.watch);
    let mut is_first = true;
    let report = status::until(&node, goal, limit, &mut |report| {
        let services = report.services.iter();
        let well = services.filter(|service| service.problem.is_none());
        let well: Vec<&str> = well.map(|service| service.name.as_str()).collect();
        match std::mem::replace(&mut is_first, false) {
            true => healthy.already(&well),
            false => well.iter().for_each(|service| healthy.is(service)),
        }
    });
    healthy.keep();
    report
}
