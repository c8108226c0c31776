//! `appliance etcd`: the databases of etcd.

use anyhow::{Result, bail};

use super::{Outcome, check_node, print};
use crate::cli::{Etcd, Output};
use crate::language::tr;
use crate::maintenance::etcd::{Cluster, EtcdReport};
use crate::nodespec::{Refused, Role};
use crate::sys::lock::Lock;
use crate::sys::root::Root;

/// Shows or maintains the databases.
pub fn run(command: &Etcd, output: Output) -> Result<Outcome> {
    let root = Root::open("/".as_ref())?;
    let state = check_node(&root)?;
    if state.role == Role::Worker.to_string() {
        bail!(Refused::new(tr!(
            "etcd runs on masters; run this command on one of them"
        )));
    }
    let cluster = Cluster::of(&root, &state)?;
    let report = match command {
        Etcd::Status => cluster.report()?,
        Etcd::Maintain { if_due, waiting } => {
            let now = if_due.then(|| cluster.report()).transpose()?;
            match now.filter(|report| !report.is_due()) {
                Some(report) => report,
                None => {
                    let _lock = Lock::take(&root, waiting.patience())?;
                    cluster.maintain(&|step| log::info!("{step}"))?
                }
            }
        }
    };
    print::result(output, &report, print::etcd::report)?;
    Ok(outcome(&report))
}

fn outcome(report: &EtcdReport) -> Outcome {
    match report.is_sound() {
        true => Outcome::Done,
        false => Outcome::Degraded,
    }
}
