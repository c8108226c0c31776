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

/// Checks the node and prints the report.
pub fn run(arguments: &Status) -> Result<Outcome> {
    let root = Root::open("/".as_ref())?;
    check_user(&root)?;
    let report = match State::read(&root)? {
        Some(state) => {
            let masters = verify::ask_masters(&root, &state).unwrap_or_else(|error| {
                log::warn!("cannot ask the masters: {error:#}");
                None
            });
            let node = Node::of(&root, &System, &state)?;
            node.with_cluster(node.report()?)?.with_masters(masters)
        }
        None => Report::not_installed(),
    };
    print::report(&report, arguments.output)?;
    Ok(report.overall.into())
}

/// The manifest of the bundle in use.
pub fn manifest(root: &Root, state: &State) -> Result<Manifest> {
    let path = format!("{BUNDLES}/{}/manifest.json", state.digest);
    let manifest = root
        .read(&path)?
        .with_context(|| format!("{path} is missing; run `appliance install` to repair it"))?;
    serde_json::from_slice(&manifest).with_context(|| path.clone())
}

/// The docker of this node, if this machine is a node.
pub fn docker_of_node(root: &Root) -> Result<Option<Docker>> {
    let Some(state) = State::read(root)? else {
        return Ok(None);
    };
    Ok(Some(Node::of(root, &System, &state)?.docker))
}

/// An installed node that can be checked repeatedly.
pub struct Node<'a> {
    root: &'a Root,
    runner: &'a dyn Runner,
    state: &'a State,
    manifest: Manifest,
    docker: Docker,
}

impl<'a> Node<'a> {
    /// The node of this state.
    pub fn of(root: &'a Root, runner: &'a dyn Runner, state: &'a State) -> Result<Node<'a>> {
        let manifest = manifest(root, state)?;
        Ok(Node {
            docker: Docker::of(docker_source(root, &manifest)?),
            root,
            runner,
            state,
            manifest,
        })
    }

    fn asker(&self) -> Asker<'_> {
        Asker {
            root: self.root,
            runner: self.runner,
            docker: &self.docker,
        }
    }

    /// The present report of the node.
    pub fn report(&self) -> Result<Report> {
        let now = OffsetDateTime::now_utc();
        self.asker().ask(self.state, &self.manifest, now)
    }

    /// The report with the state of the cluster around it.
    pub fn with_cluster(&self, report: Report) -> Result<Report> {
        let now = OffsetDateTime::now_utc();
        Ok(report.with_cluster(self.asker().ask_cluster(self.state, now)?))
    }
}
