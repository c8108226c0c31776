//! `appliance certs rotate-ca`: replaces the authorities of the cluster and of etcd.

use std::path::{Path, absolute};

use anyhow::Result;

use super::install::{Prepared, RENEWAL, installed};
use super::token::master;
use super::{Outcome, print};
use crate::cli::{NodeInputs, Output};
use crate::enroll::own_authority;
use crate::install::Machine;
use crate::language::tr;
use crate::nodespec::{Profile, Refused, Role};
use crate::observe::records;
use crate::paths::NEXT_AUTHORITY_KEY;
use crate::pki::GivenAuthority;
use crate::rotate::authority::{self, Around, Report, Stage, Wish};
use crate::rotate::cluster::Seen;
use crate::rotate::masters::{self, Several, Subject};
use crate::rotate::{members, node};
use crate::sys::process::argument;
use crate::sys::root::Root;

/// What the operator asks for: to begin, to go on without pods, and an authority of the operator's own, with its key.
pub struct Asked<'a> {
    /// Whether to begin a rotation if none is under way.
    pub begin: bool,
    /// Whether to go on although pods do not trust the new authority.
    pub without_pods: bool,
    /// The files of the operator's own authority: certificates and key.
    pub own: Option<(&'a Path, &'a Path)>,
}

/// Goes on with a rotation as far as possible.
pub fn rotate(this: &Prepared<'_>, asked: &Asked<'_>, output: Output) -> Result<Outcome> {
    master()?;
    let (machine, _lock) = this.locked()?;
    let report = go_on(machine, asked)?;
    print::result(output, &report, |report| {
        print::keys::authorities(report, false);
    })?;
    Ok(match report.stage {
        Stage::None => Outcome::Done,
        _ => Outcome::Waiting,
    })
}

fn given(root: &Root, asked: &Asked<'_>) -> Result<Option<GivenAuthority>> {
    let Some((certificate, key)) = asked.own else {
        return Ok(None);
    };
    let (certificate, key) = (absolute(certificate)?, absolute(key)?);
    own_authority(root, argument(&certificate)?, argument(&key)?).map(Some)
}

fn go_on(machine: &Machine, asked: &Asked<'_>) -> Result<Report> {
    let wish = Wish {
        begin: asked.begin,
        without_pods: asked.without_pods,
        given: given(&machine.root, asked).map_err(Refused::because)?,
    };
    around(machine, |around| authority::rotate(machine, around, &wish))
}

fn around<T>(machine: &Machine, ask: impl FnOnce(Around<'_>) -> Result<T>) -> Result<T> {
    let masters = masters::of(&machine.root, Subject::Authorities)?;
    let members = members::of(&machine.root)?;
    ask(Around {
        cluster: &Seen(machine),
        masters: &*masters,
        members: &*members,
    })
}

/// Shows how far a rotation is, and what has to follow.
pub fn show(inputs: &NodeInputs, required_key: Option<&str>, output: Output) -> Result<Outcome> {
    master()?;
    let machine = installed(inputs, required_key)?;
    let report = around(&machine, |around| authority::show(&machine, around))?;
    print::result(output, &report, |report| {
        print::keys::authorities(report, true);
    })?;
    Ok(Outcome::Done)
}

/// On a worker, takes the authorities that the master trusts. If that fails now, there is only a warning. Returns the
/// error if no master accepts this node any longer: the renewal of certificates goes on, and then the command fails.
pub fn follow(this: &Prepared<'_>) -> Result<Option<anyhow::Error>> {
    let root = Root::open("/".as_ref())?;
    let is_worker = records::state(&root)?.is_some_and(|state| {
        state.role == Role::Worker.to_string() && state.profile == Profile::WithCa.to_string()
    });
    if !is_worker {
        return Ok(None);
    }
    let fails = |error: &anyhow::Error| {
        log::warn!(
            "{}",
            tr!(
                "cannot take the authorities that the master trusts: {error}",
                error = format_args!("{error:#}")
            )
        );
    };
    let (machine, _lock) = match this.locked() {
        Ok(locked) => locked,
        Err(error) => {
            fails(&error);
            return Ok(None);
        }
    };
    match node::follow(machine, RENEWAL) {
        Ok(true) => log::info!(
            "{}",
            tr!("this node has taken the authorities that the master trusts")
        ),
        Ok(false) => {}
        Err(error) if error.is::<Refused>() => return Ok(Some(error)),
        Err(error) => fails(&error),
    }
    Ok(None)
}

/// On one of several masters, continues a rotation that another one began, if there is one. While etcd does not answer,
/// there is only a warning: this runs daily, beside the renewal of certificates.
pub fn follow_masters(this: &Prepared<'_>) -> Result<()> {
    let continued = Asked {
        begin: false,
        without_pods: false,
        own: None,
    };
    if is_under_way(Subject::Authorities, Some(NEXT_AUTHORITY_KEY))? {
        let (machine, _lock) = this.locked()?;
        let report = go_on(machine, &continued)?;
        log::info!("{}", tr!("rotation of the authorities: {}", report.stage));
    }
    Ok(())
}

/// Whether this is one of several masters, and a rotation is under way, or has left the file `left` here. While etcd does
/// not answer, there is only a warning.
pub fn is_under_way(subject: Subject, left: Option<&str>) -> Result<bool> {
    let root = Root::open("/".as_ref())?;
    let Ok(Some(several)) = Several::open(&root, subject) else {
        return Ok(false);
    };
    let is_under_way = several.is_under_way(left);
    Ok(is_under_way.unwrap_or_else(|error| {
        let what = subject.name();
        log::warn!(
            "{}",
            tr!(
                "cannot find out whether a rotation is under way ({what}): {error}",
                error = format_args!("{error:#}"),
                what
            )
        );
        false
    }))
}
