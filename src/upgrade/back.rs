//! The way back: the node gets what it had before its last upgrade.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::settings;
use crate::apply::{Executor, former, leftovers, written};
use crate::bundle::manifest::Manifest;
use crate::clients::docker::Docker;
use crate::clients::systemd;
use crate::components;
use crate::desired::{ProgramOf, RunningService};
use crate::formats;
use crate::language::tr;
use crate::nodespec::Refused;
use crate::observe::software::{docker_source, installed_manifest};
use crate::observe::{images, records, versions};
use crate::paths::{CONFIG, IMAGES, PROGRAM, STARTED_WITH};
use crate::plan::Plan;
use crate::plan::upgrade::{Back, LiveBack, Present};
use crate::preflight::skew;
use crate::records::images::NodeImage;
use crate::records::run::ROLLBACK;
use crate::records::state::{Installed, State};
use crate::records::upgrade::{Stage, UpgradeRecord, Was};
use crate::status::{InstalledNode, Report, until_healthy};
use crate::sys::lock::{Lock, Patience};
use crate::sys::process::Runner;
use crate::sys::root::Root;
use crate::sys::stream::sha256_of_file;

/// Whether a rollback was interrupted.
pub fn is_going_back(root: &Root) -> Result<bool> {
    let record = records::upgrade(root)?;
    Ok(record.is_some_and(|record| matches!(record.stage, Stage::GoingBack | Stage::Back)))
}

/// A way back that was checked. Nothing is written yet.
pub struct Rollback {
    root: Root,
    runner: &'static (dyn Runner + Sync),
    docker: Docker,
    back: Back,
}

impl Rollback {
    /// Checks whether the node can go back. Writes nothing.
    ///
    /// # Errors
    /// [`Refused`] if there was no upgrade and no change of settings, if the former bundle is gone, or if its etcd cannot read the data any more.
    pub fn prepare(root: Root, runner: &'static (dyn Runner + Sync)) -> Result<Rollback> {
        let record = records::upgrade(&root)?.ok_or_else(|| {
            Refused::new(tr!(
                "there is no upgrade to go back from on this machine, and no change of settings"
            ))
        })?;
        refuse_another_node(&root, &record)?;
        let manifest = installed_manifest(&root, &record.from).map_err(|_| {
            let from = record.from.words();
            Refused::new(tr!("{from} is not on this machine any more; to install it again, copy its appliance here and run it: \
                 `./appliance upgrade`", from))
        })?;
        check_storage(&root, runner, &record, &manifest)?;
        let docker = Docker::of(docker_source(&root, Some(&manifest))?);
        let back = read(&root, runner, &docker, record)?;
        refuse_other_settings(&back)?;
        Ok(Rollback {
            root,
            runner,
            docker,
            back,
        })
    }

    /// The node to which it leads.
    pub fn former(&self) -> &State {
        &self.back.record.from
    }

    /// What it undoes, and what the node then has again, in words.
    pub fn words(&self) -> (String, String) {
        (self.back.record.words(), self.back.record.former())
    }

    /// The node that it leaves.
    pub fn left(&self) -> &State {
        &self.back.record.to
    }

    /// The changes, in order.
    pub fn plan(&self) -> Plan {
        self.back.plan()
    }

    /// The files that someone changed after the upgrade. They stay.
    pub fn stays(&self) -> Vec<&str> {
        self.back.changed_since()
    }

    /// Goes back, and waits until the node is healthy, for `limit` at most. Returns its report; `None` if the root is a
    /// directory, where nothing runs. The same command, run again, continues.
    pub fn run(&self, limit: Duration, patience: Patience) -> Result<Option<Report>> {
        let record = &self.back.record;
        let lock = Lock::take(&self.root, patience)?;
        leftovers::remove(&self.root)?;
        // It may have been read before another run changed the machine.
        let back = read(&self.root, self.runner, &self.docker, record.clone())?;
        if record.stage != Stage::Back {
            former::note(&self.root, record, Stage::GoingBack)?;
            self.carry_out(&back.plan(), record)?;
            former::restore_records(&self.root, record)?;
        }
        former::forget(&self.root, record)?;
        drop(lock);
        log::info!("the node went back to {}", record.former());
        if !self.root.is_live() {
            return Ok(None);
        }
        let node = InstalledNode::of(&self.root, self.runner, &record.from)?;
        until_healthy(&node, limit).map(Some)
    }

    fn carry_out(&self, plan: &Plan, record: &UpgradeRecord) -> Result<()> {
        written::begin(&self.root, plan)?;
        let install = |target: &Path| former::restore_program(&self.root, record, target);
        Executor {
            root: &self.root,
            runner: self.runner,
            docker: &self.docker,
            unpack: &|_, _| Ok(()),
            install_program: &install,
            command: Some(ROLLBACK),
            at_once: 1,
            watch: None,
        }
        .run(plan)
    }
}

/// Refuses if the node has become another one since: its former state has another name, address or list of masters.
fn refuse_another_node(root: &Root, record: &UpgradeRecord) -> Result<()> {
    let known = [&record.from, &record.to].map(Installed::from);
    match records::state(root)? {
        Some(state) if !known.contains(&Installed::from(&state)) => {
            bail!(Refused::new(tr!(
                "after {}, `appliance install --change` made another node of this machine, and {} would not fit it; \
                 to change settings, run `appliance apply FILE`",
                record.words(),
                record.former()
            )))
        }
        _ => Ok(()),
    }
}

/// Refuses to undo a change of settings in a file that someone changed afterwards: their lines would be lost, or the former
/// ones.
fn refuse_other_settings(back: &Back) -> Result<()> {
    let is_ours = back.record.settings.is_some() && back.record.stage != Stage::Back;
    if is_ours && back.changed_since().contains(&CONFIG) {
        bail!(Refused::new(tr!(
            "someone changed {CONFIG} after `appliance apply`; the former settings are in {}: `appliance apply` gives \
             them to the node",
            settings::kept(),
            CONFIG
        )));
    }
    Ok(())
}

/// Refuses if etcd of the former bundle cannot read the data. If etcd does not answer, the former one is tried: it ends
/// by itself, without a change, where it cannot read the data.
fn check_storage(
    root: &Root,
    runner: &dyn Runner,
    record: &UpgradeRecord,
    former: &Manifest,
) -> Result<()> {
    let versions = versions::read(root, runner, &record.to, former)?;
    match skew::of_storage(&versions) {
        Some(problem) => bail!(Refused::new(problem)),
        None => Ok(()),
    }
}

fn read(root: &Root, runner: &dyn Runner, docker: &Docker, record: UpgradeRecord) -> Result<Back> {
    if record.stage == Stage::Back {
        return Ok(Back::nothing(record));
    }
    let (mut copies, mut files, mut links) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (path, former) in &record.files {
        if let Was::File { copy, .. } = &former.was {
            let content = root.read(&record.copy(copy))?;
            let content = content.with_context(|| {
                tr!("{} is missing, the copy of {path}; run `appliance install` to have the node as its settings say", record.copy(copy), path)
            })?;
            copies.insert(copy.clone(), content);
        }
        if let Some(content) = root.read(path)? {
            let mode = root.mode(path)?.unwrap_or_default();
            files.insert(path.clone(), Present { content, mode });
        }
    }
    for path in record.links.keys() {
        let target = root.link(path)?;
        let target = target.map(|target| target.to_string_lossy().into_owned());
        links.extend(target.map(|target| (path.clone(), target)));
    }
    let services = former_services(root, &record)?;
    let live = match root.is_live() {
        true => Some(live(root, runner, docker, &record, &copies, &services)?),
        false => None,
    };
    Ok(Back {
        program_is_there: program_is_there(root, &record)?,
        started_with: records::started_with(root)?,
        services,
        live,
        record,
        copies,
        files,
        links,
    })
}

/// The services of the former node that had started, with what they started with.
fn former_services(root: &Root, record: &UpgradeRecord) -> Result<Vec<RunningService>> {
    let copy = record.copy_of(STARTED_WITH);
    let started: BTreeMap<String, String> =
        records::json_at(root, &copy, &formats::STARTED)?.unwrap_or_default();
    let services = components::services(record.from.shape()?).into_iter();
    let running = services.filter_map(|service| {
        Some(RunningService {
            name: service.name,
            // Its steps run one after the other.
            program: ProgramOf::Machine,
            needs_images: false,
            image: None,
            may_end: service.unit == components::UnitKind::MayEnd,
            files: Vec::new(),
            inputs: started.get(service.name)?.clone(),
        })
    });
    Ok(running.collect())
}

fn live(
    root: &Root,
    runner: &dyn Runner,
    docker: &Docker,
    record: &UpgradeRecord,
    copies: &BTreeMap<String, Vec<u8>>,
    services: &[RunningService],
) -> Result<LiveBack> {
    let names: Vec<&str> = services.iter().map(|service| service.name).collect();
    let units = systemd::show(runner, &names)?;
    let wanted: Vec<NodeImage> = match record.files.get(IMAGES).map(|former| &former.was) {
        Some(Was::File { copy, .. }) => {
            let text = copies.get(copy).map(Vec::as_slice).unwrap_or_default();
            formats::IMAGES.read(text, || record.copy(copy))?
        }
        _ => records::images(root)?,
    };
    let missing = match docker.is_running(runner) {
        true => images::missing(root, runner, docker, wanted)?,
        false => Vec::new(),
    };
    let units = units.into_iter();
    Ok(LiveBack {
        units: units.map(|(name, unit)| (name, unit.state())).collect(),
        missing,
    })
}

fn program_is_there(root: &Root, record: &UpgradeRecord) -> Result<bool> {
    let Some(copy) = record.program() else {
        return Ok(true);
    };
    let (copy, target) = (root.resolve(&copy)?, root.resolve(PROGRAM)?);
    Ok(target.exists() && sha256_of_file(&copy)? == sha256_of_file(&target)?)
}
