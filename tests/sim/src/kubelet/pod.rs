//! Brings one pod into the state that the API requires.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::events;

use super::container::{Making, NAME, UID, name};
use super::probes::{Finding, Probe, Target};
use super::sandbox::{self, Sandbox};
use super::settings::Settings;
use super::status::{self, Shown};

/// The first and the longest pause after a container that ended, or an image that could not be
/// pulled.
const FIRST_DELAY: Duration = Duration::from_secs(10);
const LAST_DELAY: Duration = Duration::from_secs(300);

/// After a container has run this long, its next pause is the first one again.
const LONG: f64 = 600.0;

/// The kubelet's memory of a container.
#[derive(Default)]
struct Kept {
    delay: Duration,
    failed: Option<Instant>,
    waiting: Option<(String, String)>,
    lives: Probe,
    ready: Probe,
}

impl Kept {
    fn wait_longer(&mut self) {
        self.delay = (self.delay * 2).clamp(FIRST_DELAY, LAST_DELAY);
    }
}

/// A pod on this node.
pub struct Pod {
    settings: Arc<Settings>,
    kept: HashMap<String, Kept>,
    told: String,
}

/// A container of the pod, and its state.
struct Part<'a> {
    pod: &'a Value,
    container: &'a Value,
    sandbox: &'a Sandbox,
    /// Its containers in docker, the latest last.
    found: Vec<&'a Value>,
    policy: &'a str,
}

impl Pod {
    /// A pod without any memory.
    pub fn new(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            kept: HashMap::new(),
            told: String::new(),
        }
    }

    /// Does the next step, and reports the pod's state to the API.
    ///
    /// # Errors Docker or the API does not answer.
    pub fn sync(&mut self, pod: &Value) -> Result<()> {
        let phase = pod["status"]["phase"].as_str().unwrap_or_default();
        if ["Succeeded", "Failed"].contains(&phase) {
            return Ok(());
        }
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        let settings = self.settings.clone();
        let containers = settings.docker.labelled(&format!("{UID}={uid}"))?;
        let sandbox = match sandbox::ensure(&settings, pod, &containers) {
            Ok(sandbox) => sandbox,
            Err(error) => {
                let message = format!(
                    "Failed create pod sandbox: rpc error: code = Unknown desc = {error:#}"
                );
                self.tell(pod, "FailedCreatePodSandBox", &message);
                return put_status(&settings, pod, waiting(&settings, pod));
            }
        };
        let containers = settings.docker.labelled(&format!("{UID}={uid}"))?;
        let policy = pod["spec"]["restartPolicy"].as_str().unwrap_or("Always");
        let listed = |member: &str| pod["spec"][member].as_array().cloned().unwrap_or_default();
        let (first, then) = (listed("initContainers"), listed("containers"));
        let once = if policy == "Never" {
            "Never"
        } else {
            "OnFailure"
        };
        let mut init = Vec::new();
        let mut blocked = false;
        for container in &first {
            let part = Part::of(pod, container, &sandbox, &containers, once);
            init.push(if blocked {
                part.not_yet()
            } else {
                self.container(&part)?
            });
            blocked = !init.iter().all(Shown::is_done);
        }
        let mut main = Vec::new();
        for container in &then {
            let part = Part::of(pod, container, &sandbox, &containers, policy);
            main.push(if blocked {
                part.not_yet()
            } else {
                self.container(&part)?
            });
        }
        let status = status::of(&settings, pod, Some(&sandbox.ip), &init, &main);
        put_status(&settings, pod, status)
    }

    /// Writes an event, unless it was the last one.
    fn tell(&mut self, pod: &Value, reason: &str, message: &str) {
        if self.told != message {
            eprintln!("pod {}: {message}", pod["metadata"]["name"]);
            events::record(
                &self.settings.api,
                "kubelet",
                pod,
                ("Warning", reason, message),
            );
            message.clone_into(&mut self.told);
        }
    }

    fn kept(&mut self, part: &Part<'_>) -> &mut Kept {
        self.kept.entry(part.name().to_owned()).or_default()
    }

    /// Brings one container into its required state.
    fn container<'a>(&mut self, part: &Part<'a>) -> Result<Shown<'a>> {
        let docker = self.settings.docker.clone();
        let inspect = |one: &Value| docker.inspect(one["Id"].as_str().unwrap_or_default());
        let Some((current, earlier)) = part.found.split_last() else {
            return self.start(part, None, 0);
        };
        let last = earlier.last().map(|one| inspect(one)).transpose()?;
        let current = inspect(current)?;
        let id = current["Id"].as_str().unwrap_or_default().to_owned();
        let state = &current["State"];
        let attempt = status::restarts(&current["Config"]).unwrap_or(0);
        if state["Running"] == true {
            let ready = self.probe(part, &id)?;
            return Ok(part.shown(Some(current), last, None, ready));
        }
        if state["Status"] == "created" {
            // It was created by a kubelet that ended, or could not be started.
            docker.remove(&id)?;
            return self.start(part, last, attempt);
        }
        if !part.is_started_again(&current) {
            return Ok(part.shown(Some(current), last, None, false));
        }
        let (ran, since) = (
            seconds_between(&state["StartedAt"], &state["FinishedAt"]),
            seconds_between(&state["FinishedAt"], &Value::Null),
        );
        let kept = self.kept(part);
        if ran > LONG {
            kept.delay = Duration::ZERO;
        }
        if since < kept.delay.as_secs_f64() {
            let message = format!(
                "Back-off {}s restarting failed container={} pod={}",
                kept.delay.as_secs(),
                part.name(),
                part.pod_name()
            );
            let waiting = Some(("CrashLoopBackOff".to_owned(), message));
            return Ok(part.shown(Some(current), last, waiting, false));
        }
        for old in earlier {
            docker.remove(old["Id"].as_str().unwrap_or_default())?;
        }
        let started = self.start(part, Some(current.clone()), attempt + 1)?;
        if started.current.is_none() {
            return Ok(part.shown(Some(current), None, started.waiting, false));
        }
        self.kept(part).wait_longer();
        Ok(started)
    }

    /// Creates and starts a container; a failure is tried again later.
    fn start<'a>(
        &mut self,
        part: &Part<'a>,
        last: Option<Value>,
        attempt: u64,
    ) -> Result<Shown<'a>> {
        let image = part.container["image"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let kept = self.kept(part);
        if kept.failed.is_some_and(|at| at.elapsed() < kept.delay) {
            if let Some((reason, message)) = &mut kept.waiting
                && reason == "ErrImagePull"
            {
                *reason = "ImagePullBackOff".to_owned();
                *message = format!("Back-off pulling image {image:?}");
            }
            let waiting = kept.waiting.clone();
            return Ok(part.shown(None, last, waiting, false));
        }
        match self.try_start(part, &image, attempt) {
            Ok(id) => {
                let kept = self.kept(part);
                (kept.failed, kept.waiting) = (None, None);
                let current = self.settings.docker.inspect(&id)?;
                let ready = part.container["readinessProbe"].is_null();
                Ok(part.shown(Some(current), last, None, ready))
            }
            Err((reason, message)) => {
                let told = match reason {
                    "ErrImagePull" => format!("Failed to pull image {image:?}: {message}"),
                    _ => format!("Error: {message}"),
                };
                self.tell(part.pod, "Failed", &told);
                let kept = self.kept(part);
                kept.wait_longer();
                kept.failed = Some(Instant::now());
                kept.waiting = Some((reason.to_owned(), message));
                let waiting = kept.waiting.clone();
                Ok(part.shown(None, last, waiting, false))
            }
        }
    }

    fn try_start(
        &self,
        part: &Part<'_>,
        image: &str,
        attempt: u64,
    ) -> Result<String, (&'static str, String)> {
        let docker = &self.settings.docker;
        let because = |reason| move |error: anyhow::Error| (reason, format!("{error:#}"));
        if !docker
            .has_image(image)
            .map_err(because("ImageInspectError"))?
        {
            if part.container["imagePullPolicy"] == "Never" {
                let message =
                    format!("Container image {image:?} is not present with pull policy of Never");
                return Err(("ErrImageNeverPull", message));
            }
            docker.pull(image).map_err(|error| {
                let message = format!("rpc error: code = Unknown desc = {error:#}");
                ("ErrImagePull", message)
            })?;
        }
        let making = Making {
            settings: &self.settings,
            pod: part.pod,
            container: part.container,
            sandbox: &part.sandbox.id,
            ip: &part.sandbox.ip,
            restarts: attempt,
        };
        let settings = making.settings();
        let settings = settings.map_err(because("CreateContainerConfigError"))?;
        let id = docker
            .create(&name(part.pod, part.name(), attempt), &settings)
            .map_err(because("CreateContainerError"))?;
        if let Err(error) = docker.start(&id) {
            docker.remove(&id).map_err(because("RunContainerError"))?;
            return Err((
                "RunContainerError",
                format!("failed to start container: {error:#}"),
            ));
        }
        Ok(id)
    }

    /// Probes a running container. Returns whether it is ready. A container that fails its liveness
    /// probe is ended, and restarted later.
    fn probe(&mut self, part: &Part<'_>, id: &str) -> Result<bool> {
        let docker = self.settings.docker.clone();
        let target = Target {
            docker: &docker,
            id,
            container: part.container,
            ip: &part.sandbox.ip,
        };
        let (lives, ready) = (
            &part.container["livenessProbe"],
            &part.container["readinessProbe"],
        );
        let mut problems = Vec::new();
        let kept = self.kept(part);
        if lives.is_object() {
            if let Finding::Failed(error) = kept.lives.look(lives, &target) {
                problems.push(format!("Liveness probe failed: {error}"));
            }
            if kept.lives.state() == Some(false) {
                kept.lives = Probe::default();
                docker.stop(id, grace(part.pod))?;
            }
        }
        let mut is_ready = true;
        if ready.is_object() {
            if let Finding::Failed(error) = kept.ready.look(ready, &target) {
                problems.push(format!("Readiness probe failed: {error}"));
            }
            is_ready = kept.ready.state() == Some(true);
        }
        for problem in problems {
            self.tell(part.pod, "Unhealthy", &problem);
        }
        Ok(is_ready)
    }

    /// Ends all of the pod's containers, removes its network and its files.
    ///
    /// # Errors Docker or a plugin fails.
    pub fn end(&self, uid: &str, pod: &Value) -> Result<()> {
        let docker = &self.settings.docker;
        let containers = docker.labelled(&format!("{UID}={uid}"))?;
        let (sandboxes, others): (Vec<&Value>, Vec<&Value>) =
            containers.iter().partition(|one| sandbox::is_one(one));
        for container in others {
            let id = container["Id"].as_str().unwrap_or_default();
            if container["State"] == "running" {
                docker.stop(id, grace(pod))?;
            }
            docker.remove(id)?;
        }
        for sandbox in sandboxes {
            sandbox::remove(&self.settings, pod, sandbox)?;
        }
        let directory = self.settings.directory(uid);
        let is_plain = !uid.is_empty() && !uid.contains(['/', '.']);
        if is_plain && directory.exists() {
            fs::remove_dir_all(&directory).with_context(|| directory.display().to_string())?;
        }
        Ok(())
    }
}

impl<'a> Part<'a> {
    fn of(
        pod: &'a Value,
        container: &'a Value,
        sandbox: &'a Sandbox,
        containers: &'a [Value],
        policy: &'a str,
    ) -> Self {
        let own = |one: &&Value| one["Labels"][NAME] == container["name"];
        let mut found: Vec<&Value> = containers.iter().filter(own).collect();
        found.sort_by_key(|one| status::restarts(one));
        Self {
            pod,
            container,
            sandbox,
            found,
            policy,
        }
    }

    /// Whether a container in this state has ended and must be restarted.
    fn is_started_again(&self, one: &Value) -> bool {
        let state = &one["State"];
        let failed = state["ExitCode"] != 0;
        let wanted = self.policy == "Always" || (self.policy == "OnFailure" && failed);
        wanted && state["Running"] != true
    }

    fn name(&self) -> &str {
        self.container["name"].as_str().unwrap_or_default()
    }

    fn pod_name(&self) -> &str {
        self.pod["metadata"]["name"].as_str().unwrap_or_default()
    }

    fn shown(
        &self,
        current: Option<Value>,
        last: Option<Value>,
        waiting: Option<(String, String)>,
        ready: bool,
    ) -> Shown<'a> {
        let again = current
            .as_ref()
            .is_some_and(|one| self.is_started_again(one));
        Shown {
            container: self.container,
            again,
            current,
            last,
            waiting,
            ready,
        }
    }

    /// A container that waits for others to end.
    fn not_yet(&self) -> Shown<'a> {
        let waiting = ("PodInitializing".to_owned(), String::new());
        self.shown(None, None, Some(waiting), false)
    }
}

/// The number of seconds for a pod's containers to end.
fn grace(pod: &Value) -> u64 {
    let stated = pod["metadata"]["deletionGracePeriodSeconds"].as_u64();
    let usual = pod["spec"]["terminationGracePeriodSeconds"].as_u64();
    stated.or(usual).unwrap_or(30)
}

/// The seconds from one of docker's times to another, or to now.
fn seconds_between(from: &Value, to: &Value) -> f64 {
    let parse = |value: &Value| OffsetDateTime::parse(value.as_str()?, &Rfc3339).ok();
    let to = parse(to).unwrap_or_else(OffsetDateTime::now_utc);
    parse(from).map_or(0.0, |from| (to - from).as_seconds_f64())
}

/// The status of a pod without a network.
fn waiting(settings: &Settings, pod: &Value) -> Value {
    let shown = |member: &str| {
        let containers = pod["spec"][member].as_array().into_iter().flatten();
        let shown = containers.map(|container| Shown {
            container,
            current: None,
            last: None,
            waiting: Some(("ContainerCreating".to_owned(), String::new())),
            ready: false,
            again: false,
        });
        shown.collect::<Vec<_>>()
    };
    status::of(
        settings,
        pod,
        None,
        &shown("initContainers"),
        &shown("containers"),
    )
}

/// Writes the pod's status, if it has changed.
fn put_status(settings: &Settings, pod: &Value, status: Value) -> Result<()> {
    if pod["status"] == status {
        return Ok(());
    }
    let mut changed = pod.clone();
    changed["status"] = status;
    if let Some(metadata) = changed.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
    }
    let text = |member: &str| pod["metadata"][member].as_str().unwrap_or_default();
    let (namespace, name) = (text("namespace"), text("name"));
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/status");
    let reply = settings.api.put(&path, &changed)?;
    if reply.status != 404 {
        reply.json().context("the pod's status")?;
    }
    Ok(())
}
