//! `appliance kubectl`, `etcdctl`, `calicoctl` and `logs`: this process becomes the program.

use std::env;

use anyhow::{Result, bail};

use super::{Outcome, check_node};
use crate::cli::{Logs, Passed};
use crate::clients::for_people;
use crate::components::{self, BOOT_UNIT};
use crate::language::tr;
use crate::nodespec::{Refused, Shape};
use crate::sys::process::Replacement;
use crate::sys::root::Root;

/// What people call the unit that installs the node at each boot.
const INSTALL: &str = "install";

/// Becomes kubectl.
pub fn kubectl(passed: &Passed) -> Result<Outcome> {
    of_master()?;
    Err(for_people::kubectl(&passed.arguments).run())
}

/// Becomes etcdctl.
pub fn etcdctl(passed: &Passed) -> Result<Outcome> {
    let shape = of_master()?;
    let api = env::var("ETCDCTL_API").ok();
    Err(for_people::etcdctl(shape.profile, api.as_deref(), &passed.arguments).run())
}

/// Becomes calicoctl.
pub fn calicoctl(passed: &Passed) -> Result<Outcome> {
    of_node()?;
    Err(for_people::calicoctl(&passed.arguments).run())
}

/// Becomes journalctl.
pub fn logs(logs: &Logs) -> Result<Outcome> {
    let shape = of_node()?;
    let mut arguments = vec![format!("--lines={}", logs.lines)];
    for unit in units(shape, &logs.services)? {
        arguments.push(format!("--unit={unit}"));
    }
    arguments.extend(logs.since.iter().map(|since| format!("--since={since}")));
    if logs.follow {
        arguments.push("--follow".to_owned());
    }
    let arguments = arguments.into_iter().map(Into::into).collect();
    Err(Replacement::new("journalctl", arguments).run())
}

fn of_node() -> Result<Shape> {
    check_node(&Root::open("/".as_ref())?)?.shape()
}

fn of_master() -> Result<Shape> {
    let shape = of_node()?;
    if !shape.role.is_master() {
        bail!(Refused::new(tr!(
            "this node is a worker, and has no credentials for that; run this command on a master"
        )));
    }
    Ok(shape)
}

/// The units of these services of a node; of all its services if none is named.
fn units(shape: Shape, names: &[String]) -> Result<Vec<String>> {
    let services = components::services(shape);
    let install = (INSTALL, vec![BOOT_UNIT.to_owned()]);
    let all = services
        .iter()
        .map(|service| (service.name, service.units()));
    let all: Vec<(&str, Vec<String>)> = all.chain([install]).collect();
    if names.is_empty() {
        return Ok(all.into_iter().flat_map(|(_, units)| units).collect());
    }
    let mut wanted = Vec::new();
    for name in names {
        let name = name.trim_end_matches(".service").trim_end_matches(".timer");
        let found = all
            .iter()
            .find(|(known, _)| known.trim_end_matches(".timer") == name);
        let Some((_, units)) = found else {
            let known: Vec<&str> = all
                .iter()
                .map(|(name, _)| name.trim_end_matches(".timer"))
                .collect();
            bail!(Refused::new(tr!(
                "this node has no service {name}; it has {}",
                known.join(", "),
                name = format_args!("{name:?}")
            )));
        };
        wanted.extend(units.clone());
    }
    Ok(wanted)
}
