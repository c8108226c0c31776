//! Applies add-ons and workloads to the cluster, each as soon as the ones before it are available,
//! and reports their state.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::records;
use crate::addons::{Addon, Cluster, Note, Standing, explained, is_refusal, missing};
use crate::clients::kubectl;
use crate::observe::addons;
use crate::paths;
use crate::sys::lock::{Lock, Patience};
use crate::sys::process::Runner;
use crate::sys::retry::{Failure, Schedule, permanent, retried, transient};
use crate::sys::root::Root;

/// The longest pause between two checks, unless a check takes longer.
const PAUSE: Duration = Duration::from_secs(10);
/// The longest one of a wait that has just begun.
const FIRST: Duration = Duration::from_secs(1);
/// Later pauses are this part of the time since then: what took long may take longer.
const PART: u32 = 20;

/// Applies everything and waits without limit until all of it is available. It logs what it waits
/// for whenever that changes.
pub fn settle(root: &Root, runner: &dyn Runner) -> Result<()> {
    let addons = addons::index(root)?;
    let mut applied = BTreeSet::new();
    let start = Instant::now();
    retried("add-ons", Schedule::endless(FIRST), || {
        let began = Instant::now();
        let outcome = round(root, runner, &addons, &mut applied);
        // Spend at most half of the time on requests: a slow machine needs it for the cluster.
        let pause = began.elapsed().max(PAUSE.min(start.elapsed() / PART));
        outcome.map_err(|failure| failure.after(pause))
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
        match addons::standing(runner, addon, &cluster) {
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
    // A run that waits for add-ons must not keep others away: it locks only to write.
    let _lock = Lock::take(root, Patience::Endless)?;
    let mut notes = addons::notes(root)?;
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
        records::write_json(root, paths::ADDONS_NOTES, &notes)?;
    }
    Ok(answer)
}
