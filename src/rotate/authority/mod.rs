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
//! A step begins only when all nodes have taken the file of the step before. Masters tell each other the new authorities,
//! with their keys, and the step that all are to take.

use anyhow::{Context as _, Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::files::{public, secret};
use super::here::refuse_other_changes;
use super::masters::Masters;
use super::node::{digest, settle};
use crate::enroll::{Joining, check_given, next_authorities};
use crate::formats::ROTATION;
use crate::install::Machine;
use crate::language::tr;
use crate::nodespec::Refused;
use crate::paths;
use crate::pki::{GivenAuthority, Issued, Secret};
use crate::plan::{Plan, Step};
use crate::sys::root::Root;

mod held;
mod whole;

pub use held::Stage;
use held::{Held, Next, advance, begun, held, keep, listed, next_ones};
use whole::{refuse_broken, refuse_unfit};

/// What the master sees of the other nodes.
pub trait Cluster {
    /// The nodes, except masters, that have not taken the authorities of this digest ([`digest`]).
    fn behind(&self, digest: &str) -> Result<Vec<String>>;

    /// The pods, as `NAMESPACE/NAME`, that may not trust all of the authorities `pem`: they began with other ones.
    fn blind(&self, pem: &str) -> Result<Vec<String>>;
}

/// What masters do one after the other, and with the records that they share.
pub trait Members {
    /// Does `work`, which restarts this master's member of etcd, while no other master does that, and only while all other
    /// members are healthy. Returns when this one is healthy too.
    fn in_turn(&self, work: &dyn Fn() -> Result<()>) -> Result<()>;

    /// Whether it is this master's turn, because a run was cut in it: the others wait until it is over.
    fn has_turn(&self) -> Result<bool>;

    /// Seals all records that masters share again: with the keys that this master has, and no others.
    fn seal_again(&self) -> Result<()>;
}

/// Everything that a rotation asks about the cluster.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// The nodes and pods.
    pub cluster: &'a dyn Cluster,
    /// What the masters agree on.
    pub masters: &'a dyn Masters,
    /// Their members of etcd.
    pub members: &'a dyn Members,
}

/// What the operator asks for.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Whether to begin a rotation if none is under way.
    pub begin: bool,
    /// Whether to go on although pods do not trust the new authority.
    pub without_pods: bool,
    /// The operator's own authority, which becomes that of the cluster; `None` for one that the cluster makes.
    pub given: Option<GivenAuthority>,
}

/// What a run found and did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How far the rotation is now.
    pub stage: Stage,
    /// Whether this run, or an earlier one, completed the rotation.
    pub complete: bool,
    /// The masters that have to follow before it goes on.
    pub masters: Vec<String>,
    /// The other nodes that have to follow before it goes on.
    pub behind: Vec<String>,
    /// The pods that have to start again before it goes on.
    pub pods: Vec<String>,
}

impl Report {
    fn new(stage: Stage) -> Report {
        Report {
            stage,
            complete: false,
            masters: vec![],
            behind: vec![],
            pods: vec![],
        }
    }

    fn is_waiting(&self) -> bool {
        !(self.masters.is_empty() && self.behind.is_empty() && self.pods.is_empty())
    }
}

/// What all masters are to follow.
#[derive(Serialize, Deserialize)]
struct Agreement {
    stage: Stage,
    authorities: Vec<Next>,
}

impl Agreement {
    fn read(text: &Secret) -> Result<Agreement> {
        ROTATION.read_secret(text.expose(), || {
            tr!("the record authorities/agreed in etcd is of another version of this program")
        })
    }

    fn text(stage: Stage, authorities: Vec<Next>) -> Result<Secret> {
        let agreement = Agreement { stage, authorities };
        Ok(Secret::new(serde_json::to_vec(&agreement)?))
    }
}

/// How far a rotation is on the master at `root`.
pub fn stage(root: &Root) -> Result<Stage> {
    let stages = held(root)?.into_iter().map(|one| one.stage());
    Ok(stages.min().unwrap_or(Stage::None))
}

/// What would have to happen before the rotation goes on. Changes nothing.
pub fn show(machine: &Machine, around: Around<'_>) -> Result<Report> {
    let mut report = Report::new(stage(&machine.root)?);
    match around.masters.agreed()? {
        Some(agreed) => {
            report.masters = around.masters.behind(&agreed)?;
            report.stage = report.stage.min(Agreement::read(&agreed)?.stage);
        }
        None => refuse_broken(&held(&machine.root)?)?,
    }
    if matches!(report.stage, Stage::Both | Stage::Anew) {
        report.behind = around.cluster.behind(&digest(&machine.root)?)?;
    }
    Ok(report)
}

/// Goes on with a rotation as far as possible now.
///
/// It can be cut anywhere and run again.
///
/// # Errors
/// [`Refused`] if the authority that the operator gives, or what this master has, does not fit.
pub fn rotate(machine: &Machine, around: Around<'_>, wish: &Wish) -> Result<Report> {
    let mut begin = wish.begin;
    let mut report = Report::new(Stage::None);
    loop {
        let all = held(&machine.root)?;
        let Some(agreed) = around.masters.agreed()? else {
            refuse_broken(&all)?;
            let stage = begun(&all);
            report.stage = stage;
            match stage {
                Stage::None if !begin => return Ok(report),
                Stage::None => {
                    refuse_own(machine, wish)?;
                    refuse_other_changes(machine, "authorities")?;
                    begin_anew(machine, wish)?;
                }
                // Only the files of this rotation are left to remove.
                Stage::Dropped if around.masters.are_several() || next_ones(&all)?.is_none() => {
                    carry_out(machine, around, &[])?;
                    forget(machine)?;
                    report.complete = !around.masters.are_several();
                    begin &= !report.complete;
                    continue;
                }
                _ => {
                    let next = made(machine, &all, wish)?;
                    let stage = stage.max(Stage::Both);
                    around.masters.agree(None, &Agreement::text(stage, next)?)?;
                }
            }
            begin = false;
            continue;
        };
        begin = false;
        if !follow(machine, around, wish, &agreed, &mut report)? {
            return Ok(report);
        }
    }
}

/// Takes what the masters have agreed on. If all have followed, ends the rotation, or has them agree on the next step.
/// Returns whether it goes on.
fn follow(
    machine: &Machine,
    around: Around<'_>,
    wish: &Wish,
    agreed: &Secret,
    report: &mut Report,
) -> Result<bool> {
    let agreement = Agreement::read(agreed)?;
    refuse_another(&agreement, wish)?;
    take(machine, around, &agreement)?;
    around.masters.note(agreed)?;
    report.stage = agreement.stage;
    report.masters = around.masters.behind(agreed)?;
    if !report.masters.is_empty() {
        return Ok(false);
    }
    let next = match agreement.stage {
        Stage::Dropped => {
            around.members.seal_again()?;
            around.masters.end(agreed)?;
            report.stage = Stage::None;
            report.complete = true;
            return Ok(true);
        }
        Stage::Anew => Stage::Dropped,
        _ => Stage::Anew,
    };
    report.behind = around.cluster.behind(&digest(&machine.root)?)?;
    if report.behind.is_empty() && next == Stage::Anew && !wish.without_pods {
        report.pods = around.cluster.blind(&text(&machine.root)?)?;
    }
    if report.is_waiting() {
        return Ok(false);
    }
    match next {
        // Masters that get their keys from now on may have the new key alone.
        Stage::Anew => around.members.seal_again()?,
        _ => refuse_old_setting(machine, &agreement)?,
    }
    let text = Agreement::text(next, agreement.authorities)?;
    around.masters.agree(Some(agreed), &text)?;
    Ok(true)
}

/// Brings this master to the stage of `agreement`. It never goes back.
fn take(machine: &Machine, around: Around<'_>, agreement: &Agreement) -> Result<()> {
    let next = &agreement.authorities;
    refuse_unfit(next)?;
    apply(machine, keep(&held(&machine.root)?, next)?)?;
    if agreement.stage == Stage::Dropped {
        refuse_old_setting(machine, agreement)?;
    }
    let all = held(&machine.root)?;
    let steps = advance(&all, next, agreement.stage, around.masters.are_several());
    if !steps.is_empty() {
        let issues = agreement.stage == Stage::Anew;
        log::info!(
            "{}",
            match issues {
                true => "the new authorities issue all certificates of this master",
                false => "this master changes the authorities that it trusts",
            }
        );
    }
    carry_out(machine, around, &steps)?;
    match agreement.stage {
        Stage::Dropped => forget(machine),
        _ => Ok(()),
    }
}

/// Changes the authorities of this master, and all that depends on them, in its turn if anything restarts.
fn carry_out(machine: &Machine, around: Around<'_>, steps: &[Step]) -> Result<()> {
    let work = || {
        apply(machine, steps.to_vec())?;
        settle(machine, Joining::Pretended)
    };
    let is_settled = || -> Result<bool> {
        let plan = machine.plan(&machine.identity(Joining::Pretended)?)?.plan;
        Ok(plan.is_empty())
    };
    match steps.is_empty() && is_settled()? && !around.members.has_turn()? {
        true => work(),
        false => around.members.in_turn(&work),
    }
}

/// The authorities that nodes trust, in PEM.
fn text(root: &Root) -> Result<String> {
    let pem = root.read(paths::CA_CERTIFICATE)?.unwrap_or_default();
    String::from_utf8(pem).context(paths::CA_CERTIFICATE)
}

/// Refuses to replace an authority of the operator's own by one that the cluster makes, while the settings name it.
fn refuse_own(machine: &Machine, wish: &Wish) -> Result<()> {
    match (&machine.spec.ca, &wish.given) {
        (Some(ca), None) => bail!(Refused::new(tr!(
            "{} says `ca: {}`: you made this authority. To replace it by another one of your own: `appliance certs rotate-ca \
             --ca FILE --ca-key FILE`. To have the cluster make its own one, remove `ca` there, on all masters, and run \
             this again",
            ca.origin,
            ca.certificate
        ))),
        _ => Ok(()),
    }
}

/// Refuses an authority of the operator's that is not the one to which the masters rotate.
fn refuse_another(agreement: &Agreement, wish: &Wish) -> Result<()> {
    let Some(given) = &wish.given else {
        return Ok(());
    };
    let certificates = listed(&given.certificates)?;
    let is_it = |next: &Next| next.certificates == certificates;
    match agreement.authorities.iter().any(is_it) {
        true => Ok(()),
        false => bail!(Refused::new(tr!(
            "{} is not the authority of the rotation that is under way; complete that one first: `appliance certs rotate-ca \
             --continue`",
            given.place
        ))),
    }
}

/// Refuses to drop an authority that the settings of this master still name: the next installation would miss it.
fn refuse_old_setting(machine: &Machine, agreement: &Agreement) -> Result<()> {
    let Some(ca) = &machine.spec.ca else {
        return Ok(());
    };
    let pem = machine.root.read(&ca.certificate)?.unwrap_or_default();
    let certificates = listed(&String::from_utf8_lossy(&pem)).unwrap_or_default();
    let is_it = |next: &Next| next.certificates == certificates;
    match agreement.authorities.iter().any(is_it) {
        true => Ok(()),
        false => bail!(Refused::new(tr!(
            "{} says `ca: {}`, which is the old authority; put the new one and its key into the files that it names, or \
             name other files, and run `appliance certs rotate-ca --continue`",
            ca.origin,
            ca.certificate
        ))),
    }
}

fn apply(machine: &Machine, steps: Vec<Step>) -> Result<()> {
    machine.take_down(&Plan { steps }, None)
}

/// Makes new authorities. Keys that an earlier run left without a certificate are of no use.
fn begin_anew(machine: &Machine, wish: &Wish) -> Result<()> {
    if let Some(given) = &wish.given {
        check_given(&machine.root, given, OffsetDateTime::now_utc()).map_err(Refused::because)?;
    }
    let left = [paths::NEXT_AUTHORITY_KEY, paths::NEXT_ETCD_AUTHORITY_KEY];
    apply(machine, left.map(Step::RemoveFile).into())?;
    make(machine, wish)
}

/// The new authorities in the files `all`. Makes those that are missing because a run was cut.
fn made(machine: &Machine, all: &[Held], wish: &Wish) -> Result<Vec<Next>> {
    if let Some(next) = next_ones(all)? {
        return Ok(next);
    }
    make(machine, wish)?;
    next_ones(&held(&machine.root)?)?.with_context(|| {
        tr!(
            "a file of the new authorities is missing in {}; restore it from a backup",
            paths::ROTATION_DIR
        )
    })
}

/// Writes the new authorities, keys first. Those that are there stay.
fn make(machine: &Machine, wish: &Wish) -> Result<()> {
    let root = &machine.root;
    let mut steps = Vec::new();
    let made = next_authorities(root, wish.given.as_ref(), OffsetDateTime::now_utc());
    for issued in made.map_err(Refused::because)? {
        steps.extend(files(root, issued)?);
    }
    apply(machine, steps)
}

/// The files of a new authority that are missing.
fn files(root: &Root, issued: Issued) -> Result<Vec<Step>> {
    let is_missing =
        |path: &str| Ok::<_, anyhow::Error>(root.read(path)?.is_none_or(|bytes| bytes.is_empty()));
    let mut steps = Vec::new();
    let key = issued.key_pem.context(tr!("no key was made"))?;
    if is_missing(&issued.key_path)? {
        steps.push(secret(&issued.key_path, key));
    }
    if is_missing(&issued.certificate_path)? {
        steps.push(public(&issued.certificate_path, issued.certificate_pem));
    }
    Ok(steps)
}

/// Removes the files that only the rotation needed.
fn forget(machine: &Machine) -> Result<()> {
    let mut steps: Vec<Step> = paths::OF_ROTATION.map(Step::RemoveFile).into();
    if listed(&text(&machine.root)?)?.len() == 1 {
        steps.insert(0, Step::RemoveFile(paths::ISSUER_CERTIFICATE));
    }
    apply(machine, steps)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_masters_of_the_first_format_agreed_on_is_read() {
        let frozen = include_str!("../../../tests/fixtures/formats/rotation-1.json");
        let frozen: Value = serde_json::from_str(frozen).unwrap();
        let text = Secret::new(frozen["authorities"].to_string().into_bytes());
        let Agreement { stage, authorities } = Agreement::read(&text).unwrap();
        let again = Agreement::text(stage, authorities).unwrap();
        let again: Value = serde_json::from_slice(again.expose()).unwrap();
        assert_eq!(again, frozen["authorities"]);
        let newer = Secret::new(br#"{"format": 2, "needs": "9.8.7"}"#.to_vec());
        let error = Agreement::read(&newer).err().unwrap();
        assert!(error.to_string().contains("appliance 9.8.7"), "{error:#}");
    }
}
