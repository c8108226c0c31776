//! Another bundle for every node of a cluster: the masters one after the other, then the workers in waves. One master leads,
//! and notes each step where all masters read it: so any of them can go on.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use time::OffsetDateTime;

use super::controllers;
use crate::clients::own_node::OwnNode;
use crate::clients::{etcd, kubectl, mtls};
use crate::components::ETCD_CERTIFICATE;
use crate::join::registry;
use crate::join::rollout::{NodeStep, Progress, Rollout, Rollouts, Stage, Standing};
use crate::language::tr;
use crate::nodespec::Refused;
use crate::observe::records;
use crate::paths::PROGRAM;
use crate::records::state::State;
use crate::sys::process::Runner;
use crate::sys::retry::{Failure, Schedule, permanent, retried, transient};
use crate::sys::root::Root;
use crate::sys::stream::sha256_of_file;
use crate::sys::waiting::Waiting;

/// How long a node may take to ask, and to fetch the appliance, beside the limit of its upgrade and of the way back.
const FETCH: Duration = Duration::from_secs(1800);
/// The pause between two looks at the nodes.
const LOOK: Duration = Duration::from_secs(5);
/// How long a node may take until its kubelet reports again.
const READY: Duration = Duration::from_secs(300);
/// How long a member of etcd may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// How many workers are upgraded at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtOnce {
    /// This many.
    Nodes(usize),
    /// This share of them, in percent, and one at least.
    Percent(usize),
}

impl AtOnce {
    /// How many of `all` nodes.
    fn of(self, all: usize) -> usize {
        match self {
            AtOnce::Nodes(count) => count,
            AtOnce::Percent(percent) => (all * percent / 100).max(1),
        }
    }
}

impl FromStr for AtOnce {
    type Err = String;

    fn from_str(text: &str) -> Result<AtOnce, String> {
        let number = |text: &str| text.parse::<usize>().ok().filter(|number| *number > 0);
        let found = match text.strip_suffix('%') {
            Some(percent) => number(percent)
                .filter(|percent| *percent <= 100)
                .map(AtOnce::Percent),
            None => number(text).map(AtOnce::Nodes),
        };
        found.ok_or_else(|| tr!("expected a number of nodes such as 1, or a share such as 10%"))
    }
}

impl fmt::Display for AtOnce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AtOnce::Nodes(count) => write!(f, "{count}"),
            AtOnce::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Makes the plan pause or end. Nodes that have begun go on.
///
/// # Errors
/// [`Refused`] if there is no plan.
pub fn stop(root: &Root, standing: Standing) -> Result<()> {
    match registry::rollouts(root)?.set_standing(standing)? {
        true => Ok(()),
        false => bail!(Refused::new(tr!(
            "there is no plan for this cluster; begin one: `appliance upgrade --cluster`"
        ))),
    }
}

/// The master that leads.
pub struct Leader<'a> {
    root: &'a Root,
    runner: &'a dyn Runner,
    rollouts: Rollouts,
    plan: Rollout,
    own: State,
    at_once: AtOnce,
    drain: Duration,
}

impl<'a> Leader<'a> {
    /// Makes, or continues, the plan by which all nodes get the appliance of this master.
    pub fn begin(
        root: &'a Root,
        runner: &'a dyn Runner,
        (at_once, drain, limit): (AtOnce, Duration, Duration),
    ) -> Result<Leader<'a>> {
        let own = records::state(root)?.context(tr!("this machine is not a node"))?;
        let path = root.resolve(PROGRAM)?;
        let (program, size) = (sha256_of_file(&path)?, path.metadata()?.len());
        let rollouts = registry::rollouts(root)?;
        let before = rollouts.plan()?.filter(|plan| plan.program == program);
        let plan = Rollout {
            begun: before.map_or_else(OffsetDateTime::now_utc, |plan| plan.begun),
            program,
            size,
            to: own.clone(),
            limit: limit.as_secs(),
            standing: Standing::Running,
        };
        rollouts.set(&plan)?;
        let leader = Leader {
            root,
            runner,
            rollouts,
            plan,
            own,
            at_once,
            drain,
        };
        leader.note(&leader.own.node, Stage::Done, false)?;
        Ok(leader)
    }

    /// Upgrades every other node. Returns how far all are.
    ///
    /// # Errors
    /// If a node failed: no other begins then. If the plan was paused or aborted meanwhile.
    pub fn run(&self) -> Result<Progress> {
        for master in self.other_masters()? {
            self.check_quorum()?;
            self.wave(&[master], false)?;
        }
        let (ready, late): (Vec<_>, Vec<_>) =
            self.workers()?.into_iter().partition(|(_, ready)| *ready);
        for (name, _) in late {
            log::warn!("node {name} is not ready; it gets the bundle when it returns");
            self.note(&name, Stage::Late, false)?;
        }
        let ready: Vec<String> = ready.into_iter().map(|(name, _)| name).collect();
        for wave in ready.chunks(self.at_once.of(ready.len()).max(1)) {
            self.wave(wave, true)?;
        }
        let progress =
            Progress::of(&self.rollouts)?.context(tr!("the plan is gone; begin it again"))?;
        if progress
            .nodes_at(&[Stage::Late, Stage::Granted, Stage::Begun])
            .is_empty()
        {
            self.rollouts.set_standing(Standing::Done)?;
        }
        Progress::of(&self.rollouts)?.context(tr!("the plan is gone; begin it again"))
    }

    fn note(&self, name: &str, stage: Stage, cordoned: bool) -> Result<()> {
        let step = NodeStep {
            program: self.plan.program.clone(),
            stage,
            said: None,
            cordoned,
            at: OffsetDateTime::now_utc(),
        };
        self.rollouts.note(name, &step)
    }

    fn is_done(&self, name: &str) -> Result<bool> {
        let nodes = self.rollouts.nodes(&self.plan)?;
        Ok(nodes
            .get(name)
            .is_some_and(|step| step.stage == Stage::Done))
    }

    /// The other masters that do not have the bundle yet.
    fn other_masters(&self) -> Result<Vec<String>> {
        let mut others = Vec::new();
        for master in &self.own.masters {
            if master.name != self.own.node && !self.is_done(&master.name)? {
                others.push(master.name.clone());
            }
        }
        Ok(others)
    }

    /// The workers that do not have the bundle yet, and whether each is ready.
    fn workers(&self) -> Result<Vec<(String, bool)>> {
        let nodes = kubectl::get(self.runner, &["nodes"])?;
        let masters: BTreeSet<&str> = self.own.masters.iter().map(|m| m.name.as_str()).collect();
        let mut workers = Vec::new();
        for node in nodes["items"].as_array().into_iter().flatten() {
            let name = node["metadata"]["name"].as_str().unwrap_or_default();
            let is_master = name == self.own.node || masters.contains(name);
            if !is_master && !name.is_empty() && !self.is_done(name)? {
                workers.push((name.to_owned(), is_ready(node)));
            }
        }
        Ok(workers)
    }

    /// Refuses to take a master down while etcd lacks a member.
    fn check_quorum(&self) -> Result<()> {
        let client = mtls::client(self.root, ETCD_CERTIFICATE, ANSWER)?;
        let addresses: Vec<_> = self
            .own
            .masters
            .iter()
            .map(|master| master.address)
            .collect();
        let members = etcd::known_members(&client, &addresses)?;
        let down: Vec<&str> = members
            .iter()
            .filter(|member| !etcd::is_healthy(&client, &member.client_urls))
            .map(|member| member.name.as_str())
            .collect();
        match down.is_empty() {
            true => Ok(()),
            false => bail!(tr!(
                "the members {} of etcd are not healthy, and one more away could stop the cluster; repair them first: \
                 `appliance status`",
                down.join(", ")
            )),
        }
    }

    /// Upgrades these nodes at the same time.
    fn wave(&self, names: &[String], drains: bool) -> Result<()> {
        self.check_standing()?;
        if drains {
            controllers::until_they_act(self.runner)?;
        }
        for name in names {
            let cordoned = drains && self.drain(name)?;
            self.note(name, Stage::Granted, cordoned)?;
            log::info!("node {name} may begin");
        }
        self.await_all(names)?;
        if drains {
            for name in names {
                self.await_ready(name)?;
                self.uncordon(name)?;
                log::info!("node {name} has {}", self.plan.to.words());
            }
        }
        Ok(())
    }

    fn check_standing(&self) -> Result<()> {
        let plan = self.rollouts.plan()?;
        let plan = plan.filter(|plan| plan.program == self.plan.program);
        match plan.map(|plan| plan.standing) {
            Some(Standing::Running) => Ok(()),
            Some(Standing::Paused) => bail!(tr!(
                "the plan is paused; no other node begins. To go on: `appliance upgrade --cluster`"
            )),
            _ => bail!(tr!(
                "the plan ended, or another one took its place; see `appliance status`"
            )),
        }
    }

    /// Keeps new pods away, and moves the pods of the node elsewhere, as PodDisruptionBudgets allow. Returns whether the node
    /// took pods before.
    fn drain(&self, name: &str) -> Result<bool> {
        let node = OwnNode::of_admin(self.root, name)?;
        let was_open = !node.is_cordoned()?;
        node.cordon()?;
        let schedule = Schedule::until(Instant::now() + self.drain, LOOK);
        let drained = retried("draining", schedule, || {
            let pods = node.pods().map_err(transient)?;
            let left = node.evict_all(&pods).map_err(permanent)?;
            left.map_or(Ok(()), |why| Err(transient(anyhow!(why))))
        });
        if let Err(failure) = drained {
            if was_open {
                node.uncordon()?;
            }
            let error = Failure::into_error(failure);
            return Err(error.context(tr!("node {name} cannot be drained within {} s; nothing of it was changed. Correct the budgets, or give more \
                 time: `--drain-limit`", self.drain.as_secs(), name)));
        }
        Ok(was_open)
    }

    fn uncordon(&self, name: &str) -> Result<()> {
        let nodes = self.rollouts.nodes(&self.plan)?;
        match nodes.get(name).is_some_and(|step| step.cordoned) {
            true => OwnNode::of_admin(self.root, name)?.uncordon(),
            false => Ok(()),
        }
    }

    /// Waits until these nodes are done.
    fn await_all(&self, names: &[String]) -> Result<()> {
        let limit = FETCH + 2 * Duration::from_secs(self.plan.limit);
        let start = Instant::now();
        let _waiting = Waiting::new(&names.join(", "), Some(limit));
        loop {
            let nodes = self.rollouts.nodes(&self.plan)?;
            let stage = |name: &String| nodes.get(name).map(|step| step.stage);
            if let Some(failed) = names.iter().find(|name| stage(name) == Some(Stage::Failed)) {
                let said = nodes.get(failed).and_then(|step| step.said.clone());
                self.uncordon(failed)?;
                bail!(tr!(
                    "node {failed} failed and went back: {}; no other node begins. Correct the bundle, and begin with its \
                     appliance: `upgrade --cluster`",
                    said.unwrap_or_default().escape_debug(),
                    failed
                ));
            }
            if names.iter().all(|name| stage(name) == Some(Stage::Done)) {
                return Ok(());
            }
            if start.elapsed() > limit {
                let open: Vec<&str> = names
                    .iter()
                    .filter(|name| stage(name) != Some(Stage::Done))
                    .map(String::as_str)
                    .collect();
                bail!(tr!(
                    "{} did not report within {} s; no other node begins. See `journalctl -u appliance-follow` there",
                    open.join(", "),
                    limit.as_secs()
                ));
            }
            thread::sleep(LOOK);
        }
    }

    fn await_ready(&self, name: &str) -> Result<()> {
        let schedule = Schedule::until(Instant::now() + READY, LOOK);
        let ready = retried("waiting for the kubelet", schedule, || {
            let node = kubectl::get(self.runner, &["node", name]).map_err(transient)?;
            match is_ready(&node) {
                true => Ok(()),
                false => Err(transient(anyhow!(tr!("node {name} is not ready", name)))),
            }
        });
        ready.map_err(Failure::into_error)
    }
}

fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten();
    let mut ready = conditions.filter(|condition| condition["type"] == "Ready");
    ready.any(|condition| condition["status"] == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_is_a_number_or_a_share_of_the_nodes() {
        let parsed = |text: &str| text.parse::<AtOnce>();
        assert_eq!(parsed("2"), Ok(AtOnce::Nodes(2)));
        assert_eq!(parsed("10%"), Ok(AtOnce::Percent(10)));
        for wrong in ["", "0", "0%", "101%", "-1", "x"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
        assert_eq!(AtOnce::Percent(10).of(5), 1);
        assert_eq!(AtOnce::Percent(50).of(5), 2);
        assert_eq!(AtOnce::Nodes(3).of(5), 3);
    }
}
