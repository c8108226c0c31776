//! `appliance secrets`: the key that encrypts secrets in etcd.

use anyhow::Result;

use super::authority::is_under_way;
use super::install::{Prepared, installed};
use super::token::master;
use super::{Outcome, print};
use crate::cli::{NodeInputs, Output, Secrets};
use crate::language::tr;
use crate::rotate::here::Here;
use crate::rotate::masters::{Masters, Subject, of};
use crate::rotate::secrets::{self, Report, State};
use crate::sys::root::Root;

/// Shows or rotates the key.
pub fn run(command: &Secrets, required_key: Option<&str>, output: Output) -> Result<Outcome> {
    master()?;
    match command {
        Secrets::Rotate {
            only_continue,
            inputs,
            waiting,
        } => {
            let this = Prepared::new(inputs, *waiting, required_key);
            let report = rotate(&this, !only_continue)?;
            print::result(output, &report, print::keys::rotation)?;
            Ok(match report.state {
                State::Complete | State::Idle => Outcome::Done,
                State::Waiting => Outcome::Waiting,
            })
        }
        Secrets::Show { inputs } => show(inputs, required_key, output),
    }
}

fn rotate(this: &Prepared<'_>, begin: bool) -> Result<Report> {
    let (machine, _lock) = this.locked()?;
    let masters = masters(&machine.root)?;
    secrets::rotate(&Here::new(machine)?, &*masters, begin)
}

fn show(inputs: &NodeInputs, required_key: Option<&str>, output: Output) -> Result<Outcome> {
    let machine = installed(inputs, required_key)?;
    let overview = secrets::show(&Here::new(&machine)?, &*masters(&machine.root)?)?;
    print::result(output, &overview, print::keys::encryption)?;
    Ok(Outcome::Done)
}

fn masters(root: &Root) -> Result<Box<dyn Masters>> {
    of(root, Subject::Encryption)
}

/// Continues a rotation that another master began, if there is one. While etcd does not answer, there is only a
/// warning: this runs daily, beside the renewal of certificates, whose result is printed.
pub fn follow(this: &Prepared<'_>) -> Result<()> {
    if !is_under_way(Subject::Encryption, None)? {
        return Ok(());
    }
    let report = rotate(this, false)?;
    let keys = report.keys.join(", then ");
    match report.state {
        State::Waiting => log::info!(
            "{}",
            tr!(
                "rotation of the key of secrets: this master has {keys}; these masters have to follow: {}",
                report.behind.join(", "),
                keys
            )
        ),
        _ => log::info!(
            "{}",
            tr!(
                "rotation of the key of secrets: secrets are encrypted with {keys}",
                keys
            )
        ),
    }
    Ok(())
}
