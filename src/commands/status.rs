//! `appliance status`.

use anyhow::{Context, Result};
use time::OffsetDateTime;

use super::preflight::check_user;
use super::{Outcome, print};
use crate::apply::docker::Docker;
use crate::apply::software::docker_source;
use crate::apply::state::State;
use crate::bundle::manifest::Manifest;
use crate::cli::Status;
use crate::desired::BUNDLES;
use crate::sys::process::{Runner, System};
use crate::sys::root::Root;
use crate::verify::{self, Asker, Report};

/// Asks the node and prints what it says.
pub fn run(arguments: &Status) -> Result<Outcome> {
    let root = Root::open("/".as_ref())?;
    check_user(&root)?;
    let report = match State::read(&root)? {
        Some(state) => {
            let masters = verify::ask_masters(&root, &state).unwrap_or_else(|error| {
                log::warn!("the masters cannot be asked: {error:#}");
                None
            });
            report(&root, &System, &state)?.with_masters(masters)
        }
        None => Report::not_installed(),
    };
    print::report(&report, arguments.output)?;
    Ok(report.overall.into())
}

/// What the bundle in use holds.
pub fn manifest(root: &Root, state: &State) -> Result<Manifest> {
    let path = format!("{BUNDLES}/{}/manifest.json", state.digest);
    let manifest = root
        .read(&path)?
        .with_context(|| format!("{path} is missing; run `appliance install` to mend it"))?;
    serde_json::from_slice(&manifest).with_context(|| path.clone())
}

/// The docker of this node, if it is one.
pub fn docker_of_node(root: &Root) -> Result<Option<Docker>> {
    let Some(state) = State::read(root)? else {
        return Ok(None);
    };
    let manifest = manifest(root, &state)?;
    Ok(Some(Docker::of(docker_source(root, &manifest)?)))
}

/// What the installed node says of itself now.
pub fn report(root: &Root, runner: &dyn Runner, state: &State) -> Result<Report> {
    let manifest = manifest(root, state)?;
    let docker = Docker::of(docker_source(root, &manifest)?);
    Asker {
        root,
        runner,
        docker: &docker,
    }
    .ask(state, &manifest, OffsetDateTime::now_utc())
}
