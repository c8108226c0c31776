//! The key that encrypts secrets in etcd: a new one is added, then used, all secrets are written again, and the
//! old one is dropped.
//!
//! How far a rotation is shows in the file with the keys ([`EncryptionKeys::stage`]). A step begins only when
//! every master has read the file of the step before it:
//!
//! 1. the new key is second: every API server can decrypt with it;
//! 2. it is first: every API server encrypts with it, and all secrets are written again;
//! 3. the old key is gone.
//!
//! So at no time is there a secret that one of the API servers cannot decrypt.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use schemars::JsonSchema;
use serde::Serialize;

use super::masters::Masters;
use crate::language::tr;
use crate::nodespec::Refused;
use crate::paths;
use crate::pki::Secret;
use crate::pki::encryption::{EncryptionKeys, Stage};

/// Where the API server keeps secrets in etcd.
pub const SECRETS: &str = "/registry/secrets/";
/// How many bytes of a value show which key encrypts it.
pub const HEAD: usize = 128;
/// What stands before the name of the key, in a value that the provider `aescbc` encrypted.
const PREFIX: &[u8] = b"k8s:enc:aescbc:v1:";
/// What stands before everything that any provider encrypted.
const ANY_PREFIX: &[u8] = b"k8s:enc:";
/// How often the list of secrets is read, until all are written again.
const ROUNDS: usize = 3;

/// What encrypts a secret in etcd.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Under {
    /// The key of this name.
    Key(String),
    /// Nothing: an older version stored it.
    Nothing,
    /// Another provider than this program configures.
    Another,
}

/// A secret in etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What encrypts it.
    pub under: Under,
}

impl Stored {
    /// The secret with that key in etcd, whose value begins with `head`.
    pub fn read(key: &str, head: &[u8]) -> Result<Stored> {
        let parts = key
            .strip_prefix(SECRETS)
            .and_then(|rest| rest.split_once('/'));
        let plain = |part: &&str| {
            part.chars()
                .all(|c| c.is_ascii_alphanumeric() || "-.".contains(c))
        };
        let (namespace, name) = parts
            .filter(|(namespace, name)| [namespace, name].into_iter().all(plain))
            .with_context(|| tr!("etcd has the key {} among secrets", key.escape_debug()))?;
        let under = match head.strip_prefix(PREFIX) {
            Some(rest) => {
                let name = rest.split(|byte| *byte == b':').next().unwrap_or_default();
                Under::Key(String::from_utf8_lossy(name).into_owned())
            }
            None if head.starts_with(ANY_PREFIX) => Under::Another,
            None => Under::Nothing,
        };
        Ok(Stored {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            under,
        })
    }
}

/// One master, and its cluster.
pub trait Node {
    /// The content of its file with the keys.
    fn file(&self) -> Result<Secret>;

    /// Makes `file` its file with the keys, and restarts what reads it, unless this was done before. Returns when
    /// its API server is up with it. Returns whether it changed or started anything.
    fn take(&self, file: &Secret) -> Result<bool>;

    /// All secrets in etcd.
    fn stored(&self) -> Result<Vec<Stored>>;

    /// Writes a secret again, so that the first key encrypts it.
    fn rewrite(&self, secret: &Stored) -> Result<()>;
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The rotation is complete.
    Complete,
    /// Other masters have to follow first.
    Waiting,
    /// No rotation was under way, and none was to begin.
    Idle,
}

/// What a run did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How it ended.
    pub state: State,
    /// The names of the keys of this master. The first one encrypts.
    pub keys: Vec<String>,
    /// How many secrets this run wrote again.
    pub rewritten: usize,
    /// The masters that have to follow.
    pub behind: Vec<String>,
}

/// What [`show`] finds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// The names of the keys of this master. The first one encrypts.
    pub keys: Vec<String>,
    /// Whether a rotation is under way.
    pub under_way: bool,
    /// How many secrets each key encrypts.
    pub secrets: BTreeMap<String, usize>,
    /// How many secrets are not encrypted.
    pub plain: usize,
    /// In a rotation, the masters that have to follow.
    pub behind: Vec<String>,
}

/// Goes on with a rotation as far as possible now. Begins one if none is under way and `begin` is set.
///
/// It can be cut anywhere and run again: every step finds out what was done before it does more.
///
/// # Errors
/// [`Refused`] if the file is not of this program's form, or if a step would lose a key that is still in use.
pub fn rotate(node: &dyn Node, masters: &dyn Masters, begin: bool) -> Result<Report> {
    let mut report = Report {
        state: State::Idle,
        keys: vec![],
        rewritten: 0,
        behind: vec![],
    };
    let mut begin = begin;
    loop {
        let own = node.file()?;
        let Some(agreed) = masters.agreed()? else {
            let keys = keys_of(&own)?;
            let finished = node.take(&own)?;
            report.keys = keys.names();
            let next = match keys.stage() {
                Stage::Settled if finished || !begin => {
                    if finished {
                        report.state = State::Complete;
                    }
                    return Ok(report);
                }
                Stage::Settled => {
                    refuse_unknown(node, &keys)?;
                    keys.with_new()?.file()
                }
                Stage::Added | Stage::First => own,
            };
            masters.agree(None, &next)?;
            continue;
        };
        begin = false;
        let keys = keys_of(&agreed)?;
        refuse_to_lose(node, &keys_of(&own)?, &keys)?;
        if node.take(&agreed)? {
            log::info!("this master has {}", described(&keys));
        }
        masters.note(&agreed)?;
        report.keys = keys.names();
        report.behind = masters.behind(&agreed)?;
        if !report.behind.is_empty() {
            report.state = State::Waiting;
            return Ok(report);
        }
        let next = match keys.stage() {
            Stage::Settled => {
                masters.end(&agreed)?;
                report.state = State::Complete;
                return Ok(report);
            }
            Stage::Added => keys.newest_first(),
            Stage::First => {
                report.rewritten += rewrite(node, &keys)?;
                keys.without_old()
            }
        };
        masters.agree(Some(&agreed), &next.file())?;
    }
}

/// How far a rotation is. Changes nothing.
pub fn show(node: &dyn Node, masters: &dyn Masters) -> Result<Overview> {
    let (own, agreed) = (node.file()?, masters.agreed()?);
    let keys = keys_of(&own)?;
    let mut overview = Overview {
        keys: keys.names(),
        under_way: agreed.is_some() || keys.stage() != Stage::Settled,
        secrets: keys.names().into_iter().map(|name| (name, 0)).collect(),
        plain: 0,
        behind: agreed.map_or(Ok(vec![]), |file| masters.behind(&file))?,
    };
    for secret in node.stored()? {
        let name = match secret.under {
            Under::Key(name) => name,
            Under::Another => tr!("another provider"),
            Under::Nothing => {
                overview.plain += 1;
                continue;
            }
        };
        *overview.secrets.entry(name).or_default() += 1;
    }
    Ok(overview)
}

fn keys_of(file: &Secret) -> Result<EncryptionKeys> {
    let keys = EncryptionKeys::read(file).context(paths::ENCRYPTION);
    Ok(keys.map_err(Refused::because)?)
}

fn described(keys: &EncryptionKeys) -> String {
    let writing = keys.writing();
    match keys.stage() {
        Stage::Settled => tr!("only {writing}", writing),
        Stage::Added => tr!("a new key, and still encrypts with {writing}", writing),
        Stage::First => tr!("the new key first, and encrypts with {writing}", writing),
    }
}

/// Refuses to begin while a secret is encrypted with a key that this master does not have: it is lost already,
/// unless another file has the key.
fn refuse_unknown(node: &dyn Node, keys: &EncryptionKeys) -> Result<()> {
    let known = keys.names();
    let is_unknown = |under: &Under| match under {
        Under::Key(name) => !known.contains(name),
        Under::Another => true,
        Under::Nothing => false,
    };
    let stored = node.stored()?;
    let Some(secret) = stored.iter().find(|secret| is_unknown(&secret.under)) else {
        return Ok(());
    };
    bail!(Refused::new(tr!(
        "etcd has secret {}/{}, which none of the keys in {} encrypts ({}); restore the file with its key from a \
         backup, or delete this secret, before you rotate",
        secret.namespace,
        secret.name,
        paths::ENCRYPTION,
        match &secret.under {
            Under::Key(name) => format!("its key is {}", name.escape_debug()),
            _ => "another provider does".to_owned(),
        }
    )))
}

/// Refuses a file that lacks a key of this master with which a secret is still encrypted, or that has another
/// key of the same name.
fn refuse_to_lose(node: &dyn Node, own: &EncryptionKeys, next: &EncryptionKeys) -> Result<()> {
    let missing = next.lack(own).with_context(|| {
        tr!("{} of this master is not from the same cluster as that of the others; compare both, and copy the \
             right one here", paths::ENCRYPTION)
    });
    let missing = missing.map_err(Refused::because)?;
    if missing.is_empty() {
        return Ok(());
    }
    let is_lost =
        |secret: &Stored| matches!(&secret.under, Under::Key(name) if missing.contains(name));
    if let Some(secret) = node.stored()?.into_iter().find(is_lost) {
        bail!(Refused::new(tr!(
            "{} is still in use, for example for secret {}/{}, and the other masters have dropped it; this master \
             keeps it: write the secret again (`kubectl annotate secret -n {1} {2} written=again`), and \
             run this again",
            missing.join(", "),
            secret.namespace,
            secret.name
        )));
    }
    Ok(())
}

/// Writes all secrets again that the first key does not encrypt. Returns how many. Fails if one stays.
fn rewrite(node: &dyn Node, keys: &EncryptionKeys) -> Result<usize> {
    let wanted = Under::Key(keys.writing());
    let rest = || -> Result<Vec<Stored>> {
        let stored = node.stored()?.into_iter();
        Ok(stored.filter(|secret| secret.under != wanted).collect())
    };
    let mut count = 0;
    for _ in 0..ROUNDS {
        let rest = rest()?;
        if rest.is_empty() {
            return Ok(count);
        }
        log::info!(
            "{} secrets to write again with {}",
            rest.len(),
            keys.writing()
        );
        for secret in &rest {
            node.rewrite(secret)?;
            count += 1;
            if count % 500 == 0 {
                log::info!("{count} secrets are written again");
            }
        }
    }
    let rest = rest()?;
    let Some(first) = rest.first() else {
        return Ok(count);
    };
    bail!(tr!(
        "{} secrets are still not encrypted with {}, for example {}/{}, although they were written again; the old \
         key stays. Check that kube-apiserver runs with {} on every master: `systemctl cat kube-apiserver`",
        rest.len(),
        keys.writing(),
        first.namespace,
        first.name,
        paths::ENCRYPTION
    ))
}
