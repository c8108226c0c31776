//! The stages that make a machine a node, one after the other, over what the operator asks for.

use std::cell::OnceCell;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use time::OffsetDateTime;

use crate::apply::{Executor, Tell, brought, etcd, records as notes, written};
use crate::bundle::manifest::Component;
use crate::bundle::payload::Payload;
use crate::bundle::{repack, unpack};
use crate::clients::docker::Docker;
use crate::desired::{Desired, Sources};
use crate::enroll::{self, Context, Identity, Joining};
use crate::language::tr;
use crate::nodespec::value::Layer;
use crate::nodespec::{Inputs, NodeSpec, Refused};
use crate::observe::inputs::{Typed, collect};
use crate::observe::node::{Observer, observe};
use crate::observe::preflight::clock_keeper;
use crate::observe::software::{docker_source, installed_manifest};
use crate::observe::user::check_user;
use crate::observe::workloads::{self, Place};
use crate::observe::writable;
use crate::observe::{self, records, trace};
use crate::paths::{BUNDLES, CURRENT, ETCD_MEMBER_DATA, PROGRAM, STATE};
use crate::plan::{Plan, Step};
use crate::preflight::facts::Wanted;
use crate::preflight::stays::{Field, node_stays};
use crate::preflight::{DockerSource, Ignored, Level, judge, refuse};
use crate::records::machine::Likeness;
use crate::records::run::INSTALL;
use crate::records::state::{Installed, State};
use crate::records::written::Written;
use crate::sys::parallel;
use crate::sys::process::{Runner, System};
use crate::sys::progress;
use crate::sys::root::Root;
use crate::sys::stopwatch::Stopwatch;

mod clock;
mod coming_up;

pub use coming_up::until;

/// The operator's request.
#[derive(Clone)]
pub struct Request<'a> {
    /// The system to install.
    pub root: &'a Path,
    /// The payload, if not this program's own.
    pub payload: Option<&'a Path>,
    /// The keys (minisign) that must have signed the payload.
    pub keys: Vec<&'a str>,
    /// Where settings come from.
    pub typed: Typed,
}

/// A machine, and all facts that are known before the machine is inspected.
pub struct Machine {
    /// The system.
    pub root: Root,
    /// How to run programs.
    pub runner: &'static (dyn Runner + Sync),
    /// The payload to install.
    pub payload: Payload,
    /// The settings of each place.
    pub layers: Vec<Layer>,
    /// The specification of its node.
    pub spec: NodeSpec,
    /// Set once it was found that it can be this node.
    fit: OnceCell<()>,
    /// Runs since the preparation began.
    watch: Stopwatch,
}

/// Finds the specification of the node and its payload. Waits for a clock that a time service may still correct.
/// Writes nothing.
pub fn prepare(request: &Request<'_>) -> Result<Machine> {
    let watch = Stopwatch::start();
    let root = Root::open(request.root).map_err(Refused::because)?;
    check_user(&root)?;
    records::refuse_newer(&root)?;
    let payload = Payload::to_install(request.payload)?;
    let is_unpacked = unpack::is_complete(&root.resolve(BUNDLES)?, &payload);
    // Metadata may be slow to come, and many bytes slow to read.
    let (checked, collected) = thread::scope(|scope| {
        let check = || watch.time("check the appliance", || payload.refuse_changed());
        // Of one that is unpacked already, nothing is read but its table of contents, which was checked.
        let check = (!is_unpacked).then(|| thread::Builder::new().spawn_scoped(scope, check));
        let collected = watch.time("read the settings and metadata", || {
            collect(&request.typed, &root, Some(payload.manifest()))
        });
        let checked = match check {
            None => Ok(()),
            Some(Ok(thread)) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            // The system gives no more threads.
            Some(Err(_)) => payload.refuse_changed(),
        };
        (checked, collected)
    });
    // This error comes first: a changed payload changes what this run does.
    checked?;
    payload.check_signatures(&request.keys)?;
    let mut collected = collected?;
    settle_clock(&root, &mut collected.inputs, request.typed.patience);
    let spec = NodeSpec::resolve(&collected.inputs)?;
    Ok(Machine {
        root,
        runner: &System,
        payload,
        layers: collected.inputs.layers,
        spec,
        fit: OnceCell::new(),
        watch,
    })
}

/// Waits until the clock of the running system is right as far as `inputs` tell, for `patience` at most, if a service keeps
/// it right.
pub fn settle_clock(root: &Root, inputs: &mut Inputs, patience: Duration) {
    if root.is_live() && clock_keeper(root).is_some() {
        clock::settle(inputs, patience, OffsetDateTime::now_utc);
    }
}

/// What a machine needs to become its node.
pub struct Planned {
    /// The changes.
    pub plan: Plan,
    /// The docker that takes its images.
    pub docker: Docker,
    /// The record of what is written when all changes are made.
    pub record: Written,
}

impl Planned {
    /// Only a part of the changes.
    #[must_use]
    pub fn only(self, part: impl FnOnce(Plan) -> Plan) -> Planned {
        Planned {
            plan: part(self.plan),
            ..self
        }
    }
}

impl Machine {
    /// The inputs for its keys and certificates.
    pub fn context(&self) -> Context<'_> {
        Context {
            root: &self.root,
            spec: &self.spec,
        }
    }

    /// Its keys and certificates.
    pub fn identity(&self, joining: Joining) -> Result<Identity> {
        let what = match joining {
            Joining::Now(_) => "keys and certificates",
            Joining::Pretended => "look what would be joined",
        };
        self.watch
            .time(what, || enroll::resolve(&self.context(), joining))
    }

    /// Refuses to make another node of an installed one, except in the fields `change`; new authorities for the data of
    /// a cluster; and to go on where a restoration was interrupted.
    pub fn check_installed(&self, change: &[Field]) -> Result<()> {
        let restored = records::restored(&self.root)?;
        if let Some(why) = restored.and_then(|restored| restored.hinders()) {
            return Err(Refused::new(why).into());
        }
        if let Some(installed) = self.installed()? {
            if let Some(copied) = self.copied(change)? {
                return Err(Refused::new(copied).into());
            }
            node_stays(&installed, &self.spec, change)?;
            self.check_address(&installed)?;
        }
        enroll::refuse_foreign(&self.context())?;
        enroll::refuse_lost(&self.context(), change.contains(&Field::Trust))
    }

    /// What others rely on in the node of this machine: by its record, or by its units if the record is gone.
    fn installed(&self) -> Result<Option<Installed>> {
        if let Some(state) = records::state(&self.root)? {
            return Ok(Some((&state).into()));
        }
        let traced = trace::installed(&self.root)?;
        if let Some(traced) = &traced {
            log::warn!(
                "{}",
                tr!(
                    "{STATE} is missing, but the units of this machine are those of the node {}; it stays that node",
                    traced.node,
                    STATE
                )
            );
        }
        Ok(traced)
    }

    /// What to say if this machine is a copy of the machine on which the node was installed, unless it
    /// takes over with another address.
    fn copied(&self, change: &[Field]) -> Result<Option<String>> {
        let Some(recorded) = records::machine(&self.root)? else {
            return Ok(None);
        };
        let spec = &self.spec;
        let likeness = recorded.likeness(spec.machine.as_deref(), &[*spec.address]);
        let may = change.contains(&Field::Address) && !spec.role.is_master();
        Ok((likeness == Likeness::Copy && !may).then(|| recorded.copied()))
    }

    /// Tells what is doubtful in the settings.
    pub fn warn_about_settings(&self) {
        for warning in &self.spec.warnings {
            log::warn!("{warning}");
        }
    }

    /// Asks whether a master would let this machine join with the token of its settings. Changes nothing.
    pub fn knock(&self) -> Result<()> {
        enroll::knock(&self.context())
    }

    /// Whether it has the record of a node.
    pub fn is_node(&self) -> Result<bool> {
        Ok(records::state(&self.root)?.is_some())
    }

    /// Refuses a machine that cannot become this node, with every reason. Writes nothing. Warns about the rest,
    /// and about what the operator ignores. The second call does nothing.
    pub fn preflight(&self, ignored: &[Ignored]) -> Result<()> {
        if self.fit.get().is_some() {
            return Ok(());
        }
        let bundle = self.bundle()?;
        let facts = self.watch.time("check the machine", || {
            observe::preflight::read(&observe::preflight::Subject {
                root: &self.root,
                runner: self.runner,
                bundle: Some(bundle),
                wanted: &Wanted::of(&self.spec),
            })
        })?;
        let judged = judge(&facts, ignored);
        refuse(&judged)?;
        for one in judged.iter().filter(|one| one.level == Level::Warn) {
            log::warn!("{}", one.sentence());
        }
        self.fit.get_or_init(|| ());
        Ok(())
    }

    fn bundle(&self) -> Result<observe::preflight::Bundle<'_>> {
        Ok(observe::preflight::Bundle {
            manifest: self.payload.manifest(),
            unpacked: unpack::is_complete(&self.root.resolve(BUNDLES)?, &self.payload),
        })
    }

    /// As [`Machine::plan`], and refuses a machine that cannot be this node. One that needs no change is not
    /// examined: that asks docker and reads the rules of iptables, at each boot.
    pub fn fit_plan(&self, identity: &Identity, ignored: &[Ignored]) -> Result<Planned> {
        let planned = self.plan(identity);
        if !planned
            .as_ref()
            .is_ok_and(|planned| planned.plan.is_empty())
        {
            // It may also say why there is no plan.
            self.preflight(ignored)?;
        }
        planned
    }

    /// What it needs to become its node.
    pub fn plan(&self, identity: &Identity) -> Result<Planned> {
        self.watch.time("make the plan", || self.planned(identity))
    }

    fn planned(&self, identity: &Identity) -> Result<Planned> {
        let spec = &self.spec_of(identity);
        let bundle = self.bundle()?;
        let source = docker_source(&self.root, Some(bundle.manifest))?;
        let desired = self.desired(spec, source, identity)?;
        let docker = Docker::of(source);
        let observer = Observer {
            root: &self.root,
            runner: self.runner,
            docker: &docker,
            bundle_is_whole: bundle.unpacked,
            program_is_there: repack::is_installed(&self.payload, &self.root.resolve(PROGRAM)?)?,
        };
        let current = observe(&desired, &observer).map_err(Refused::because)?;
        let plan = Plan::build(&desired, &current);
        if plan.uses_payload() {
            self.payload.refuse_changed()?;
        }
        writable::check(&self.root, &plan)?;
        Ok(Planned {
            plan,
            docker,
            record: desired.record(),
        })
    }

    /// Whether the records of the installation are not those of this node.
    pub fn lacks_records(&self, planned: &Planned) -> Result<bool> {
        let written = records::written(&self.root)?.unwrap_or_default();
        let record = planned.record.clone().with_kept(&written);
        Ok(record != written || records::state(&self.root)? != Some(self.state()))
    }

    /// The components of the payload that a plan brings to this machine: those that the installed bundle does not have
    /// in the same version.
    pub fn brought(&self, plan: &Plan) -> Result<Vec<&Component>> {
        if !plan
            .steps
            .iter()
            .any(|step| matches!(step, Step::Unpack { .. }))
        {
            return Ok(Vec::new());
        }
        let digest = self.payload.digest().as_str();
        let state = records::state(&self.root)?.filter(|state| state.digest != digest);
        // A bundle whose manifest is gone or damaged has nothing that counts.
        let before = state.and_then(|state| installed_manifest(&self.root, &state).ok());
        let before = before
            .map(|manifest| manifest.components)
            .unwrap_or_default();
        let is_there =
            |component: &&Component| before.iter().any(|old| old.sha256 == component.sha256);
        let all = self.payload.manifest().components.iter();
        Ok(all.filter(|component| !is_there(component)).collect())
    }

    /// The specification of the node in the cluster that it joined in this run.
    fn spec_of(&self, identity: &Identity) -> NodeSpec {
        let Some(ipip) = identity.ipip else {
            return self.spec.clone();
        };
        let spec = self.spec.in_cluster(ipip);
        for warning in &spec.warnings[self.spec.warnings.len()..] {
            log::warn!("{warning}");
        }
        spec
    }

    fn desired(
        &self,
        spec: &NodeSpec,
        source: DockerSource,
        identity: &Identity,
    ) -> Result<Desired> {
        let found = workloads::find(Place {
            root: &self.root,
            manifest: self.payload.manifest(),
            spec,
        })?;
        let docker = observe::preflight::docker::settings(&self.root, source, None);
        let desired = Desired::build(&Sources {
            spec,
            manifest: self.payload.manifest(),
            digest: self.payload.digest().as_str(),
            pki: identity.pki.as_ref(),
            tokens: identity.tokens.as_ref(),
            encryption: identity.encryption.as_ref(),
            join_token: identity.join_token.clone(),
            bundled_docker: source == DockerSource::Payload,
            // A value that docker does not know was refused, unless the operator ignores it.
            cgroup_driver: docker.cgroup_driver().unwrap_or_default(),
            limits_logs: observe::preflight::docker::may_limit_logs(&self.root, &docker)?,
            workloads: &found.workloads,
            images: &found.images,
        });
        Ok(desired.map_err(Refused::because)?)
    }

    /// Carries out a plan that changes no images, for example one that takes the node down: in a run of `command`, or as a
    /// part of a run that has no journal.
    pub fn take_down(&self, plan: &Plan, command: Option<&str>) -> Result<()> {
        let source = docker_source(&self.root, Some(self.payload.manifest()))?;
        self.carry_out(plan, &Docker::of(source), command)
    }

    /// Carries out what is planned, and notes what it brings and writes. If the run is interrupted, `command` continues
    /// it ([`crate::records::run`]).
    pub fn apply(&self, planned: &Planned, command: &str) -> Result<()> {
        if !planned.plan.is_empty() {
            brought::note(&self.root, self.runner, &planned.plan)?;
        }
        self.carry_out(&planned.plan, &planned.docker, Some(command))?;
        self.announce_address()?;
        written::note_present(&self.root, &planned.record)
    }

    /// Tells etcd a new address of this master, before the record says that the node has it: a run that is cut before is
    /// run again.
    fn announce_address(&self) -> Result<()> {
        let spec = &self.spec;
        let before = records::state(&self.root)?.map(|state| state.address);
        let has_moved = before.is_some_and(|before| before != spec.address.to_string());
        if !(has_moved && spec.role.is_master() && self.root.is_live()) {
            return Ok(());
        }
        let (own, others) = ((&**spec.name, *spec.address), spec.other_masters());
        etcd::announce(&self.root, *spec.profile, own, &others)
    }

    /// Refuses another address for a master whose etcd does not run here: its cluster has to be told.
    fn check_address(&self, installed: &Installed) -> Result<(), Refused> {
        let spec = &self.spec;
        let moves = spec.role.is_master() && installed.address != spec.address.to_string();
        let has_data = self
            .root
            .exists(ETCD_MEMBER_DATA)
            .map_err(Refused::because)?;
        match moves && has_data && !self.root.is_live() {
            true => Err(Refused::new(tr!(
                "the address of a master with data changes only on the running machine, whose etcd has to be told: boot \
                 it, and run `appliance install --change address` there"
            ))),
            false => Ok(()),
        }
    }

    fn carry_out(&self, plan: &Plan, docker: &Docker, command: Option<&str>) -> Result<()> {
        if !plan.is_empty() {
            written::begin(&self.root, plan)?;
        }
        let payload = &self.payload;
        // An upgrade has an order of its own: nothing stops before all is there. Other runs have few steps.
        let brings_up = self.root.is_live() && command == Some(INSTALL);
        let in_place = brings_up && self.uses_no_other_bundle()?;
        let unpack = |bundles: &Path, tell: &Tell<'_>| {
            let size = payload.manifest().unpacked_size();
            let progress = progress::standard_error(&tr!("unpack"), size);
            match in_place {
                true => unpack::unpack_in_place(payload, bundles, &*progress, tell).map(drop),
                false => unpack::unpack(payload, bundles, &*progress).map(drop),
            }
        };
        Executor {
            root: &self.root,
            runner: self.runner,
            docker,
            unpack: &unpack,
            install_program: &|target| repack::install(payload, target),
            command,
            at_once: match brings_up {
                true => parallel::processors() + 1,
                false => 1,
            },
            watch: brings_up.then_some(&self.watch),
        }
        .run(plan)?;
        match plan.is_empty() {
            true => Ok(()),
            false => written::settle(&self.root, plan),
        }
    }

    /// Whether the link to the bundle in use leads to that of the payload, or is not there yet.
    fn uses_no_other_bundle(&self) -> Result<bool> {
        let link = self.root.link(CURRENT)?;
        Ok(link.is_none_or(|target| target == Path::new(self.payload.digest().as_str())))
    }

    /// Its state after the installation.
    pub fn state(&self) -> State {
        State::of(
            &self.spec,
            self.payload.manifest(),
            self.payload.digest().as_str(),
        )
    }

    /// Records that the node is installed as planned. Returns whether a record changed.
    pub fn note(&self, planned: &Planned) -> Result<bool> {
        let changed = written::note(&self.root, &planned.record)?;
        Ok(notes::write_state(&self.root, &self.state())? || changed)
    }
}
