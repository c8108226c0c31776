//! `appliance certs rotate-service-accounts`: replaces the key that signs the tokens of service accounts.

use anyhow::Result;

use super::authority::is_under_way;
use super::install::{Prepared, installed};
use super::token::master;
use super::{Outcome, print};
use crate::cli::{NodeInputs, Output};
use crate::install::Machine;
use crate::language::tr;
use crate::paths::NEXT_SERVICE_ACCOUNT;
use crate::rotate::accounts::here::Here;
use crate::rotate::accounts::tokens::Seen;
use crate::rotate::accounts::{self, Report, Stage, Wish};
use crate::rotate::masters::{Subject, of};

/// Goes on with a rotation as far as possible.
pub fn rotate(this: &Prepared<'_>, wish: Wish, output: Output) -> Result<Outcome> {
    master()?;
    let (machine, _lock) = this.locked()?;
    let report = go_on(machine, wish)?;
    print::result(output, &report, |report| {
        print::keys::accounts(report, false);
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
    let masters = of(&machine.root, Subject::ServiceAccounts)?;
    let report = accounts::show(&Here(&machine), &*masters, &Seen::new(&machine)?)?;
    print::result(output, &report, |report| {
        print::keys::accounts(report, true);
    })?;
    Ok(Outcome::Done)
}

fn go_on(machine: &Machine, wish: Wish) -> Result<Report> {
    let masters = of(&machine.root, Subject::ServiceAccounts)?;
    accounts::rotate(&Here(machine), &*masters, &Seen::new(machine)?, wish)
}

/// Continues a rotation that another master began, if there is one. While etcd does not answer, there is only a
/// warning: this runs daily, beside the renewal of certificates, whose result is printed.
pub fn follow(this: &Prepared<'_>) -> Result<()> {
    let continued = Wish {
        begin: false,
        without_pods: false,
    };
    if is_under_way(Subject::ServiceAccounts, Some(NEXT_SERVICE_ACCOUNT))? {
        let (machine, _lock) = this.locked()?;
        let report = go_on(machine, continued)?;
        log::info!(
            "{}",
            tr!("rotation of the key of service accounts: {}", report.stage)
        );
    }
    Ok(())
}
