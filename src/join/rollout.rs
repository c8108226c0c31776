//! The plan by which the nodes of a cluster get another bundle, and how far each of them is. Masters keep both where they
//! keep tokens and nodes: in a file, or in etcd if there are several. There, records are sealed with a key that only masters
//! can derive.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::shared::Etcd;
use super::store::{All, Record, Records};
use crate::digest::Sha256;
use crate::formats;
use crate::records::state::State;

/// The longest text with which a node says why it failed, in bytes.
pub const MOST_SAID: usize = 2000;
/// The name of the only plan.
const CURRENT: &str = "current";

/// Whether a plan goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Nodes that may begin, begin.
    Running,
    /// No node begins until somebody continues the plan.
    Paused,
    /// It ended before all nodes had the bundle.
    Aborted,
    /// Every node has the bundle.
    Done,
}

/// What all nodes are to get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rollout {
    /// SHA-256 of the appliance. It also identifies the plan.
    pub program: Sha256,
    /// Its size, in bytes.
    pub size: u64,
    /// The node from which the plan came, with the bundle.
    pub to: State,
    /// How long a node may take until it is healthy, in seconds.
    pub limit: u64,
    /// Whether it goes on.
    pub standing: Standing,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub begun: OffsetDateTime,
}

/// How far a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It did not answer when it was its turn. It begins when it returns.
    Late,
    /// It may begin.
    Granted,
    /// It has the appliance, and begins.
    Begun,
    /// It is healthy with the bundle.
    Done,
    /// It failed, and went back to what it had.
    Failed,
}

impl Stage {
    /// Whether the node may get the appliance.
    pub fn may_begin(self) -> bool {
        matches!(self, Stage::Late | Stage::Granted | Stage::Begun)
    }
}

/// What a master knows of a node in a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeStep {
    /// The plan: SHA-256 of its appliance.
    pub program: Sha256,
    /// How far the node is.
    pub stage: Stage,
    /// What it said, if it failed.
    pub said: Option<String>,
    /// Whether this plan keeps new pods away from it.
    #[serde(default)]
    pub cordoned: bool,
    /// When the stage began.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

impl Record for Rollout {
    const STAYS: bool = false;

    fn joined(&self, _own: &Rollout, _first: bool) -> Rollout {
        self.clone()
    }
}

impl Record for NodeStep {
    const STAYS: bool = false;

    fn joined(&self, _own: &NodeStep, _first: bool) -> NodeStep {
        self.clone()
    }
}

/// The plan, and the nodes in it.
#[derive(Clone, Debug)]
pub struct Rollouts {
    plan: Records<String, Rollout>,
    nodes: Records<String, NodeStep>,
}

impl Rollouts {
    /// The records of a master with its records in `dir`, and in `etcd` if masters share them.
    pub fn new(dir: &Path, etcd: Option<Etcd>) -> Rollouts {
        Rollouts {
            plan: Records::new(dir, &formats::ROLLOUT, etcd.clone()),
            nodes: Records::new(dir, &formats::ROLLOUT_NODES, etcd),
        }
    }

    /// Takes the records out of etcd into the files of this machine, which is the only master from now on.
    pub fn take_home(&self) -> Result<()> {
        self.plan.take_home()?;
        self.nodes.take_home()
    }

    /// The plan; `None` if there was none yet.
    pub fn plan(&self) -> Result<Option<Rollout>> {
        Ok(self.plan.read()?.remove(CURRENT))
    }

    /// Makes this the plan.
    pub fn set(&self, plan: &Rollout) -> Result<()> {
        self.plan.change(&CURRENT.to_owned(), |found| {
            *found = Some(plan.clone());
            Ok(())
        })?
    }

    /// Notes whether the plan goes on. Returns false if there is no plan.
    pub fn set_standing(&self, standing: Standing) -> Result<bool> {
        self.plan.change(&CURRENT.to_owned(), |found| {
            let Some(plan) = found else {
                return Ok(false);
            };
            plan.standing = standing;
            Ok(true)
        })?
    }

    /// The nodes of this plan, by name.
    pub fn nodes(&self, plan: &Rollout) -> Result<All<String, NodeStep>> {
        let mut all = self.nodes.read()?;
        all.retain(|_, step| step.program == plan.program);
        Ok(all)
    }

    /// Notes how far a node is.
    pub fn note(&self, name: &str, step: &NodeStep) -> Result<()> {
        self.nodes.change(&name.to_owned(), |found| {
            *found = Some(step.clone());
            Ok(())
        })?
    }

    /// Notes what the node `name` reports about the plan of the appliance `program`. A report about another plan, or of a
    /// node that may not begin, changes nothing.
    pub fn report(
        &self,
        name: &str,
        program: &Sha256,
        stage: Stage,
        said: Option<String>,
        now: OffsetDateTime,
    ) -> Result<()> {
        // A node decides neither whose turn it is, nor how much a master keeps.
        let is_of_node = matches!(stage, Stage::Begun | Stage::Done | Stage::Failed);
        let said = said.map(|said| said.chars().take(MOST_SAID).collect::<String>());
        self.nodes.change(&name.to_owned(), |found| {
            if let Some(step) = found
                && is_of_node
                && step.program == *program
                && step.stage.may_begin()
                && step.stage != stage
            {
                step.stage = stage;
                step.said = said.clone();
                step.at = now;
            }
            Ok(())
        })?
    }

    /// What the node `name` is to get now; `None` if it is not its turn.
    pub fn offer(&self, name: &str) -> Result<Option<Rollout>> {
        let plan = self
            .plan()?
            .filter(|plan| plan.standing == Standing::Running);
        let Some(plan) = plan else {
            return Ok(None);
        };
        let may_begin = self
            .nodes(&plan)?
            .get(name)
            .is_some_and(|step| step.stage.may_begin());
        Ok(may_begin.then_some(plan))
    }
}

/// How far the plan is.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The bundle of the plan.
    pub to: State,
    /// Whether it goes on.
    pub standing: Standing,
    /// The nodes that began or have to begin, and how far each is.
    pub nodes: BTreeMap<String, NodeProgress>,
}

/// How far a node is.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct NodeProgress {
    /// The stage.
    pub stage: Stage,
    /// What it said, if it failed.
    pub said: Option<String>,
}

impl Progress {
    /// How far the plan in these records is; `None` if there is none.
    pub fn of(rollouts: &Rollouts) -> Result<Option<Progress>> {
        let Some(plan) = rollouts.plan()? else {
            return Ok(None);
        };
        let nodes = rollouts.nodes(&plan)?.into_iter();
        Ok(Some(Progress {
            to: plan.to,
            standing: plan.standing,
            nodes: nodes
                .map(|(name, step)| {
                    let NodeStep { stage, said, .. } = step;
                    (name, NodeProgress { stage, said })
                })
                .collect(),
        }))
    }

    /// The nodes of these stages.
    pub fn nodes_at(&self, stages: &[Stage]) -> Vec<&str> {
        let nodes = self.nodes.iter();
        let nodes = nodes.filter(|(_, node)| stages.contains(&node.stage));
        nodes.map(|(name, _)| name.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn plan(program: &[u8]) -> Rollout {
        let to = serde_json::from_value(serde_json::json!({
            "appliance": "1", "bundle": "b", "kubernetes": "v1.9.0", "digest": "d", "demonstration": true,
            "role": "master", "profile": "with-ca", "node": "n", "address": "192.168.1.102"
        }));
        Rollout {
            program: Sha256::of(program),
            size: 1,
            to: to.unwrap(),
            limit: 600,
            standing: Standing::Running,
            begun: NOW,
        }
    }

    fn step(plan: &Rollout, stage: Stage) -> NodeStep {
        NodeStep {
            program: plan.program.clone(),
            stage,
            said: None,
            cordoned: false,
            at: NOW,
        }
    }

    #[test]
    fn only_a_node_whose_turn_it_is_gets_the_appliance_and_only_while_the_plan_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let all = Rollouts::new(dir.path(), None);
        assert_eq!(all.offer("server03").unwrap(), None);
        assert!(!all.set_standing(Standing::Paused).unwrap());
        let first = plan(b"first");
        all.set(&first).unwrap();
        assert_eq!(all.offer("server03").unwrap(), None);
        all.note("server03", &step(&first, Stage::Granted)).unwrap();
        assert_eq!(all.offer("server03").unwrap().as_ref(), Some(&first));
        assert_eq!(all.offer("server01").unwrap(), None);
        all.set_standing(Standing::Paused).unwrap();
        assert_eq!(all.offer("server03").unwrap(), None);
        all.set_standing(Standing::Running).unwrap();
        assert!(all.offer("server03").unwrap().is_some());
        // A corrected plan: what was granted for the first one does not count.
        all.set(&plan(b"second")).unwrap();
        assert_eq!(all.offer("server03").unwrap(), None);
    }

    #[test]
    fn a_report_counts_for_its_plan_and_from_a_node_whose_turn_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let all = Rollouts::new(dir.path(), None);
        let plan = plan(b"first");
        all.set(&plan).unwrap();
        let stage = |name: &str| all.nodes(&plan).unwrap().get(name).map(|step| step.stage);
        let report = |program: &[u8], stage| {
            let program = Sha256::of(program);
            all.report("server03", &program, stage, None, NOW).unwrap();
        };
        report(b"first", Stage::Done);
        assert_eq!(stage("server03"), None);
        all.note("server03", &step(&plan, Stage::Granted)).unwrap();
        report(b"other", Stage::Done);
        assert_eq!(stage("server03"), Some(Stage::Granted));
        report(b"first", Stage::Failed);
        assert_eq!(stage("server03"), Some(Stage::Failed));
        report(b"first", Stage::Done);
        assert_eq!(stage("server03"), Some(Stage::Failed));
    }
}
