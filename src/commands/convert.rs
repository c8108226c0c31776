//! `appliance convert`: changes a node from profile simple to with-ca, like the step from the
//! tutorial's first cluster to its second.

use anyhow::{Result, bail};

use super::documents::Converted;
use super::inputs::request;
use super::{Outcome, ask, install, not_installed, print};
use crate::cli::{Convert, Output};
use crate::install::prepare;
use crate::language::tr;
use crate::nodespec::{Profile, Refused};
use crate::observe::records;
use crate::plan::Plan;
use crate::records::run::CONVERT;
use crate::removal::teardown;
use crate::sys::clock::stamp;
use crate::sys::out::say;
use crate::sys::root::Root;

/// Takes the node down, and installs it again with certificates.
pub fn run(arguments: &Convert, required_key: Option<&str>, output: Output) -> Result<Outcome> {
    let root = Root::open(&arguments.install.wanted.root).map_err(Refused::because)?;
    let Some(state) = records::state(&root)? else {
        return Err(not_installed(&root));
    };
    let machine = prepare(&request(&arguments.install.wanted, required_key))?;
    let wanted = machine.spec.profile.value;
    if state.profile != Profile::Simple.to_string() || wanted != Profile::WithCa {
        bail!(Refused::new(tr!(
            "this node has profile {}, and {} says {wanted}; `convert` only changes a node \
                 of profile simple to with-ca: run it on such a node with `--profile with-ca`",
            state.profile,
            machine.spec.profile.origin,
            wanted
        )));
    }
    machine.warn_about_settings();
    machine.preflight(&arguments.install.wanted.ignore.checks)?;
    let plan = Plan::of_removal(teardown(state.shape()?, &stamp()));
    let teardown = plan.words();
    if arguments.install.dry_run {
        let document = Converted {
            teardown,
            installation: None,
        };
        print::result(output, &document, |document| tell(&document.teardown))?;
        return Ok(Outcome::Done);
    }
    if output == Output::Text {
        tell(&teardown);
    }
    if !arguments.yes {
        ask()?;
    }
    if !root.is_live() {
        bail!(Refused::new(tr!(
            "`convert` has to stop services, so it works only on the running system; run it \
             there, without `--root`"
        )));
    }
    // Before the cluster is taken down.
    machine.payload.refuse_changed()?;
    let lock = install::lock(&root, &arguments.install)?;
    machine.take_down(&plan, Some(CONVERT))?;
    let (installation, outcome) = install::install_locked(&machine, &arguments.install, lock)?;
    match output {
        Output::Text => install::tell(&installation)?,
        Output::Json => {
            let document = Converted {
                teardown,
                installation: Some(installation),
            };
            print::result(output, &document, |_| ())?;
        }
    }
    Ok(outcome)
}

fn tell(teardown: &[String]) {
    say!(
        "{}",
        tr!("To change this node to profile with-ca, these steps come first:")
    );
    for step in teardown {
        say!("  {step}");
    }
    say!(
        "{}",
        tr!(
            "The new cluster starts empty: etcd's data is kept under its new name, but not used any \
         more."
        )
    );
}
