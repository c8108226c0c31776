//! `appliance install`: sources → specification → keys and certificates → plan → apply → status.

use std::cell::OnceCell;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use time::OffsetDateTime;

use super::documents::Installed;
use super::inputs::{request, typed};
use super::plan;
use super::print::plan::NewFiles;
use super::token::refuse_early;
use super::{Outcome, not_installed, print};
use crate::apply::{brought, leftovers};
use crate::cli::{Install, NodeInputs, Output, Wait, Waiting};
use crate::components::BOOT_UNIT;
use crate::enroll::{self, Joining};
use crate::install::{Machine, Request, prepare, settle_clock, until};
use crate::language::tr;
use crate::nodespec::{Inputs, Profile, Refused, wrong_clock};
use crate::observe::records;
use crate::observe::user::check_user;
use crate::plan::Plan;
use crate::records::run::{INSTALL, RENEW};
use crate::status::Report;
use crate::sys::lock::{self, Lock, Patience};
use crate::sys::notify;
use crate::sys::process::System;
use crate::sys::root::Root;
use crate::upgrade::{self, Rollback};

/// How long one renewal keeps trying. The timer tries again the next day.
pub const RENEWAL: Duration = Duration::from_secs(600);

/// Installs this machine as a node.
pub fn run(arguments: &Install, required_key: Option<&str>, output: Output) -> Result<Outcome> {
    if arguments.dry_run {
        return plan::show(&arguments.wanted, required_key, output, NewFiles::Named);
    }
    let ended = install(arguments, required_key, output);
    if ended.is_err() && notify::is_heard() {
        tell_console(&arguments.wanted.root);
    }
    ended
}

/// Says at a boot what this machine is although its installation failed. The error follows.
fn tell_console(root: &Path) {
    let state = Root::open(root).and_then(|root| records::state(&root));
    let what = match state.ok().flatten() {
        Some(node) => tr!(
            "{} {}, {}: it stays as it is",
            node.role,
            node.node,
            node.address
        ),
        None => tr!("this machine is not a node yet"),
    };
    log::warn!(
        "{}",
        tr!(
            "{what}: the installation failed; do what the error says, then run `systemctl restart {BOOT_UNIT}`",
            what,
            BOOT_UNIT
        )
    );
}

fn install(arguments: &Install, required_key: Option<&str>, output: Output) -> Result<Outcome> {
    continue_rollback(&arguments.wanted.root, arguments.wait.limit)?;
    let machine = prepare(&request(&arguments.wanted, required_key))?;
    machine.warn_about_settings();
    if !machine.is_node()? {
        machine.preflight(&arguments.wanted.ignore.checks)?;
    }
    let lock = lock(&machine.root, arguments)?;
    let (document, outcome) = install_locked(&machine, arguments, lock)?;
    match output {
        Output::Text => tell(&document)?,
        Output::Json => print::result(output, &document, |_| ())?,
    }
    Ok(outcome)
}

/// Ends a rollback that was interrupted, for example by a power cut: this program may be the one that it leaves.
///
/// # Errors
/// If it ends it: then the former program installs the node at the next boot.
fn continue_rollback(root: &Path, limit: Duration) -> Result<()> {
    let root = Root::open(root).map_err(Refused::because)?;
    check_user(&root)?;
    if !upgrade::is_going_back(&root)? {
        return Ok(());
    }
    let rollback = Rollback::prepare(root, &System)?;
    let (what, former) = rollback.words();
    rollback.run(limit, Patience::For(limit))?;
    bail!(tr!(
        "a rollback to {former} had been interrupted, and is done now; see `appliance status`; to repeat {what}, run its \
         command again",
        former,
        what
    ))
}

/// Locks the machine for this run. Waits for another run as long as for the node.
pub fn lock(root: &Root, arguments: &Install) -> Result<Lock> {
    Lock::take(root, patience(arguments))
}

/// How long this run waits for another one.
pub fn patience(arguments: &Install) -> Patience {
    match arguments.wait.limit {
        Duration::ZERO => Patience::None,
        limit => Patience::For(limit),
    }
}

/// Installs a machine that was prepared, with its lock, which is given back when all is written.
///
/// Returns what it did, and how the node is.
pub fn install_locked(
    machine: &Machine,
    arguments: &Install,
    lock: Lock,
) -> Result<(Installed, Outcome)> {
    if machine.spec.profile.value == Profile::Simple {
        log::warn!(
            "{}",
            tr!(
                "profile simple has no TLS: anyone who reaches this machine over the network has \
             full control of the cluster. Use the default profile with-ca for anything but a test"
            )
        );
    }
    let plan = change(machine, arguments)?;
    drop(lock);
    let report = wait(machine, arguments.wait)?;
    upgrade::after_installation(machine, report.as_ref(), arguments.wait.limit)?;
    let outcome = Outcome::of(report.as_ref(), arguments.wait.goal);
    if outcome == Outcome::Done {
        // Where nothing was waited for, the unit is started when all is written.
        notify::ready();
    }
    Ok((document(machine, &plan, report), outcome))
}

/// Prints how the node is, if it was waited for.
pub fn tell(installed: &Installed) -> Result<()> {
    match &installed.status {
        Some(report) => {
            print::report::summary(report);
            Ok(())
        }
        None => Ok(()),
    }
}

/// Changes the machine. The caller holds the lock, from the moment this reads the keys until its last write:
/// otherwise two runs would each make different keys.
fn change(machine: &Machine, arguments: &Install) -> Result<Plan> {
    leftovers::remove(&machine.root)?;
    machine.check_installed(&arguments.wanted.change)?;
    let join_timeout = arguments.join_timeout;
    let limit = (join_timeout > 0).then(|| Duration::from_secs(join_timeout));
    let ignored = &arguments.wanted.ignore.checks;
    if enroll::has_to_join(&machine.context())? {
        machine.preflight(ignored)?;
        // Report every problem now: the master may come up hours later.
        machine.plan(&machine.identity(Joining::Pretended)?)?;
        lock::note(
            &machine.root,
            "waiting for a master that lets this node join",
        );
        // The keys for its requests are written before there is a plan.
        brought::begin(&machine.root, machine.runner)?;
    }
    let planned = machine.fit_plan(&machine.identity(Joining::Now(limit))?, ignored)?;
    machine.apply(&planned, INSTALL)?;
    let noted = machine.note(&planned)?;
    print::changes(&machine.state(), &planned.plan, noted);
    Ok(planned.plan)
}

/// Renews the certificates that expire soon, and restarts what uses them. Nothing else changes. Returns their names.
pub fn renew(this: &Prepared<'_>) -> Result<Vec<String>> {
    let root = Root::open("/".as_ref())?;
    check_user(&root)?;
    let Some(state) = records::state(&root)? else {
        return Err(not_installed(&root));
    };
    leftovers::remove(&root)?;
    let due = enroll::due(&root, &state)?;
    // Its certificates may be there already, without all that holds or reads them.
    let run = records::run(&root).ok().flatten();
    let interrupted = records::written(&root)?.is_some_and(|written| written.is_interrupted())
        || run.is_some_and(|run| run.command == RENEW);
    if due.is_empty() && !interrupted {
        log::info!("{}", tr!("no certificate expires soon; nothing to renew"));
    } else {
        match due.is_empty() {
            true => log::info!("{}", tr!("continuing a run that was interrupted")),
            false => log::info!("{}", tr!("renewing these certificates: {}", due.join(", "))),
        }
        let (machine, _lock) = this.locked()?;
        let planned = machine.plan(&machine.identity(Joining::Now(Some(RENEWAL)))?)?;
        machine.apply(&planned.only(Plan::of_renewal), RENEW)?;
    }
    Ok(due.into_iter().map(str::to_owned).collect())
}

/// The running system for a command that changes it more than once. It is prepared when it is needed first, and only
/// once: that asks the metadata service, which may take a minute.
pub struct Prepared<'a> {
    inputs: &'a NodeInputs,
    waiting: Waiting,
    required_key: Option<&'a str>,
    machine: OnceCell<Machine>,
}

impl<'a> Prepared<'a> {
    /// Nothing is read yet.
    pub fn new(
        inputs: &'a NodeInputs,
        waiting: Waiting,
        required_key: Option<&'a str>,
    ) -> Prepared<'a> {
        Prepared {
            inputs,
            waiting,
            required_key,
            machine: OnceCell::new(),
        }
    }

    /// Waits for a clock that shows a day before this program was released, if a service may still correct it. Refuses one
    /// that is wrong then, or that shows a time before the cluster was made.
    pub fn settle_clock(&self) -> Result<()> {
        let mut inputs = Inputs::default();
        inputs.host.clock = Some(OffsetDateTime::now_utc());
        let root = Root::open("/".as_ref())?;
        settle_clock(&root, &mut inputs, typed(self.inputs).patience);
        match wrong_clock(&inputs) {
            Some(why) => bail!(Refused::new(why)),
            None => refuse_early(&root, OffsetDateTime::now_utc()),
        }
    }

    /// The machine, locked for one change. Refuses one that its settings would make another node.
    pub fn locked(&self) -> Result<(&Machine, Lock)> {
        let machine = match self.machine.get() {
            Some(machine) => machine,
            None => {
                let machine = installed(self.inputs, self.required_key)?;
                self.machine.get_or_init(|| machine)
            }
        };
        let lock = Lock::take(&machine.root, self.waiting.patience())?;
        machine.check_installed(&[])?;
        Ok((machine, lock))
    }
}

/// The running system, which is installed, with the payload of this program.
pub fn installed(inputs: &NodeInputs, required_key: Option<&str>) -> Result<Machine> {
    prepare(&Request {
        root: "/".as_ref(),
        payload: None,
        keys: required_key.into_iter().collect(),
        typed: typed(inputs),
    })
}

/// Waits for the node, or for the cluster too. A directory that is being prepared runs nothing.
fn wait(machine: &Machine, wait: Wait) -> Result<Option<Report>> {
    if !machine.root.is_live() || wait.limit.is_zero() {
        return Ok(None);
    }
    until(machine, wait.goal, wait.limit).map(Some)
}

fn document(machine: &Machine, plan: &Plan, report: Option<Report>) -> Installed {
    Installed {
        changed: !plan.is_empty(),
        settings: machine.spec.explain(),
        warnings: machine.spec.warnings.clone(),
        steps: plan.words(),
        status: report,
    }
}
