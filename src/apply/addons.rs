//! Applies add-ons and workloads to the cluster, each as soon as the ones before it are available,
//! and reports their state.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

use crate::addons::object::listed;
use crate::addons::{
    Addon, Cluster, INDEX, NOTES, Note, Notes, Standing, explained, is_refusal, judge, missing,
    namespaces,
};
use crate::apply::{kubectl, state};
use crate::sys::process::Runner;
use crate::sys::retry::{Failure, Schedule, permanent, retried, transient};
use crate::sys::root::Root;

/// The longest pause between two checks.
const PAUSE: Duration = Duration::from_secs(10);

/// The add-ons and workloads to apply on this machine, in order; none if it is no master.
pub fn index(root: &Root) -> Result<Vec<Addon>> {
    Ok(state::read_json(root, INDEX)?.unwrap_or_default())
}

/// Applies everything and waits without limit until all of it is available. It logs what it waits
/// for whenever that changes.
pub fn settle(root: &Root, runner: &dyn Runner) -> Result<()> {
    let addons = index(root)?;
    let mut applied = BTreeSet::new();
    retried("add-ons", Schedule::endless(PAUSE), || {
        let began = Instant::now();
        let outcome = round(root, runner, &addons, &mut applied);
        // Spend at most half of the time on requests: a slow machine needs it for the cluster.
        outcome.map_err(|failure| failure.after(began.elapsed()))
    })
    .map_err(Failure::into_error)?;
    log::info!("all {} add-ons and workloads are available", addons.len());
    Ok(())
}

/// Applies what can be applied now. A failure names what is not available yet.
fn round(
    root: &Root,
    runner: &dyn Runner,
    addons: &[Addon],
    applied: &mut BTreeSet<String>,
) -> Result<(), Failure> {
    let nodes = kubectl::get(runner, &["nodes"]).map_err(|error| {
        let reason = kubectl::ready(runner).err().unwrap_or(error);
        transient(reason.context("the API server"))
    })?;
    let cluster = Cluster::of(&nodes);
    let mut available = BTreeSet::new();
    let mut waiting = Vec::new();
    for addon in addons {
        let lacks = missing(addon, &available);
        if !lacks.is_empty() {
            waiting.push(format!("{}: waits for {}", addon.name, lacks.join(", ")));
            continue;
        }
        if !applied.contains(&addon.name) {
            if let Err(error) = apply(root, runner, addon).map_err(permanent)? {
                waiting.push(format!("{}: {error}", addon.name));
                continue;
            }
            log::info!("applied {} ({})", addon.name, addon.path);
            applied.insert(addon.name.clone());
        }
        match standing(runner, addon, &cluster) {
            Ok(Standing::Available(_)) => drop(available.insert(addon.name.as_str())),
            Ok(Standing::Waiting(why) | Standing::Stuck(why)) => {
                waiting.push(format!("{}: {why}", addon.name));
            }
            Err(error) => waiting.push(format!("{}: {error:#}", addon.name)),
        }
    }
    if waiting.is_empty() {
        return Ok(());
    }
    Err(transient(anyhow!("{}", waiting.join("; "))))
}

/// Applies one add-on and records the result. The inner error is the answer of kubectl. If the API
/// server did not answer, there is no result to record yet.
fn apply(root: &Root, runner: &dyn Runner, addon: &Addon) -> Result<Result<(), String>> {
    let answer =
        kubectl::apply_now(runner, &addon.path).map_err(|error| explained(&format!("{error:#}")));
    if answer.as_ref().is_err_and(|said| !is_refusal(said)) {
        return Ok(answer);
    }
    let mut notes = notes(root)?;
    let note = notes.entry(addon.name.clone()).or_default();
    let now = match &answer {
        Ok(()) => Note {
            applied: Some(addon.digest.clone()),
            refused: None,
        },
        Err(said) => Note {
            applied: note.applied.clone(),
            refused: Some(said.clone()),
        },
    };
    if *note != now {
        *note = now;
        state::write_json(root, NOTES, &notes)?;
    }
    Ok(answer)
}

/// The results of applying so far.
pub fn notes(root: &Root) -> Result<Notes> {
    Ok(state::read_json(root, NOTES)?.unwrap_or_default())
}

/// The state of an add-on in the cluster.
pub fn standing(runner: &dyn Runner, addon: &Addon, cluster: &Cluster) -> Result<Standing> {
    let Some(objects) = kubectl::get_file(runner, &addon.path)? else {
        return Ok(Standing::Waiting("not applied yet".to_owned()));
    };
    let first = judge(&objects, &[], cluster);
    if matches!(first, Standing::Available(_)) || cluster.able.is_empty() {
        return Ok(first);
    }
    let mut lists: Vec<Value> = Vec::new();
    for namespace in namespaces(&objects) {
        let pods = kubectl::get(runner, &["pods", "--namespace", &namespace]);
        lists.push(pods.with_context(|| format!("pods of namespace {namespace}"))?);
    }
    let pods: Vec<&Value> = lists.iter().flat_map(listed).collect();
    Ok(judge(&objects, &pods, cluster))
}
