//! The node's side of an upgrade of the whole cluster: it asks whether it is its turn, gets the appliance from a master,
//! and runs it. A timer does it.

use core::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use time::OffsetDateTime;

use crate::apply::fetched;
use crate::clients::mtls::OwnCertificate;
use crate::components::{CALICO_CERTIFICATE, KUBELET_CLIENT};
use crate::join::client::Worker;
use crate::join::follow::{Offer, Reported};
use crate::join::registry;
use crate::join::rollout::{MOST_SAID, Stage};
use crate::join::turns::in_turn;
use crate::language::tr;
use crate::observe::records;
use crate::paths::{self, FETCHED_PROGRAM};
use crate::records::state::State;
use crate::sys::process::{Command, Output, Runner};
use crate::sys::progress::standard_error;
use crate::sys::retry::{Failure, Schedule, retried, transient};
use crate::sys::root::Root;

/// How long the masters may not answer while the appliance is fetched.
const PATIENCE: Duration = Duration::from_secs(300);
/// The longest pause between two attempts.
const PAUSE: Duration = Duration::from_secs(10);

/// A node that asks.
pub struct Follower<'a> {
    /// Its system.
    pub root: &'a Root,
    /// How to run programs.
    pub runner: &'a dyn Runner,
    /// The masters, also this one.
    pub masters: &'a [Ipv4Addr],
    /// The port of their join service.
    pub port: u16,
}

impl Follower<'_> {
    /// Asks, and upgrades this node if it is its turn. Returns what it did, in words.
    ///
    /// # Errors
    /// If no master answers, if the appliance cannot be fetched, or if the upgrade failed: then the masters know.
    pub fn follow(&self) -> Result<String> {
        let state = records::state(self.root)?.context(tr!("this machine is not a node"))?;
        let Some(offer) = self.ask(&state, None)? else {
            fetched::forget(self.root)?;
            return Ok(tr!("it is not this node's turn to upgrade"));
        };
        self.fetch(&state, &offer)?;
        let report = |stage, said| {
            let report = Reported {
                program: offer.program.clone(),
                stage,
                said,
            };
            self.ask(&state, Some(report)).map(drop)
        };
        report(Stage::Begun, None)?;
        log::info!("run the appliance {}", offer.program);
        let output = self.upgrade(&offer)?;
        if output.success() {
            report(Stage::Done, None)?;
            fetched::forget(self.root)?;
            return Ok(tr!("this node has the bundle of the masters"));
        }
        let said = end_of(output.stderr.trim());
        report(Stage::Failed, Some(said.clone()))?;
        bail!(tr!("the upgrade failed: {said}", said))
    }

    /// Asks whether it is this node's turn, and reports. A master reads the records itself.
    fn ask(&self, state: &State, report: Option<Reported>) -> Result<Option<Offer>> {
        if state.shape()?.role.is_master() {
            let rollouts = registry::rollouts(self.root)?;
            if let Some(report) = report {
                let now = OffsetDateTime::now_utc();
                let Reported {
                    program,
                    stage,
                    said,
                } = report;
                rollouts.report(&state.node, &program, stage, said, now)?;
            }
            return Ok(rollouts.offer(&state.node)?.as_ref().map(Offer::from));
        }
        let own = OwnCertificate::read(self.root, KUBELET_CLIENT)?;
        self.at_any_master(state, |master| {
            master.follow(&own.identity(), report.clone())
        })
        .map_err(Failure::into_error)
    }

    fn at_any_master<T>(
        &self,
        state: &State,
        ask: impl FnMut(&Worker<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut ask = ask;
        let trusted = self.root.read(paths::CA_CERTIFICATE).ok().flatten();
        let trusted = trusted.and_then(|pem| String::from_utf8(pem).ok());
        let address = state.address.parse().unwrap_or(Ipv4Addr::UNSPECIFIED);
        let others = self.masters.iter().filter(|master| **master != address);
        in_turn(others, |master| {
            ask(&Worker {
                name: &state.node,
                address,
                machine: None,
                master: *master,
                port: self.port,
                trusted: trusted.as_deref(),
            })
        })
    }

    /// Fetches the appliance, from where an earlier run stopped.
    fn fetch(&self, state: &State, offer: &Offer) -> Result<()> {
        if fetched::is_whole(self.root, &offer.program)? {
            return Ok(());
        }
        let own = OwnCertificate::read(self.root, CALICO_CERTIFICATE)?;
        let progress = standard_error("fetch", offer.size);
        let mut from = fetched::size(self.root, &offer.program)?;
        progress.advance(from);
        while from < offer.size {
            let until = std::time::Instant::now() + PATIENCE;
            let bytes = retried("fetching", Schedule::until(until, PAUSE), || {
                let part = |master: &Worker<'_>| master.part(&own.identity(), &offer.program, from);
                // A master that is restarting now may have the appliance later.
                self.at_any_master(state, part)
                    .map_err(|failure| transient(failure.into_error()))
            });
            let bytes = bytes.map_err(Failure::into_error)?;
            if bytes.is_empty() {
                bail!(tr!(
                    "the masters sent no more bytes after {from} of {}",
                    offer.size,
                    from
                ));
            }
            fetched::append(self.root, &offer.program, &bytes)?;
            from += bytes.len() as u64;
            progress.advance(bytes.len() as u64);
        }
        match fetched::finish(self.root, &offer.program)? {
            true => Ok(()),
            false => bail!(tr!(
                "the masters sent other bytes than those of the appliance {}",
                offer.program
            )),
        }
    }

    fn upgrade(&self, offer: &Offer) -> Result<Output> {
        let program = self.root.resolve(FETCHED_PROGRAM)?;
        let limit = format!("--limit={}s", offer.limit);
        let arguments = [
            "upgrade",
            "--yes",
            // As at a boot.
            "--role=auto",
            "--metadata-timeout=600",
            // The master that leads has one.
            "--without-backup",
            "--wait",
            &limit,
        ];
        self.runner
            .run(&Command::new(&program.to_string_lossy(), &arguments))
    }
}

/// The end of a text, as long as a report may be.
fn end_of(text: &str) -> String {
    let mut start = text.len().saturating_sub(MOST_SAID);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text[start..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_the_end_of_what_was_said() {
        assert_eq!(end_of("short"), "short");
        let long = "ä".repeat(MOST_SAID);
        assert!(end_of(&long).len() <= MOST_SAID);
    }
}
