//! The files of the authorities of a master, and how far a rotation is in them.

use std::fmt;

use anyhow::{Context as _, Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::components::{AUTHORITY, ETCD_AUTHORITY};
use crate::language::tr;
use crate::nodespec::Refused;
use crate::paths;
use crate::pki::Secret;
use crate::pki::inspect::certificates;
use crate::plan::Step;
use crate::rotate::files::{public, secret};
use crate::sys::root::Root;

/// The authorities that are replaced together.
const AUTHORITIES: [&str; 2] = [AUTHORITY, ETCD_AUTHORITY];

/// How far a rotation is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
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

/// A new authority.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Next {
    /// The name of the authority that it replaces.
    pub name: String,
    /// Its certificates in PEM, the issuing one first.
    pub certificates: Vec<String>,
    /// Its private key in PEM.
    pub key: Zeroizing<String>,
}

impl Next {
    /// The certificate that issues.
    pub fn issuing(&self) -> &str {
        self.certificates.first().map_or("", String::as_str)
    }

    pub fn secret(&self) -> Secret {
        Secret::new(self.key.as_bytes().to_vec())
    }
}

/// One authority of a master.
pub(super) struct Held {
    pub name: &'static str,
    /// The certificates that are trusted, the issuing one first.
    pub current: Vec<String>,
    pub key: Option<Secret>,
    /// The certificates of the new one, the issuing one first.
    pub next: Option<Vec<String>>,
    pub next_key: Option<Secret>,
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
        let secret = |path: &str| -> Result<Option<Secret>> {
            let bytes = root.read(path)?.filter(|bytes| !bytes.is_empty());
            Ok(bytes.map(Secret::new))
        };
        let path = paths::certificate(name);
        let current = text(&path)?;
        let current =
            current.with_context(|| tr!("{path} is missing; run `appliance install`", path))?;
        let path_of_next = paths::next_authority(name);
        let next = text(&path_of_next)?.map(|pem| listed(&pem).context(path_of_next));
        let next = next.transpose().map_err(Refused::because)?;
        Ok(Held {
            name,
            current: listed(&current).context(path)?,
            key: secret(&paths::key(name))?,
            // A file without a certificate shows as little as none.
            next: next.filter(|all| !all.is_empty()),
            next_key: secret(&next_key(name))?,
        })
    }

    /// How far the rotation to the next one is.
    pub fn stage(&self) -> Stage {
        let Some(next) = &self.next else {
            return Stage::None;
        };
        match self
            .current
            .iter()
            .position(|pem| Some(pem) == next.first())
        {
            None => Stage::Made,
            Some(0) if self.current.len() == next.len() => Stage::Dropped,
            Some(0) => Stage::Anew,
            Some(_) => Stage::Both,
        }
    }

    /// The path of the private key of the next one.
    pub fn next_key_path(&self) -> String {
        next_key(self.name)
    }

    fn has_next_key(&self) -> bool {
        self.next_key.is_some() && self.next_key == self.key
    }

    /// Whether `next` is all that there is: a rotation to it has been completed.
    fn is_at(&self, next: &Next) -> bool {
        self.current == next.certificates && self.key.as_ref() == Some(&next.secret())
    }

    fn has(&self, next: &Next) -> bool {
        self.next.as_ref() == Some(&next.certificates)
            && self.next_key.as_ref() == Some(&next.secret())
    }
}

/// A refusal for one reason.
/// The certificates of a file, each as this program writes it.
pub(super) fn listed(pem: &str) -> Result<Vec<String>> {
    let all = certificates(pem)?.into_iter();
    Ok(all.map(|(pem, _)| pem.replace('\r', "")).collect())
}

/// The path of the private key of the next authority `name`.
fn next_key(name: &str) -> String {
    format!("{}/{name}-key.pem", paths::ROTATION_DIR)
}

/// All authorities here.
pub(super) fn held(root: &Root) -> Result<Vec<Held>> {
    let all = AUTHORITIES.iter().map(|name| Held::read(root, name));
    all.collect()
}

/// The step that the files here have begun: that of the authority that is behind or, if a run was cut between the files
/// of a step, that step.
pub(super) fn begun(all: &[Held]) -> Stage {
    // Without files, an authority is at the end, or at the beginning of a rotation: the others show which.
    let begins = |one: &Held| matches!(one.stage(), Stage::Made | Stage::Both);
    let is_first = all.iter().any(begins);
    let stage = |one: &Held| match one.stage() {
        Stage::None if is_first => Stage::Made,
        stage => stage,
    };
    let behind = all.iter().map(stage).min().unwrap_or(Stage::None);
    let is_ahead = |one: &Held| stage(one) > behind || behind == Stage::Both && one.has_next_key();
    match behind {
        Stage::Both if all.iter().any(is_ahead) => Stage::Anew,
        Stage::Anew if all.iter().any(is_ahead) => Stage::Dropped,
        stage => stage,
    }
}

/// The next authorities in the files here; `None` if one of them is missing.
pub(super) fn next_ones(all: &[Held]) -> Result<Option<Vec<Next>>> {
    let mut ones = Vec::new();
    for one in all {
        let Some((certificates, key)) = one.next.as_ref().zip(one.next_key.as_ref()) else {
            return Ok(None);
        };
        let key = String::from_utf8(key.expose().to_vec());
        ones.push(Next {
            name: one.name.to_owned(),
            certificates: certificates.clone(),
            key: key.context(tr!("a key in PEM is text"))?.into(),
        });
    }
    Ok(Some(ones))
}

/// The files that this master lacks to rotate to `next`, keys first.
///
/// # Errors
/// [`Refused`] if it rotates to others.
pub(super) fn keep(all: &[Held], next: &[Next]) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for (one, next) in pairs(all, next) {
        if one.has(next) || one.is_at(next) {
            continue;
        }
        if one.next.as_ref() == Some(&next.certificates)
            && let Some(key) = &one.next_key
            && *key != next.secret()
        {
            let path = one.next_key_path();
            bail!(Refused::new(tr!(
                "{path} is not the private key of {}, to which the masters rotate; nothing was changed. Move it away, and \
                 run this again, which gets the key from the other masters: `mv {path} {path}.old && appliance certs \
                 rotate-ca --continue`",
                paths::next_authority(one.name),
                path
            )));
        }
        let lacks_key = one.next.as_ref() == Some(&next.certificates);
        if !lacks_key && matches!(one.stage(), Stage::Both | Stage::Anew) {
            bail!(Refused::new(tr!(
                "{} is another authority than the one that the other masters rotate to, and nodes may trust it; this \
                 master keeps it. See on the other masters: `appliance certs rotate-ca --dry-run`",
                paths::next_authority(one.name)
            )));
        }
        steps.push(secret(&next_key(one.name), next.secret()));
        let pem = next.certificates.concat();
        steps.push(public(&paths::next_authority(one.name), pem));
    }
    Ok(steps)
}

/// The steps that bring the files here from where they are to `stage`; `keeps` is whether the present key of the
/// cluster's authority is still needed, to open records of other masters.
pub(super) fn advance(all: &[Held], next: &[Next], stage: Stage, keeps: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let rest: Vec<_> = pairs(all, next)
        .filter(|(one, next)| !one.is_at(next))
        .collect();
    if stage < Stage::Anew {
        let lacks = rest.iter().filter(|(one, next)| !one.trusts(next));
        return lacks.map(|(one, next)| one.trusting(next)).collect();
    }
    for (one, next) in &rest {
        let (is_first, key) = (one.issues_with(next), next.secret());
        if let Some(present) = one.key.as_ref().filter(|present| **present != key) {
            if keeps && one.name == AUTHORITY && stage == Stage::Anew {
                steps.push(secret(paths::PREVIOUS_AUTHORITY_KEY, present.clone()));
            }
            if !one.trusts(next) {
                // A run that is cut between the two files still knows the new key's certificate.
                steps.push(one.trusting(next));
            }
            steps.push(secret(&paths::key(one.name), key));
        }
        if !is_first && stage == Stage::Anew {
            steps.push(public(&paths::certificate(one.name), one.issuing(next)));
        }
    }
    if stage == Stage::Dropped {
        if keeps && !rest.is_empty() {
            steps.push(Step::RemoveFile(paths::PREVIOUS_AUTHORITY_KEY));
        }
        let alone = rest
            .iter()
            .map(|(one, next)| public(&paths::certificate(one.name), next.certificates.concat()));
        steps.extend(alone);
    }
    steps
}

impl Held {
    fn trusts(&self, next: &Next) -> bool {
        self.current.iter().any(|pem| pem == next.issuing())
    }

    fn issues_with(&self, next: &Next) -> bool {
        self.current.first().map(String::as_str) == Some(next.issuing())
    }

    /// The file in which the new one is behind the old one.
    fn trusting(&self, next: &Next) -> Step {
        let mut all = self.current.clone();
        let new = next.certificates.iter();
        all.extend(new.filter(|pem| !self.current.contains(pem)).cloned());
        public(&paths::certificate(self.name), all.concat())
    }

    /// The content of the file in which the new one is first.
    fn issuing(&self, next: &Next) -> String {
        let others = self.current.iter();
        let others = others.filter(|pem| !next.certificates.contains(pem));
        next.certificates.concat() + &others.cloned().collect::<String>()
    }
}

fn pairs<'a>(all: &'a [Held], next: &'a [Next]) -> impl Iterator<Item = (&'a Held, &'a Next)> {
    let of = move |one: &'a Held| next.iter().find(|next| next.name == one.name);
    all.iter().filter_map(move |one| Some((one, of(one)?)))
}
