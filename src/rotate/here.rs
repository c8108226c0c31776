//! The master on which a rotation runs.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reqwest::blocking::Client;

use super::secrets::{HEAD, Node, SECRETS, Stored};
use crate::clients::api::Api;
use crate::clients::{etcd, kubectl, mtls, systemd};
use crate::components::{self, ETCD_CLIENT};
use crate::enroll::Joining;
use crate::install::Machine;
use crate::language::tr;
use crate::nodespec::Refused;
use crate::nodespec::ports::ETCD_CLIENTS;
use crate::paths::{AUTHORITIES, ENCRYPTION};
use crate::pki::Secret;
use crate::plan::{Step, UnitState};
use crate::records::run::RENEW;
use crate::sys::process::Runner;
use crate::sys::retry::transient;
use crate::sys::waiting::awaited;

/// How long etcd may take to answer.
const ANSWER: Duration = Duration::from_secs(60);
/// How long the API server may take to come up.
const COMING_UP: Duration = Duration::from_secs(600);
/// The longest pause between two looks at it.
const PAUSE: Duration = Duration::from_secs(2);
/// The service that encrypts.
const API_SERVER: &str = "kube-apiserver";

/// This machine, with a client of its member of etcd and one of its API server.
pub struct Here<'a> {
    machine: &'a Machine,
    etcd: Client,
    api: Api,
}

impl<'a> Here<'a> {
    /// The master `machine`.
    pub fn new(machine: &'a Machine) -> Result<Here<'a>> {
        Ok(Here {
            machine,
            etcd: mtls::client(&machine.root, ETCD_CLIENT, ANSWER)?,
            api: Api::here(&machine.root)?,
        })
    }
}

impl Node for Here<'_> {
    fn file(&self) -> Result<Secret> {
        let file = self.machine.root.read(ENCRYPTION)?;
        let file = file.with_context(|| {
            tr!(
                "{ENCRYPTION} is missing; run `appliance install`",
                ENCRYPTION
            )
        })?;
        Ok(Secret::new(file))
    }

    fn take(&self, file: &Secret) -> Result<bool> {
        let machine = self.machine;
        let mut identity = machine.identity(Joining::Pretended)?;
        identity.encryption = Some(file.clone());
        let planned = machine.plan(&identity)?;
        if let Some(step) = planned.plan.writes_beside(&[ENCRYPTION]) {
            bail!(refused(step, "keys"));
        }
        let readers = readers(machine, &[ENCRYPTION]);
        let planned = planned.only(|plan| plan.of_file(ENCRYPTION, &readers));
        machine.apply(&planned, RENEW)?;
        if machine.root.is_live() {
            until_up(machine.runner)?;
        }
        Ok(!planned.plan.is_empty())
    }

    fn stored(&self) -> Result<Vec<Stored>> {
        let server = format!("https://{}:{ETCD_CLIENTS}", *self.machine.spec.address);
        let heads = etcd::heads(&self.etcd, &server, SECRETS, HEAD)?;
        let stored = heads.iter().map(|(key, head)| Stored::read(key, head));
        stored.collect()
    }

    fn rewrite(&self, secret: &Stored) -> Result<()> {
        self.api.rewrite_secret(&secret.namespace, &secret.name)
    }
}

/// The services of the master that read one of the `files`.
pub fn readers(machine: &Machine, files: &[&str]) -> Vec<&'static str> {
    components::services(machine.spec.shape())
        .into_iter()
        .filter(|service| service.files.iter().any(|file| files.contains(file)))
        .map(|service| service.name)
        .collect()
}

/// Refuses to begin while something else than `what` would change on the master.
pub fn refuse_other_changes(machine: &Machine, what: &str) -> Result<()> {
    let plan = machine.plan(&machine.identity(Joining::Pretended)?)?.plan;
    match plan.writes_beside(&[AUTHORITIES]) {
        None => Ok(()),
        Some(step) => bail!(refused(step, what)),
    }
}

fn refused(step: &Step, what: &str) -> Refused {
    Refused::new(tr!(
        "this master is not as its settings say ({step}); run `appliance install` first, so that only the {what} \
             change",
        step,
        what
    ))
}

/// Waits until systemd has started the API server and it is healthy.
pub fn until_up(runner: &dyn Runner) -> Result<()> {
    awaited("the API server", COMING_UP, PAUSE, || {
        runs(runner, API_SERVER).map_err(transient)?;
        kubectl::ready(runner).map_err(transient)
    })
}

/// Waits until systemd has started the service `name`.
pub fn until_running(runner: &dyn Runner, name: &str) -> Result<()> {
    awaited(name, COMING_UP, PAUSE, || {
        runs(runner, name).map_err(transient)
    })
}

fn runs(runner: &dyn Runner, name: &str) -> Result<()> {
    let units = systemd::show(runner, &[name])?;
    let unit = units.get(name).cloned().unwrap_or_default();
    if unit.state() != UnitState::Running || unit.is_coming_up() {
        bail!(tr!(
            "{name} is {}; see `journalctl -u {name}`",
            unit.active_state,
            name
        ));
    }
    Ok(())
}
