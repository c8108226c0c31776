//! `appliance addons` and `appliance images`, as the node's units run them.

use anyhow::Result;

use super::{Outcome, print};
use crate::apply::{addons, images};
use crate::cli::{Addons, Images, Output};
use crate::language::tr;
use crate::observe::software::docker_of_node;
use crate::observe::user::check_user;
use crate::sys::process::System;
use crate::sys::root::Root;

/// Applies add-ons and workloads, and waits until they are available.
pub fn run(command: &Addons, output: Output) -> Result<Outcome> {
    let root = Root::open("/".as_ref())?;
    check_user(&root)?;
    match command {
        Addons::Apply => addons::settle(&root, &System)?,
    }
    print::done(tr!("all add-ons and workloads are applied"), output)?;
    Ok(Outcome::Done)
}

/// Loads the images that are missing in docker.
pub fn run_images(command: &Images, output: Output) -> Result<Outcome> {
    let root = Root::open("/".as_ref())?;
    check_user(&root)?;
    match command {
        Images::Ensure { waiting } => {
            let Some(docker) = docker_of_node(&root)? else {
                // The timer may run before the installation that started it has ended.
                print::done(
                    tr!("this machine is not installed yet; nothing to load"),
                    output,
                )?;
                return Ok(Outcome::Done);
            };
            let found = images::ensure(&root, &System, &docker, waiting.patience())?;
            print::done(found, output)?;
        }
    }
    Ok(Outcome::Done)
}
