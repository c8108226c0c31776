//! `appliance secrets`: the key that encrypts secrets in etcd.

use anyhow::Result;

use super::install::{Prepared, installed};
use super::token::master;
use super::{Outcome, print};
use crate::cli::{NodeInputs, Output, Secrets};
use crate::rotate::here::Here;
use crate::rotate::masters::{Alone, Several};
use crate::rotate::secrets::{self, Masters, State};
use crate::sys::out::say;
use crate::sys::root::Root;

/// Shows or rotates the key.
pub fn run(command: &Secrets, required_key: Option<&str>) -> Result<Outcome> {
    master()?;
    match command {
        Secrets::Rotate {
            only_continue,
            output,
            inputs,
            waiting,
        } => {
            let this = Prepared::new(inputs, *waiting, required_key);
            rotate(&this, !only_continue, *output)
        }
        Secrets::Show { output, inputs } => show(inputs, required_key, *output),
    }
}

fn rotate(this: &Prepared<'_>, begin: bool, output: Output) -> Result<Outcome> {
    let (machine, _lock) = this.locked()?;
    let masters = masters(&machine.root)?;
    let report = secrets::rotate(&Here::new(machine)?, &*masters, begin)?;
    match output {
        Output::Text => print::keys::rotation(&report),
        Output::Json => say!("{}", serde_json::to_string_pretty(&report)?),
    }
    Ok(match report.state {
        State::Complete | State::Idle => Outcome::Done,
        State::Waiting => Outcome::Waiting,
    })
}

fn show(inputs: &NodeInputs, required_key: Option<&str>, output: Output) -> Result<Outcome> {
    let machine = installed(inputs, required_key)?;
    let overview = secrets::show(&Here::new(&machine)?, &*masters(&machine.root)?)?;
    match output {
        Output::Text => print::keys::encryption(&overview),
        Output::Json => say!("{}", serde_json::to_string_pretty(&overview)?),
    }
    Ok(Outcome::Done)
}

fn masters(root: &Root) -> Result<Box<dyn Masters>> {
    Ok(match Several::open(root)? {
        Some(several) => Box::new(several),
        None => Box::<Alone>::default(),
    })
}

/// Continues a rotation that another master began, if there is one. While etcd does not answer, there is only a
/// warning: this runs daily, beside the renewal of certificates.
pub fn follow(this: &Prepared<'_>) -> Result<()> {
    let root = Root::open("/".as_ref())?;
    let Ok(Some(several)) = Several::open(&root) else {
        return Ok(());
    };
    match several.agreed() {
        Ok(None) => Ok(()),
        Ok(Some(_)) => rotate(this, false, Output::Text).map(drop),
        Err(error) => {
            log::warn!("cannot find out whether a rotation of keys is under way: {error:#}");
            Ok(())
        }
    }
}
