//! `appliance certs rotate-ca`: replaces the authorities of the cluster and of etcd.

use anyhow::Result;

use super::install::{Prepared, RENEWAL, installed};
use super::token::master;
use super::{Outcome, print};
use crate::cli::{NodeInputs, Output};
use crate::nodespec::{Profile, Role};
use crate::observe::records;
use crate::rotate::authority::{self, Stage, Wish};
use crate::rotate::cluster::Seen;
use crate::rotate::node;
use crate::sys::root::Root;

/// Goes on with a rotation as far as possible.
pub fn rotate(this: &Prepared<'_>, wish: Wish, output: Output) -> Result<Outcome> {
    master()?;
    let (machine, _lock) = this.locked()?;
    let report = authority::rotate(machine, &Seen(machine), wish)?;
    print::result(output, &report, |report| {
        print::keys::authorities(report, false);
    })?;
    Ok(match report.stage {
        Stage::None => Outcome::Done,
        _ => Outcome::Waiting,
    })
}

/// Shows how far a rotation is, and what has to follow.
pub fn show(inputs: &NodeInputs, required_key: Option<&str>, output: Output) -> Result<Outcome> {
    master()?;
    let machine = installed(inputs, required_key)?;
    let report = authority::show(&machine, &Seen(&machine))?;
    print::result(output, &report, |report| {
        print::keys::authorities(report, true);
    })?;
    Ok(Outcome::Done)
}

/// On a worker, takes the authorities that the master trusts. If that fails, there is only a warning: the renewal of
/// certificates goes on.
pub fn follow(this: &Prepared<'_>) -> Result<()> {
    let root = Root::open("/".as_ref())?;
    let is_worker = records::state(&root)?.is_some_and(|state| {
        state.role == Role::Worker.to_string() && state.profile == Profile::WithCa.to_string()
    });
    if !is_worker {
        return Ok(());
    }
    match take(this) {
        Ok(true) => log::info!("this node has taken the authorities that the master trusts"),
        Ok(false) => {}
        Err(error) => log::warn!("cannot take the authorities that the master trusts: {error:#}"),
    }
    Ok(())
}

fn take(this: &Prepared<'_>) -> Result<bool> {
    let (machine, _lock) = this.locked()?;
    node::follow(machine, RENEWAL)
}
