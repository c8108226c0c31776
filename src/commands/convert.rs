//! `appliance convert`: from the profile simple to with-ca, as from the tutorial's first cluster to
//! its second.

use anyhow::{Result, bail};
use time::OffsetDateTime;

use super::{Outcome, ask, install};
use crate::cli::Convert;
use crate::nodespec::{Profile, Refused};
use crate::observe::records;
use crate::plan::{Plan, teardown};
use crate::sys::lock::Lock;
use crate::sys::root::Root;

/// Takes the node down and installs it anew.
pub fn run(arguments: &Convert, required_key: Option<&str>) -> Result<Outcome> {
    let root = Root::open(&arguments.install.root).map_err(Refused::because)?;
    let Some(state) = records::state(&root)? else {
        return Ok(Outcome::NotInstalled);
    };
    let machine = install::prepare(&install::request(&arguments.install), required_key)?;
    let wanted = machine.spec.profile.value;
    if state.profile != Profile::Simple.to_string() || wanted != Profile::WithCa {
        bail!(Refused {
            problems: vec![format!(
                "this node is of the profile {}, and {} is {wanted}: only a simple one becomes \
                 one with certificates (set the profile to with-ca)",
                state.profile, machine.spec.profile.origin
            )],
        });
    }
    let plan = teardown(state.shape()?, &stamp());
    tell(&plan);
    if arguments.install.dry_run {
        return Ok(Outcome::Done);
    }
    if !arguments.yes {
        ask()?;
    }
    if !root.is_live() {
        bail!(refused(
            "services can be stopped on the running system only"
        ));
    }
    {
        let _lock = Lock::take(&root)?;
        machine.take_down(&plan)?;
    }
    install::install(&machine, &arguments.install)
}

fn stamp() -> String {
    let now = OffsetDateTime::now_utc();
    let (hour, minute, second) = now.to_hms();
    format!("{}-{hour:02}{minute:02}{second:02}", now.date())
}

fn tell(plan: &Plan) {
    println!("To make this node one with certificates, this has to be done first:");
    for step in &plan.steps {
        println!("  {step}");
    }
    println!("Everything in the cluster is gone then: its data is put aside, and no longer used.");
}

fn refused(why: &str) -> Refused {
    Refused {
        problems: vec![why.to_owned()],
    }
}
