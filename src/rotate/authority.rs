//! The authorities of the cluster and of etcd: new ones are trusted beside the old ones, then they issue everything
//! anew, then the old ones are dropped.
//!
//! How far a rotation is shows in the files with the authorities. `ca.pem` begins with the authority that issues. The
//! new authority waits in [`paths::ROTATION_DIR`] until the end:
//!
//! 1. `ca.pem` has the new authority behind the old one: all trust both;
//! 2. the new one is first: it issues, and all still trust both;
//! 3. `ca.pem` has the new one alone.
//!
//! A step begins only when all nodes have taken the file of the step before.

use std::fmt;

use anyhow::{Context as _, Result, bail};
use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;

use super::node::{digest, settle};
use crate::components::{AUTHORITY, ETCD_AUTHORITY};
use crate::desired::{Content, Purpose};
use crate::enroll::{Joining, next_authorities};
use crate::install::Machine;
use crate::nodespec::Refused;
use crate::paths;
use crate::pki::inspect::certificates;
use crate::pki::{Issued, Secret};
use crate::plan::{Plan, Step};
use crate::sys::root::Root;

/// The authorities that are replaced together.
const AUTHORITIES: [&str; 2] = [AUTHORITY, ETCD_AUTHORITY];

/// How far a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// New authorities are made. Nobody trusts them yet.
    Made,
    /// All trust both. The old ones issue.
    Both,
    /// All trust both. The new ones issue.
    Anew,
    /// The old ones are dropped.
    Dropped,
    /// No rotation is under way.
    None,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Made => "new authorities are made, and nobody trusts them yet",
            Stage::Both => "this master trusts the old and the new authorities; the old ones issue",
            Stage::Anew => "this master trusts the old and the new authorities; the new ones issue",
            Stage::Dropped => "this master has dropped the old authorities",
            Stage::None => "no rotation is under way",
        })
    }
}

/// What the master sees of the other nodes.
pub trait Cluster {
    /// The nodes that have not taken the authorities of this digest ([`digest`]).
    fn behind(&self, digest: &str) -> Result<Vec<String>>;

    /// The pods, as `NAMESPACE/NAME`, that may not trust all of the authorities `pem`: they began with other ones.
    fn blind(&self, pem: &str) -> Result<Vec<String>>;
}

/// What the operator asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Whether to begin a rotation if none is under way.
    pub begin: bool,
    /// Whether to go on although pods do not trust the new authority.
    pub without_pods: bool,
}

/// What a run found and did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How far the rotation is now.
    pub stage: Stage,
    /// Whether this run, or an earlier one, completed the rotation.
    pub complete: bool,
    /// The nodes that have to follow before it goes on.
    pub behind: Vec<String>,
    /// The pods that have to start again before it goes on.
    pub pods: Vec<String>,
}

/// One authority during a rotation.
struct Held {
    name: &'static str,
    /// The certificates that are trusted, the issuing one first.
    current: Vec<String>,
    /// The certificate of the new one.
    next: Option<String>,
    /// Whether the key here is already that of the new one.
    has_next_key: bool,
}

impl Held {
    fn read(root: &Root, name: &'static str) -> Result<Held> {
        let text = |path: &str| -> Result<Option<String>> {
            let bytes = root.read(path)?.filter(|bytes| !bytes.is_empty());
            bytes
                .map(String::from_utf8)
                .transpose()
                .with_context(|| path.to_owned())
        };
        let path = paths::certificate(name);
        let current = text(&path)?;
        let current =
            current.with_context(|| format!("{path} is missing; run `appliance install`"))?;
        let next = text(&paths::next_authority(name))?;
        let next_key = root.read(&next_key(name))?.map(Secret::new);
        let key = root.read(&paths::key(name))?.map(Secret::new);
        Ok(Held {
            name,
            current: listed(&current).context(path)?,
            next: next
                .map(|pem| listed(&pem))
                .transpose()?
                .and_then(|all| all.into_iter().next()),
            has_next_key: next_key.is_some() && next_key == key,
        })
    }

    fn stage(&self) -> Stage {
        let Some(next) = &self.next else {
            return Stage::None;
        };
        match self.current.iter().position(|pem| pem == next) {
            None => Stage::Made,
            Some(0) if self.current.len() == 1 => Stage::Dropped,
            Some(0) => Stage::Anew,
            Some(_) => Stage::Both,
        }
    }
}

fn listed(pem: &str) -> Result<Vec<String>> {
    let all = certificates(pem)?.into_iter();
    Ok(all.map(|(pem, _)| pem.replace('\r', "")).collect())
}

fn next_key(name: &str) -> String {
    format!("{}/{name}-key.pem", paths::ROTATION_DIR)
}

/// All authorities here, and how far the one is that is behind.
fn held(root: &Root) -> Result<(Vec<Held>, Stage)> {
    let all = AUTHORITIES.iter().map(|name| Held::read(root, name));
    let all = all.collect::<Result<Vec<_>>>()?;
    let stage = all.iter().map(Held::stage).min().unwrap_or(Stage::None);
    Ok((all, stage))
}

/// How far a rotation is on the master at `root`.
pub fn stage(root: &Root) -> Result<Stage> {
    Ok(held(root)?.1)
}

/// What would have to happen before the rotation goes on. Changes nothing.
pub fn show(machine: &Machine, cluster: &dyn Cluster) -> Result<Report> {
    let stage = stage(&machine.root)?;
    let mut report = Report {
        stage,
        complete: false,
        behind: vec![],
        pods: vec![],
    };
    match stage {
        Stage::None => refuse(machine)?,
        Stage::Both | Stage::Anew => report.behind = cluster.behind(&digest(&machine.root)?)?,
        Stage::Made | Stage::Dropped => {}
    }
    Ok(report)
}

/// Goes on with a rotation as far as possible now.
///
/// It can be cut anywhere and run again.
///
/// # Errors
/// [`Refused`] if this cluster's authorities cannot be replaced by this program.
pub fn rotate(machine: &Machine, cluster: &dyn Cluster, wish: Wish) -> Result<Report> {
    let mut begin = wish.begin;
    let mut report = Report {
        stage: Stage::None,
        complete: false,
        behind: vec![],
        pods: vec![],
    };
    loop {
        let (all, stage) = held(&machine.root)?;
        report.stage = stage;
        match stage {
            Stage::None if report.complete || !begin => return Ok(report),
            Stage::None => {
                refuse(machine)?;
                refuse_other_changes(machine)?;
                make(machine)?;
            }
            Stage::Made => {
                make(machine)?;
                trust_both(machine)?;
            }
            // An earlier run was cut between the files of this step.
            Stage::Both if is_torn(&all, stage) => issue_anew(machine, &all)?,
            Stage::Anew if is_torn(&all, stage) => drop_old(machine, &all)?,
            Stage::Both => {
                if is_waiting(machine, cluster, &mut report)? {
                    return Ok(report);
                }
                if !wish.without_pods {
                    report.pods = cluster.blind(&text(&machine.root)?)?;
                    if !report.pods.is_empty() {
                        return Ok(report);
                    }
                }
                issue_anew(machine, &all)?;
            }
            Stage::Anew => {
                if is_waiting(machine, cluster, &mut report)? {
                    return Ok(report);
                }
                drop_old(machine, &all)?;
            }
            Stage::Dropped => {
                settle(machine, Joining::Pretended)?;
                forget(machine)?;
                report.complete = true;
            }
        }
        begin = false;
    }
}

/// Whether a run was cut after it had begun the next step.
fn is_torn(all: &[Held], stage: Stage) -> bool {
    all.iter()
        .any(|one| one.stage() != stage || stage == Stage::Both && one.has_next_key)
}

/// Brings this master into the state of its authorities. Returns whether other nodes have to follow first.
fn is_waiting(machine: &Machine, cluster: &dyn Cluster, report: &mut Report) -> Result<bool> {
    log::info!("{}", report.stage);
    settle(machine, Joining::Pretended)?;
    report.behind = cluster.behind(&digest(&machine.root)?)?;
    Ok(!report.behind.is_empty())
}

/// The authorities that nodes trust, in PEM.
fn text(root: &Root) -> Result<String> {
    let pem = root.read(paths::CA_CERTIFICATE)?.unwrap_or_default();
    String::from_utf8(pem).context(paths::CA_CERTIFICATE)
}

fn refused(problem: String) -> Refused {
    Refused {
        problems: vec![problem],
    }
}

/// Refuses clusters whose authorities this program does not replace.
fn refuse(machine: &Machine) -> Result<()> {
    let spec = &machine.spec;
    if spec.has_several_masters() {
        bail!(refused(
            "this cluster has several masters, and this version replaces the authorities of a single one only: the \
             records that masters share in etcd are sealed with the key of the authority. Nothing was changed"
                .to_owned()
        ));
    }
    if let Some(ca) = &spec.ca {
        bail!(refused(format!(
            "{} says `ca: {}`: you made this authority, and this program does not replace it; to have the cluster make \
             its own one, remove `ca` there, and run this again",
            ca.origin, ca.certificate
        )));
    }
    Ok(())
}

/// Refuses to begin while something else would change on this master.
fn refuse_other_changes(machine: &Machine) -> Result<()> {
    let (plan, _) = machine.plan(&machine.identity(Joining::Pretended)?)?;
    if let Some(step) = plan.writes_beside(&[paths::AUTHORITIES]) {
        bail!(refused(format!(
            "this master is not as its settings say ({step}); run `appliance install` first, so that only the \
             authorities change"
        )));
    }
    Ok(())
}

fn write(path: String, content: Content, mode: u32, new: bool) -> Step {
    Step::WriteFile {
        path,
        mode,
        content,
        replaces: None,
        new,
        purpose: Purpose::Identity,
    }
}

fn public(path: String, pem: String) -> Step {
    write(path, Content::Whole(pem.into_bytes()), 0o644, false)
}

fn apply(machine: &Machine, steps: Vec<Step>) -> Result<()> {
    machine.take_down(&Plan { steps })
}

/// Writes the new authorities, keys first. Those that are there stay.
fn make(machine: &Machine) -> Result<()> {
    let mut steps = Vec::new();
    for issued in next_authorities(&machine.root, OffsetDateTime::now_utc())? {
        steps.extend(files(&machine.root, issued)?);
    }
    apply(machine, steps)
}

/// The files of a new authority that are missing.
fn files(root: &Root, issued: Issued) -> Result<Vec<Step>> {
    let is_missing =
        |path: &str| Ok::<_, anyhow::Error>(root.read(path)?.is_none_or(|bytes| bytes.is_empty()));
    let mut steps = Vec::new();
    let key = issued.key_pem.context("no key was made")?;
    if is_missing(&issued.key_path)? {
        steps.push(write(issued.key_path, Content::Secret(key), 0o600, false));
    }
    if is_missing(&issued.certificate_path)? {
        steps.push(public(issued.certificate_path, issued.certificate_pem));
    }
    Ok(steps)
}

/// Adds each new authority behind the old one.
fn trust_both(machine: &Machine) -> Result<()> {
    let (all, _) = held(&machine.root)?;
    let made = all.into_iter().filter(|one| one.stage() == Stage::Made);
    let steps = made.map(|one| {
        let next = one.next.unwrap_or_default();
        public(paths::certificate(one.name), one.current.concat() + &next)
    });
    apply(machine, steps.collect())
}

/// Gives each new authority its key, and the first place.
fn issue_anew(machine: &Machine, all: &[Held]) -> Result<()> {
    let mut steps = Vec::new();
    for one in all.iter().filter(|one| one.stage() == Stage::Both) {
        let path = next_key(one.name);
        let key = machine.root.read(&path)?;
        let key = key.with_context(|| format!("{path} is missing; restore it from a backup"))?;
        steps.push(write(
            paths::key(one.name),
            Content::Secret(Secret::new(key)),
            0o600,
            false,
        ));
        let next = one.next.clone().unwrap_or_default();
        let others = one.current.iter().filter(|pem| **pem != next);
        let others: String = others.map(String::as_str).collect();
        steps.push(public(paths::certificate(one.name), next + &others));
    }
    log::info!("the new authorities issue all certificates of this master");
    apply(machine, steps)
}

/// Leaves each new authority alone.
fn drop_old(machine: &Machine, all: &[Held]) -> Result<()> {
    let anew = all.iter().filter(|one| one.stage() == Stage::Anew);
    let steps = anew.map(|one| {
        public(
            paths::certificate(one.name),
            one.next.clone().unwrap_or_default(),
        )
    });
    apply(machine, steps.collect())
}

/// Removes the files that only the rotation needed.
fn forget(machine: &Machine) -> Result<()> {
    apply(machine, paths::OF_ROTATION.map(Step::RemoveFile).into())
}
