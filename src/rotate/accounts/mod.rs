//! The key that signs the tokens of service accounts: all API servers verify with the old and the new one, the new one
//! signs, all tokens are made anew, and the old one is dropped.
//!
//! How far a rotation is shows in the files of a master. The new key waits in [`paths::NEXT_SERVICE_ACCOUNT`]:
//!
//! 1. its public key is beside the old one: API servers verify with both;
//! 2. it is the private key: the controller manager signs with it. Then service accounts get new tokens, and pods start
//!    again with them;
//! 3. the old public key is gone.
//!
//! A step begins only when every master has taken the step before it. So no API server gets a token that it does not
//! know, and none that a pod still has becomes invalid. Each step changes one file.

use std::fmt;

use anyhow::{Context as _, Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::masters::Masters;
use crate::formats::ROTATION;
use crate::language::tr;
use crate::nodespec::Refused;
use crate::paths;
use crate::pki::Secret;
use crate::pki::account::{AccountKey, verifying};

pub mod here;
#[cfg(test)]
mod tests;
pub mod tokens;

/// How far a rotation is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// A new key is made. Nothing uses it yet.
    Made,
    /// API servers verify with both. The old one signs.
    Both,
    /// API servers verify with both. The new one signs.
    Anew,
    /// The old one is dropped.
    Dropped,
    /// No rotation is under way.
    None,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Made => "a new key is made, and nothing uses it yet",
            Stage::Both => {
                "this master verifies tokens with the old and the new key; the old one signs"
            }
            Stage::Anew => {
                "this master verifies tokens with the old and the new key; the new one signs"
            }
            Stage::Dropped => "this master has dropped the old key",
            Stage::None => "no rotation is under way",
        })
    }
}

/// The files of a master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The private key, which signs.
    pub key: Secret,
    /// The public keys, which verify.
    pub public: String,
    /// The new private key.
    pub next: Option<Secret>,
}

/// One change of a master's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Keeps a new private key.
    Next(Secret),
    /// Writes the public keys.
    Public(String),
    /// Writes the private key.
    Key(Secret),
    /// Forgets the new private key, which is the private key.
    Forget,
}

/// One master.
pub trait Node {
    /// Its files.
    fn files(&self) -> Result<Files>;

    /// Changes one of them.
    fn change(&self, change: Change) -> Result<()>;

    /// Restarts what began with other files. Returns when its API server and its controller manager work with these.
    fn start(&self) -> Result<()>;

    /// Fails if something else on this master would change too.
    fn refuse_other_changes(&self) -> Result<()>;
}

/// The tokens of a cluster's service accounts. `public` is the new public key (SubjectPublicKeyInfo in DER).
pub trait Tokens {
    /// Has a new token made for each service account, for its next pods. Returns when all have one. The old ones stay.
    fn renew(&self, public: &[u8]) -> Result<()>;

    /// The pods, as `NAMESPACE/NAME`, that have an old token of their service account.
    fn pods(&self, public: &[u8]) -> Result<Vec<String>>;

    /// Has new tokens made in the secrets that users made. Returns these, as `NAMESPACE/NAME`.
    fn renew_others(&self, public: &[u8]) -> Result<Vec<String>>;

    /// Removes the old tokens that no pod has. Returns how many.
    fn remove_old(&self, public: &[u8]) -> Result<usize>;
}

/// What the operator asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Whether to begin a rotation if none is under way.
    pub begin: bool,
    /// Whether to go on although pods have old tokens.
    pub without_pods: bool,
}

/// What a run found and did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How far the rotation is now.
    pub stage: Stage,
    /// Whether this run completed the rotation.
    pub complete: bool,
    /// The masters that have to follow before it goes on.
    pub behind: Vec<String>,
    /// The pods that have to start again before it goes on.
    pub pods: Vec<String>,
    /// The secrets that users made, in which this run had new tokens made.
    pub renewed: Vec<String>,
    /// How many old tokens this run removed.
    pub removed: usize,
}

impl Report {
    fn new(stage: Stage) -> Report {
        Report {
            stage,
            complete: false,
            behind: vec![],
            pods: vec![],
            renewed: vec![],
            removed: 0,
        }
    }
}

/// What all masters are to follow.
#[derive(Serialize, Deserialize)]
struct Agreement {
    stage: Stage,
    /// The new private key in PEM.
    key: Zeroizing<String>,
}

impl Agreement {
    fn read(text: &Secret) -> Result<Agreement> {
        ROTATION.read_secret(text.expose(), || {
            tr!("the record service-accounts/agreed in etcd is of another version of this program")
        })
    }

    fn text(stage: Stage, key: &Secret) -> Result<Secret> {
        let key = String::from_utf8(key.expose().to_vec()).context(tr!("a key in PEM is text"))?;
        let agreement = Agreement {
            stage,
            key: key.into(),
        };
        Ok(Secret::new(serde_json::to_vec(&agreement)?))
    }

    fn key(&self) -> Secret {
        Secret::new(self.key.as_bytes().to_vec())
    }
}

impl Files {
    /// How far this master is.
    pub fn stage(&self) -> Result<Stage> {
        let Some(next) = &self.next else {
            return Ok(Stage::None);
        };
        let public = self.verifying()?;
        let next = AccountKey::read(next).context(paths::NEXT_SERVICE_ACCOUNT);
        let next = next.map_err(Refused::because)?;
        let key = AccountKey::read(&self.key).context(paths::SERVICE_ACCOUNT_PRIVATE)?;
        Ok(match () {
            () if !public.contains(&next.public()) => Stage::Made,
            () if key.public() != next.public() => Stage::Both,
            () if public.len() > 1 => Stage::Anew,
            () => Stage::Dropped,
        })
    }

    /// Refuses files that say that a rotation is under way, and lack its new private key.
    fn refuse_lost(&self) -> Result<()> {
        let public = self.verifying()?;
        if self.next.is_some() || public.len() < 2 {
            return Ok(());
        }
        let (next, own) = (paths::NEXT_SERVICE_ACCOUNT, paths::SERVICE_ACCOUNT_PRIVATE);
        let key = AccountKey::read(&self.key).context(own);
        let key = key.map_err(Refused::because)?;
        let is_new = public.last() == Some(&key.public());
        let way = match is_new {
            true => tr!(
                "This machine has it: `install -D -m 0600 {own} {next} && appliance certs rotate-service-accounts \
                 --continue`. Or",
                own,
                next
            ),
            false => tr!("Bring it back from a backup of this machine. Or"),
        };
        bail!(Refused::new(tr!(
            "{} has {} public keys, and {next} is missing: a rotation is not complete, and the old key is still \
                 trusted. {way} begin another rotation, which drops all of these keys: `appliance certs \
                 rotate-service-accounts`",
            paths::SERVICE_ACCOUNT_PUBLIC,
            public.len(),
            next,
            way
        )))
    }

    fn verifying(&self) -> Result<Vec<Vec<u8>>> {
        let public = verifying(&self.public).context(paths::SERVICE_ACCOUNT_PUBLIC);
        public.map_err(|error| Refused::because(error).into())
    }
}

/// How far a rotation is on this master, and what would have to happen first. Changes nothing.
pub fn show(node: &dyn Node, masters: &dyn Masters, tokens: &dyn Tokens) -> Result<Report> {
    let files = node.files()?;
    let agreed = masters.agreed()?;
    let mut report = Report::new(files.stage()?);
    match &agreed {
        Some(agreed) => {
            report.behind = masters.behind(agreed)?;
            report.stage = report.stage.min(Agreement::read(agreed)?.stage);
        }
        None => files.refuse_lost()?,
    }
    if report.stage == Stage::Anew
        && let Some(next) = &files.next
    {
        report.pods = tokens.pods(&AccountKey::read(next)?.public())?;
    }
    Ok(report)
}

/// Goes on with a rotation as far as possible now.
///
/// It can be cut anywhere and run again: every step finds out what was done before it does more.
///
/// # Errors
/// [`Refused`] if the files of this master do not fit to the rotation.
pub fn rotate(
    node: &dyn Node,
    masters: &dyn Masters,
    tokens: &dyn Tokens,
    wish: Wish,
) -> Result<Report> {
    let mut report = Report::new(Stage::None);
    let mut begin = wish.begin;
    loop {
        let files = node.files()?;
        let Some(agreed) = masters.agreed()? else {
            match (files.stage()?, &files.next) {
                (Stage::None, _) | (_, None) if !begin => {
                    files.refuse_lost()?;
                    return Ok(report);
                }
                (Stage::None, _) | (_, None) => {
                    node.refuse_other_changes()?;
                    files.verifying()?;
                    node.change(Change::Next(AccountKey::generate()?))?;
                    begin = false;
                }
                // Another master has completed the rotation.
                (Stage::Dropped, _) if masters.are_several() => node.change(Change::Forget)?,
                (stage, Some(next)) => {
                    let text = Agreement::text(stage.max(Stage::Both), next)?;
                    masters.agree(None, &text)?;
                }
            }
            continue;
        };
        begin = false;
        let agreement = Agreement::read(&agreed)?;
        take(node, &files, &agreement)?;
        masters.note(&agreed)?;
        report.stage = agreement.stage;
        report.behind = masters.behind(&agreed)?;
        if !report.behind.is_empty() {
            return Ok(report);
        }
        if agreement.stage == Stage::Dropped {
            report.removed += tokens.remove_old(&public(&agreement)?)?;
            masters.end(&agreed)?;
            node.change(Change::Forget)?;
            report.stage = Stage::None;
            report.complete = true;
            continue;
        }
        let Some(next) = next_stage(&agreement, tokens, wish, &mut report)? else {
            return Ok(report);
        };
        masters.agree(Some(&agreed), &Agreement::text(next, &agreement.key())?)?;
    }
}

/// The stage that may follow, when all masters have taken that of `agreement`; `None` if pods have to start again first.
fn next_stage(
    agreement: &Agreement,
    tokens: &dyn Tokens,
    wish: Wish,
    report: &mut Report,
) -> Result<Option<Stage>> {
    if agreement.stage < Stage::Anew {
        return Ok(Some(Stage::Anew));
    }
    let public = public(agreement)?;
    tokens.renew(&public)?;
    if !wish.without_pods {
        report.pods = tokens.pods(&public)?;
        if !report.pods.is_empty() {
            return Ok(None);
        }
    }
    report.renewed.extend(tokens.renew_others(&public)?);
    Ok(Some(Stage::Dropped))
}

fn public(agreement: &Agreement) -> Result<Vec<u8>> {
    Ok(AccountKey::read(&agreement.key())?.public())
}

/// Brings this master to the stage of `agreement`. It never goes back.
fn take(node: &dyn Node, files: &Files, agreement: &Agreement) -> Result<()> {
    let next = agreement.key();
    let key = AccountKey::read(&next)?;
    if files.next.as_ref() != Some(&next) && files.key != next {
        if matches!(files.stage()?, Stage::Both | Stage::Anew) {
            bail!(Refused::new(tr!(
                "{} is another key than the one that the other masters rotate to, and tokens may be signed with it; \
                     this master keeps it. See on the other masters: `appliance certs rotate-service-accounts --dry-run`",
                paths::NEXT_SERVICE_ACCOUNT
            )));
        }
        node.change(Change::Next(next.clone()))?;
    }
    let known = files.verifying()?;
    let is_known = known.contains(&key.public());
    if !is_known {
        let line = if files.public.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        node.change(Change::Public(
            files.public.clone() + line + &key.public_pem(),
        ))?;
    }
    if agreement.stage >= Stage::Anew && files.key != next {
        node.change(Change::Key(next))?;
    }
    if agreement.stage == Stage::Dropped && (known.len() > 1 || !is_known) {
        node.change(Change::Public(key.public_pem()))?;
    }
    node.start()
}
