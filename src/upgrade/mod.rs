//! Another bundle or other settings for an installed node: `install` of them, with checks before, an order, a wait for
//! health, and a way back.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use time::OffsetDateTime;

use crate::apply::{former, leftovers};
use crate::digest::Sha256;
use crate::enroll::Joining;
use crate::install::{Machine, Planned};
use crate::language::tr;
use crate::nodespec::{Profile, Refused};
use crate::observe::{records, versions, writable};
use crate::paths::{CONFIG, PROGRAM};
use crate::preflight::Ignored;
use crate::preflight::skew;
use crate::preflight::stays::Field;
use crate::records::run::{APPLY, UPGRADE};
use crate::records::state::State;
use crate::records::upgrade::{Stage, UpgradeRecord};
use crate::status::{InstalledNode, Report, until_healthy};
use crate::sys::lock::{Lock, Patience};
use crate::sys::root::Root;

mod back;
mod cluster;
mod controllers;
mod follower;
mod outlook;
mod prune;
pub mod settings;

pub use back::{Rollback, is_going_back};
pub use cluster::{AtOnce, Leader, stop};
pub use follower::Follower;
pub use outlook::{Changed, Outlook};
pub use prune::{Old, OldImage, Prune};
pub use settings::NewSettings;

/// How long a worker tries to reach a master for a certificate that the new version needs.
const JOINING: Duration = Duration::from_secs(600);

/// How old the last backup of the cluster may be.
const BACKUP: time::Duration = time::Duration::HOUR;

/// What the operator wants.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The failed checks of the machine that only warn.
    pub ignored: &'a [Ignored],
    /// What may change about the node.
    pub change: &'a [Field],
    /// Change a node that is not healthy, too.
    pub force: bool,
    /// Upgrade a master without a new backup, too.
    pub without_backup: bool,
    /// How long the node may take until it is healthy; otherwise it goes back.
    pub limit: Duration,
    /// What to do while another run changes the machine.
    pub patience: Patience,
}

/// An upgrade, or a change of settings, that was checked. Nothing is written yet.
pub struct Upgrade<'a> {
    machine: &'a Machine,
    /// The new settings; `None` if a bundle comes.
    settings: Option<&'a NewSettings>,
    wanted: Wanted<'a>,
    /// The node before.
    pub from: State,
    /// The node after.
    pub to: State,
    /// What changes, and what it means.
    pub outlook: Outlook,
    /// The changes, in order.
    pub planned: Planned,
    /// Whether there is anything to do.
    pub is_needed: bool,
    /// Whether the caller makes a backup first, as the settings say, because there is no new one.
    pub needs_backup: bool,
    /// Whether an interrupted run has begun it.
    is_begun: bool,
}

impl<'a> Upgrade<'a> {
    /// Checks whether the node of `machine` may get its payload, and plans. Writes nothing.
    ///
    /// # Errors
    /// [`Refused`] if an upgrade to something else is under way, if the versions do not fit, if the machine lacks
    /// something, or if the node is not healthy.
    pub fn prepare(machine: &'a Machine, wanted: Wanted<'a>) -> Result<Upgrade<'a>> {
        let state = records::state(&machine.root)?.context(tr!("this machine is not a node"))?;
        let manifest = machine.payload.manifest();
        let versions = versions::read(&machine.root, machine.runner, &state, manifest)?;
        let problems = skew::of_upgrade(&versions);
        if !problems.is_empty() {
            bail!(Refused { problems });
        }
        let mut upgrade = Upgrade::planned(machine, &state, None, wanted)?;
        let asks_none = !upgrade.is_needed || upgrade.is_begun || wanted.without_backup;
        if !asks_none && let Some((is_needed, note)) = backup(machine, &upgrade.from)? {
            upgrade.outlook.notes.push(note);
            upgrade.needs_backup = is_needed;
        }
        Ok(upgrade)
    }

    /// Checks whether the node of `machine` may get the `settings` with which its specification was made, and plans.
    /// Writes nothing.
    ///
    /// # Errors
    /// [`Refused`] if something else is under way, if they would make another node of it or have no effect, if the
    /// machine lacks something, or if the node is not healthy.
    pub fn of_settings(
        machine: &'a Machine,
        settings: &'a NewSettings,
        wanted: Wanted<'a>,
    ) -> Result<Upgrade<'a>> {
        let state = records::state(&machine.root)?.context(tr!("this machine is not a node"))?;
        settings.check(machine, &state)?;
        let upgrade = Upgrade::planned(machine, &state, Some(settings), wanted)?;
        if upgrade.is_needed && !upgrade.is_begun && settings.are_in_place(&machine.root)? {
            bail!(Refused::new(tr!(
                "{CONFIG} has these settings already, so nobody knows the former ones, to which the node could go back; \
                 run `appliance install`, or give the new settings in another file",
                CONFIG
            )));
        }
        Ok(upgrade)
    }

    fn planned(
        machine: &'a Machine,
        state: &State,
        settings: Option<&'a NewSettings>,
        wanted: Wanted<'a>,
    ) -> Result<Upgrade<'a>> {
        let root = &machine.root;
        let to = machine.state();
        let digest = settings.map(NewSettings::digest);
        let begun = begun(records::upgrade(root)?, &to, digest.as_ref())?;
        machine.check_installed(wanted.change)?;
        let identity = machine.identity(Joining::Pretended)?;
        let planned = ordered(
            machine,
            settings,
            machine.fit_plan(&identity, wanted.ignored)?,
        )?;
        let from = begun.as_ref().map_or(state, |record| &record.from);
        let is_needed = begun.is_some() || !planned.plan.is_empty() || *state != to;
        if is_needed && begun.is_none() && !wanted.force {
            check_health(machine, state)?;
        }
        let before = versions::etcd_installed(root, from);
        Ok(Upgrade {
            outlook: Outlook::of(machine, from, &planned.plan, before.as_deref())?,
            machine,
            settings,
            wanted,
            from: from.clone(),
            to,
            planned,
            is_needed,
            needs_backup: false,
            is_begun: begun.is_some(),
        })
    }

    /// Changes the node. Returns its report; `None` if the root is a directory, where nothing runs.
    ///
    /// # Errors
    /// If a change fails, or if the node is not healthy within the limit. Then it has gone back, and the error says what
    /// failed; or it could not, and the error says why.
    pub fn run(&self) -> Result<Option<Report>> {
        let root = &self.machine.root;
        let lock = Lock::take(root, self.wanted.patience)?;
        leftovers::remove(root)?;
        self.machine.check_installed(self.wanted.change)?;
        let identity = self.machine.identity(Joining::Now(Some(JOINING)))?;
        let planned = self.machine.fit_plan(&identity, self.wanted.ignored)?;
        let planned = ordered(self.machine, self.settings, planned)?;
        let settings = self.settings.map(NewSettings::digest);
        let nodes = (&self.from, &self.to);
        let record = former::keep(root, nodes, settings.as_ref(), &planned.plan)?;
        let changed = self.change(&planned);
        drop(lock);
        let report = match changed {
            Err(error) => Err(error),
            Ok(()) => self.healthy(),
        };
        match report {
            Ok(report) => {
                let _lock = Lock::take(root, Patience::Endless)?;
                former::note(root, &record, Stage::Done)?;
                Ok(report)
            }
            Err(error) => Err(self.gone_back(&record, &error)),
        }
    }

    fn change(&self, planned: &Planned) -> Result<()> {
        let command = match self.settings {
            None => UPGRADE,
            Some(_) => APPLY,
        };
        self.machine.apply(planned, command)?;
        self.machine.note(planned)?;
        let is = self.to.words();
        log::info!(
            "{}",
            tr!(
                "1 change made: {is}" | "{n} changes made: {is}" % planned.plan.steps.len(),
                is
            )
        );
        Ok(())
    }

    fn healthy(&self) -> Result<Option<Report>> {
        let machine = self.machine;
        if !machine.root.is_live() {
            return Ok(None);
        }
        let node = InstalledNode::of(&machine.root, machine.runner, &self.to)?;
        let report = until_healthy(&node, self.wanted.limit)?;
        match report.is_node_healthy() {
            true => Ok(Some(report)),
            false => Err(anyhow!(tr!(
                "the node was not healthy within {} s: {}",
                self.wanted.limit.as_secs(),
                problems(&report).join("; ")
            ))),
        }
    }

    /// Goes back, and tells what failed.
    fn gone_back(&self, record: &UpgradeRecord, error: &anyhow::Error) -> anyhow::Error {
        let (what, former) = (record.words(), record.former());
        log::error!("{what} failed: {error:#}; going back");
        let machine = self.machine;
        let went = Rollback::prepare(machine.root.clone(), machine.runner)
            .and_then(|rollback| rollback.run(self.wanted.limit, Patience::Endless));
        match went {
            Ok(report) if report.as_ref().is_none_or(Report::is_node_healthy) => {
                anyhow!(tr!(
                    "{what} failed, and the node went back to {former}; what failed: {error}",
                    error = format_args!("{error:#}"),
                    what,
                    former
                ))
            }
            Ok(report) => anyhow!(tr!(
                "{what} failed, and the node went back to {former}, but it is not healthy: {}; what failed: \
                 {error}; see `appliance status`",
                report.as_ref().map(problems).unwrap_or_default().join("; "),
                error = format_args!("{error:#}"),
                what,
                former
            )),
            Err(why) => anyhow!(tr!(
                "{what} failed: {error}; the node could not go back to {former}: {why}; run `appliance \
                 rollback`, or the same command again",
                error = format_args!("{error:#}"),
                why = format_args!("{why:#}"),
                what,
                former
            )),
        }
    }
}

/// The changes in the order of an upgrade, or after the new settings.
fn ordered(machine: &Machine, settings: Option<&NewSettings>, planned: Planned) -> Result<Planned> {
    let plan = match settings {
        None => planned.plan.of_upgrade(machine.payload.digest().as_str()),
        Some(settings) => {
            let plan = settings.before(&machine.root, planned.plan)?;
            writable::check(&machine.root, &plan)?;
            plan
        }
    };
    Ok(Planned { plan, ..planned })
}

/// Removes what a run left that was interrupted at its end: then there is nothing else to do.
pub fn tidy(root: &Root, patience: Patience) -> Result<()> {
    let _lock = Lock::take(root, patience)?;
    leftovers::remove(root)
}

/// The record of an upgrade to `to`, or to these `settings`, that was begun. Refuses to begin one while another one is not
/// finished.
fn begun(
    record: Option<UpgradeRecord>,
    to: &State,
    settings: Option<&Sha256>,
) -> Result<Option<UpgradeRecord>> {
    let record = record.filter(|record| record.stage != Stage::Done);
    match record {
        Some(record) if record.leads_to(to, settings) => Ok(Some(record)),
        Some(record) => bail!(Refused {
            problems: record.told().into_iter().collect(),
        }),
        None => Ok(None),
    }
}

/// Refuses a node that has problems already: nobody could tell afterwards what the change has done.
fn check_health(machine: &Machine, state: &State) -> Result<()> {
    if !machine.root.is_live() {
        return Ok(());
    }
    let node = InstalledNode::of(&machine.root, machine.runner, state)?;
    let report = node.report(OffsetDateTime::now_utc())?;
    if report.is_node_healthy() {
        return Ok(());
    }
    let mut all = problems(&report);
    all.push(tr!("the node is not healthy before the change; repair it first: `{PROGRAM} status`, or add `--force`", PROGRAM));
    bail!(Refused { problems: all })
}

/// Whether a master needs a new backup of its cluster, and a sentence about that or about the one it has. `None` if the
/// machine has no data of a cluster.
///
/// # Errors
/// [`Refused`] if it needs one and the settings say nothing: only the operator knows who may open it.
fn backup(machine: &Machine, state: &State) -> Result<Option<(bool, String)>> {
    let shape = state.shape()?;
    let has_data = shape.role.is_master() && shape.profile == Profile::WithCa;
    if !machine.root.is_live() || !has_data {
        return Ok(None);
    }
    let last = records::backup(&machine.root)?;
    let now = OffsetDateTime::now_utc();
    let problem = match last.as_ref().map(|last| (now - last.created, &last.place)) {
        Some((age, place)) if age.abs() <= BACKUP => {
            let minutes = age.whole_minutes().unsigned_abs();
            let note = tr!(
                "the last backup of the cluster, {place}, is {minutes} minutes old",
                place,
                minutes
            );
            return Ok(Some((false, note)));
        }
        Some((age, _)) if age.is_negative() => {
            tr!("the last backup of the cluster is from a clock that was ahead")
        }
        Some((age, _)) => tr!(
            "the last backup of the cluster is {} minutes old",
            age.whole_minutes()
        ),
        None => tr!("this master made no backup of the cluster"),
    };
    let schedule = records::backup_schedule(&machine.root)?;
    if let Some(to) = schedule.and_then(|schedule| schedule.to) {
        let note = tr!(
            "{problem}: one is made first in {to}, as the settings say",
            problem,
            to
        );
        return Ok(Some((true, note)));
    }
    bail!(Refused::new(tr!(
        "{problem}; make one with this appliance: `backup` (`appliance help backup`), or add `--without-backup`",
        problem
    )))
}

/// Every problem of a report, in words.
fn problems(report: &Report) -> Vec<String> {
    let of = |name: &str, problem: &Option<String>| {
        problem.as_ref().map(|problem| format!("{name}: {problem}"))
    };
    let services = report.services.iter().filter_map(|service| {
        let told = of(&service.name, &service.problem)?;
        let last = service.journal.last();
        Some(last.map_or(told.clone(), |line| format!("{told} ({line})")))
    });
    let images = report
        .images
        .iter()
        .filter_map(|i| of(&i.reference, &i.problem));
    let certificates = report
        .certificates
        .iter()
        .filter_map(|c| of(&c.name, &c.problem));
    services.chain(images).chain(certificates).collect()
}

/// What an installation does about an upgrade, or a change of settings, that a power cut stopped, when it knows how the
/// node is: `report`, if it was waited for. The change is done, or goes back. Settings that were not in place yet are not
/// judged: nothing was changed.
///
/// # Errors
/// If the node is not healthy: it went back, or could not.
pub fn after_installation(
    machine: &Machine,
    report: Option<&Report>,
    limit: Duration,
) -> Result<()> {
    let root = &machine.root;
    let Some(record) = records::upgrade(root)?.filter(|record| record.stage == Stage::UnderWay)
    else {
        return Ok(());
    };
    let settings = match record.settings {
        None => None,
        Some(_) => settings::in_place(root)?,
    };
    let leads_here = record.leads_to(&machine.state(), settings.as_ref());
    let Some(report) = report.filter(|_| leads_here) else {
        return Ok(());
    };
    if report.is_node_healthy() {
        let _lock = Lock::take(root, Patience::Endless)?;
        return former::note(root, &record, Stage::Done);
    }
    let problems = problems(report).join("; ");
    Rollback::prepare(root.clone(), machine.runner)?.run(limit, Patience::Endless)?;
    bail!(tr!(
        "{} failed, and the node went back to {}; what failed: {problems}",
        record.words(),
        record.former(),
        problems
    ))
}
