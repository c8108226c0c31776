//! `appliance install`: sources → specification → files and certificates → plan → apply → verify.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::json;

use super::{Outcome, inputs, payload, print, status};
use crate::apply::Executor;
use crate::apply::docker::Docker;
use crate::apply::observe::{Observer, observe};
use crate::apply::software::docker_source;
use crate::apply::state::State;
use crate::bundle::payload::{Payload, this_program};
use crate::bundle::unpack;
use crate::cli::{Install, NodeInputs, Output, Trust};
use crate::commands::preflight;
use crate::components::{CA_CERTIFICATE, CA_DIR};
use crate::desired::{BUNDLES, Desired, Sources};
use crate::plan::{Plan, Step};
use crate::preflight::DockerSource;
use crate::spec::{NodeSpec, Profile, Refused};
use crate::sys::atomic;
use crate::sys::lock::Lock;
use crate::sys::process::{Runner, System};
use crate::sys::progress;
use crate::sys::root::Root;
use crate::verify::Report;

/// How long a renewal is tried before the next day's.
const RENEWAL: Duration = Duration::from_secs(600);
/// Between two looks at a node that is coming up.
const POLL: Duration = Duration::from_secs(2);

mod identity;
mod masters;
mod workloads;

use crate::sys::out::say;
use identity::{Identity, Joining};

/// Makes the machine a node.
pub fn run(arguments: &Install, required_key: Option<&str>) -> Result<Outcome> {
    with_node(arguments, required_key, |node| node.install(arguments))
}

/// Finds out what the node is to be, and does `work` with that.
pub fn with_node(
    arguments: &Install,
    required_key: Option<&str>,
    work: impl FnOnce(&Node<'_>) -> Result<Outcome>,
) -> Result<Outcome> {
    let root = Root::open(&arguments.root).map_err(Refused::because)?;
    preflight::check_user(&root)?;
    let payload = payload::to_install(arguments.payload.as_deref())?;
    payload::check_signature(&payload, &arguments.trust, required_key)?;
    let collected = inputs::collect(&arguments.inputs, &root, Some(payload.manifest()))?;
    let spec = NodeSpec::resolve(&collected.inputs)?;
    for warning in &spec.warnings {
        log::warn!("{warning}");
    }
    work(&Node {
        root: &root,
        runner: &System,
        payload: &payload,
        spec: &spec,
    })
}

/// Renews the certificates that come to their end, and restarts what runs with them. Nothing else
/// is changed.
pub fn renew(arguments: &NodeInputs, required_key: Option<&str>) -> Result<Outcome> {
    let root = Root::open("/".as_ref())?;
    preflight::check_user(&root)?;
    let Some(state) = State::read(&root)? else {
        return Ok(Outcome::NotInstalled);
    };
    let due = identity::due(&root, &state)?;
    if due.is_empty() {
        log::info!("no certificate comes to its end soon");
        return Ok(Outcome::Done);
    }
    log::info!("to be renewed: {}", due.join(", "));
    let payload = payload::to_install(None)?;
    payload::check_signature(&payload, &Trust::default(), required_key)?;
    let collected = inputs::collect(arguments, &root, Some(payload.manifest()))?;
    let spec = NodeSpec::resolve(&collected.inputs)?;
    let node = Node {
        root: &root,
        runner: &System,
        payload: &payload,
        spec: &spec,
    };
    let _lock = Lock::take(&root)?;
    node.check_profile()?;
    let (plan, docker) = node.plan(&identity::resolve(&node, Joining::Now(Some(RENEWAL)))?)?;
    let steps = plan.steps.into_iter().filter(is_of_renewal).collect();
    node.apply(&Plan { steps }, &docker)?;
    Ok(Outcome::Done)
}

/// Certificates, what holds them, and what has to be restarted for them.
fn is_of_renewal(step: &Step) -> bool {
    match step {
        Step::WriteFile { path, .. } => path.starts_with(CA_DIR) || path.ends_with(".kubeconfig"),
        Step::Start { restart, .. } => *restart,
        Step::EndContainers(_) => true,
        _ => false,
    }
}

/// A node that is to be.
pub struct Node<'a> {
    root: &'a Root,
    runner: &'a dyn Runner,
    payload: &'a Payload,
    /// What it is to be.
    pub spec: &'a NodeSpec,
}

impl Node<'_> {
    /// Makes it that.
    pub fn install(&self, arguments: &Install) -> Result<Outcome> {
        if arguments.dry_run {
            let (plan, _) = self.plan(&identity::resolve(self, Joining::Pretended)?)?;
            return self.show(&plan, arguments.output);
        }
        if self.spec.profile.value == Profile::Simple {
            log::warn!(
                "profile simple: anyone who reaches this machine may do anything to the cluster"
            );
        }
        let plan = self.change(arguments)?;
        let report = self.verify(arguments)?;
        self.finish(arguments, &plan, report.as_ref())
    }

    /// Changes the machine. From the first look at its keys to the last write no other run may
    /// come between: each would make keys of its own.
    fn change(&self, arguments: &Install) -> Result<Plan> {
        let _lock = Lock::take(self.root)?;
        self.check_profile()?;
        let limit =
            (arguments.join_timeout > 0).then(|| Duration::from_secs(arguments.join_timeout));
        if self.has_to_join()? {
            // What can be found wrong before is: the master may be hours away.
            self.plan(&identity::resolve(self, Joining::Pretended)?)?;
        }
        let (plan, docker) = self.plan(&identity::resolve(self, Joining::Now(limit))?)?;
        self.apply(&plan, &docker)?;
        let noted = self.state().write(self.root)?;
        self.say_what_changed(&plan, noted);
        Ok(plan)
    }

    /// A node does not change its profile on the way: its data and its peers are of the old one.
    fn check_profile(&self) -> Result<()> {
        let Some(state) = State::read(self.root)? else {
            return Ok(());
        };
        let (was, wanted) = (state.profile, self.spec.profile.to_string());
        if was == wanted {
            return Ok(());
        }
        bail!(Refused {
            problems: vec![format!(
                "this node was installed with the profile {was}, and {} is {wanted}; {}",
                self.spec.profile.origin,
                match self.spec.profile.value {
                    Profile::WithCa =>
                        "`appliance convert` takes the old one down first, and asks before",
                    Profile::Simple =>
                        "there is no way back from certificates: make the node anew for that",
                }
            )],
        })
    }

    /// Whether this machine gets certificates or keys from a master that it may have to wait for.
    fn has_to_join(&self) -> Result<bool> {
        let is_worker = self.spec.tls() && !self.spec.role.is_master();
        let has_to = is_worker && !self.root.exists(CA_CERTIFICATE)?;
        Ok(has_to || masters::lacks_shared_keys(self)?)
    }

    /// Carries out a plan of another making.
    pub fn carry_out(&self, plan: &Plan) -> Result<()> {
        let source = docker_source(self.root, self.payload.manifest())?;
        self.apply(plan, &Docker::of(source))
    }

    fn plan(&self, identity: &Identity) -> Result<(Plan, Docker)> {
        let manifest = self.payload.manifest();
        let whole = unpack::is_complete(&self.root.resolve(BUNDLES)?, self.payload);
        let source = docker_source(self.root, manifest)?;
        let found = workloads::find(self)?;
        let desired = self
            .desired(source, identity, &found)
            .map_err(Refused::because)?;
        preflight::check(self.root, self.runner, manifest, &desired, whole, self.spec)?;
        let docker = Docker::of(source);
        let observer = Observer {
            root: self.root,
            runner: self.runner,
            docker: &docker,
            program: &this_program()?,
            bundle_is_whole: whole,
        };
        let current = observe(&desired, &observer).map_err(Refused::because)?;
        Ok((Plan::build(&desired, &current), docker))
    }

    fn desired(
        &self,
        docker: DockerSource,
        identity: &Identity,
        found: &workloads::Found,
    ) -> Result<Desired> {
        Desired::build(&Sources {
            spec: self.spec,
            manifest: self.payload.manifest(),
            digest: self.payload.digest().as_str(),
            pki: identity.pki.as_ref(),
            tokens: identity.tokens.as_ref(),
            join_token: identity.join_token.clone(),
            bundled_docker: docker == DockerSource::Payload,
            workloads: &found.workloads,
            images: &found.images,
        })
    }

    fn show(&self, plan: &Plan, output: Output) -> Result<Outcome> {
        match output {
            Output::Text => print::plan(self.spec, plan),
            Output::Json => say!("{}", serde_json::to_string_pretty(&self.json(plan, None))?),
        }
        Ok(Outcome::Done)
    }

    fn apply(&self, plan: &Plan, docker: &Docker) -> Result<()> {
        let unpack = |bundles: &Path| {
            let progress =
                progress::standard_error("unpack", self.payload.manifest().unpacked_size());
            unpack::unpack(self.payload, bundles, &*progress).map(drop)
        };
        let announce =
            |number: usize, count: usize, step: &Step| log::info!("[{number}/{count}] {step}");
        let install_program = |path: &Path| atomic::copy(&this_program()?, path, 0o755);
        Executor {
            root: self.root,
            runner: self.runner,
            docker,
            unpack: &unpack,
            install_program: &install_program,
            announce: &announce,
        }
        .run(plan)
    }

    fn state(&self) -> State {
        let bundle = &self.payload.manifest().bundle;
        State {
            appliance: env!("CARGO_PKG_VERSION").to_owned(),
            bundle: bundle.name.clone(),
            kubernetes: bundle.kubernetes.clone(),
            digest: self.payload.digest().to_string(),
            demonstration: bundle.demonstration,
            role: self.spec.role.to_string(),
            profile: self.spec.profile.to_string(),
            node: self.spec.name.value.clone(),
            address: self.spec.address.to_string(),
            masters: self.spec.cluster.masters.value.clone(),
            balancer_port: (self.spec.has_several_masters())
                .then_some(*self.spec.cluster.balancer_port),
        }
    }

    fn say_what_changed(&self, plan: &Plan, noted: bool) {
        let state = self.state();
        let is = format!(
            "{} is a {} of bundle {}",
            state.node, state.role, state.bundle
        );
        if plan.is_empty() && !noted {
            log::info!("nothing to change: {is}");
        } else {
            log::info!("{} changes made: {is}", plan.steps.len());
        }
    }

    /// Waits until the node is healthy; gives up after the time the user set and returns
    /// what it said last. A directory that is being prepared has nobody to ask.
    fn verify(&self, arguments: &Install) -> Result<Option<Report>> {
        if !self.root.is_live() || arguments.wait == 0 {
            return Ok(None);
        }
        let (start, state) = (Instant::now(), self.state());
        let node = status::Node::of(self.root, self.runner, &state)?;
        let mut waited_for = String::new();
        loop {
            let report = node.report()?;
            let over = start.elapsed() >= Duration::from_secs(arguments.wait);
            let waiting_for = waiting_for(&report);
            if over || waiting_for.is_empty() {
                // Asked once: a master asks the API for every add-on, which keeps busy what is
                // waited for.
                return node.with_cluster(report).map(Some);
            }
            if waiting_for != waited_for {
                log::info!(
                    "{:>3} s: waiting for {waiting_for}",
                    start.elapsed().as_secs()
                );
                waited_for = waiting_for;
            }
            std::thread::sleep(POLL);
        }
    }

    fn finish(&self, arguments: &Install, plan: &Plan, report: Option<&Report>) -> Result<Outcome> {
        match (arguments.output, report) {
            (Output::Json, _) => say!(
                "{}",
                serde_json::to_string_pretty(&self.json(plan, report))?
            ),
            (Output::Text, Some(report)) => print::report(report, Output::Text)?,
            (Output::Text, None) => {}
        }
        Ok(report.map_or(Outcome::Done, |report| report.overall.into()))
    }

    fn json(&self, plan: &Plan, report: Option<&Report>) -> serde_json::Value {
        let steps = plan.steps.iter().map(ToString::to_string);
        json!({
            "changed": !plan.is_empty(),
            "settings": self.spec.explain(),
            "warnings": self.spec.warnings,
            "steps": steps.collect::<Vec<_>>(),
            "status": report,
        })
    }
}

fn waiting_for(report: &Report) -> String {
    let services = report
        .services
        .iter()
        .filter(|s| s.problem.is_some())
        .map(|s| s.name.as_str());
    let images = report
        .images
        .iter()
        .filter(|i| i.problem.is_some())
        .map(|i| i.reference.as_str());
    let certificates = report
        .certificates
        .iter()
        .filter(|c| c.problem.is_some())
        .map(|c| c.name.as_str());
    services
        .chain(images)
        .chain(certificates)
        .collect::<Vec<_>>()
        .join(", ")
}
