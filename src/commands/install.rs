//! `appliance install`: sources → specification → files and certificates → plan → apply → verify.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use time::OffsetDateTime;

use super::{Outcome, inputs, payload, print, status};
use crate::apply::Executor;
use crate::apply::docker::Docker;
use crate::apply::observe::observe;
use crate::apply::state::State;
use crate::bundle::payload::Payload;
use crate::bundle::unpack;
use crate::cli::{Install, Output};
use crate::commands::preflight;
use crate::components;
use crate::desired::{BUNDLES, Desired, Sources};
use crate::pki::{self, Existing};
use crate::plan::{Plan, Step};
use crate::preflight::DockerSource;
use crate::spec::{NodeSpec, Profile, Refused, Role};
use crate::sys::lock::Lock;
use crate::sys::process::{Runner, System};
use crate::sys::progress;
use crate::sys::root::Root;
use crate::verify::{Overall, Report};

/// Between two looks at a node that is coming up.
const POLL: Duration = Duration::from_secs(2);

/// The keys and certificates on the machine.
struct OnMachine<'a>(&'a Root);

impl Existing for OnMachine<'_> {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        self.0.read(path)
    }
}

/// Makes the machine a node.
pub fn run(arguments: &Install, required_key: Option<&str>) -> Result<Outcome> {
    let root = Root::open(&arguments.root).map_err(Refused::because)?;
    preflight::check_user(&root)?;
    let payload = payload::to_install(arguments.payload.as_deref())?;
    payload::check_signature(&payload, &arguments.trust, required_key)?;
    let collected = inputs::collect(&arguments.inputs, &root, Some(payload.manifest()))?;
    let spec = NodeSpec::resolve(&collected.inputs)?;
    check_role(&spec)?;
    for warning in &spec.warnings {
        log::warn!("{warning}");
    }
    let node = Node {
        root: &root,
        runner: &System,
        payload: &payload,
        spec: &spec,
    };
    node.install(arguments)
}

/// What this version cannot bring up is refused before anything is written.
fn check_role(spec: &NodeSpec) -> Result<(), Refused> {
    if *spec.role == Role::Master {
        return Ok(());
    }
    Err(Refused {
        problems: vec![format!(
            "{} is {:?}: this version brings up masters only; workers follow in a later one",
            spec.role.origin,
            spec.role.to_string()
        )],
    })
}

struct Node<'a> {
    root: &'a Root,
    runner: &'a dyn Runner,
    payload: &'a Payload,
    spec: &'a NodeSpec,
}

impl Node<'_> {
    fn install(&self, arguments: &Install) -> Result<Outcome> {
        if arguments.dry_run {
            let (plan, _) = self.plan()?;
            return self.show(&plan, arguments.output);
        }
        if self.spec.profile.value == Profile::Simple {
            log::warn!(
                "profile simple: anyone who reaches this machine may do anything to the cluster"
            );
        }
        let plan = self.change()?;
        let report = self.verify(arguments)?;
        self.finish(arguments, &plan, report.as_ref())
    }

    /// Changes the machine. From the first look at its keys to the last write no other run may
    /// come between: each would make keys of its own.
    fn change(&self) -> Result<Plan> {
        let _lock = Lock::take(self.root)?;
        let (plan, docker) = self.plan()?;
        self.apply(&plan, &docker)?;
        let noted = self.state().write(self.root)?;
        self.say_what_changed(&plan, noted);
        Ok(plan)
    }

    fn plan(&self) -> Result<(Plan, Docker)> {
        let manifest = self.payload.manifest();
        let whole = unpack::is_complete(&self.root.resolve(BUNDLES)?, self.payload);
        let source = preflight::docker_source(self.root, manifest)?;
        let desired = self.desired(source).map_err(Refused::because)?;
        preflight::check(self.root, self.runner, manifest, &desired, whole)?;
        let docker = status::docker(source);
        let current =
            observe(&desired, self.root, self.runner, &docker, whole).map_err(Refused::because)?;
        Ok((Plan::build(&desired, &current), docker))
    }

    fn desired(&self, docker: DockerSource) -> Result<Desired> {
        let existing = OnMachine(self.root);
        let request = components::pki_request(self.spec);
        let pki = request
            .map(|request| pki::resolve(&request, &existing, OffsetDateTime::now_utc()))
            .transpose()?;
        let tokens = match self.spec.profile.value {
            Profile::WithCa => {
                let file = existing.read(components::TOKEN_FILE)?;
                let tokens = pki::token::resolve_token_csv(file.as_deref())
                    .context(components::TOKEN_FILE)?;
                Some(tokens)
            }
            Profile::Simple => None,
        };
        Desired::build(&Sources {
            spec: self.spec,
            manifest: self.payload.manifest(),
            digest: self.payload.digest().as_str(),
            pki: pki.as_ref(),
            tokens: tokens.as_ref(),
            bundled_docker: docker == DockerSource::Payload,
        })
    }

    fn show(&self, plan: &Plan, output: Output) -> Result<Outcome> {
        match output {
            Output::Text => print::plan(self.spec, plan),
            Output::Json => println!("{}", serde_json::to_string_pretty(&self.json(plan, None))?),
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
        Executor {
            root: self.root,
            runner: self.runner,
            docker,
            unpack: &unpack,
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
        let mut waited_for = String::new();
        loop {
            let report = status::report(self.root, self.runner, &state)?;
            let over = start.elapsed() >= Duration::from_secs(arguments.wait);
            if report.overall == Overall::Healthy || over {
                return Ok(Some(report));
            }
            let waiting_for = waiting_for(&report);
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
            (Output::Json, _) => println!(
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
