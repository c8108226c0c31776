//! The last upgrade of a node, or change of its settings: from what to what, how far it is, and what was there before.
//! Pure.
//!
//! The record exists from before the first change. With it, a run that was cut goes on or goes back, and `appliance
//! rollback` goes back later.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::state::State;
use crate::digest::Sha256;
use crate::language::tr;
use crate::paths::{FORMER_DIR, PROGRAM, STARTED_WITH, STATE, WRITTEN_RECORD};

/// The records that are kept as they were, by their names in the directory of the copies.
pub const KEPT_RECORDS: [&str; 3] = [STATE, WRITTEN_RECORD, STARTED_WITH];

/// How far an upgrade is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It was begun, and the node is not known to be healthy with the new bundle.
    UnderWay,
    /// The node returns to the former bundle.
    GoingBack,
    /// The node has the former bundle again. The copies go, and then the record.
    Back,
    /// The node is healthy with the new bundle.
    Done,
}

/// The last upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpgradeRecord {
    /// The node before it.
    pub from: State,
    /// The node after it.
    pub to: State,
    /// SHA-256 of the file of settings that it brings; `None` if it brings a bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Sha256>,
    /// How far it is.
    pub stage: Stage,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub begun: OffsetDateTime,
    /// The directory of the copies: a name in [`FORMER_DIR`].
    pub copies: String,
    /// Whether the former program was copied: a node of an older version may have none.
    pub has_program: bool,
    /// The files that it changes.
    pub files: BTreeMap<String, Former>,
    /// The links that it changes, with their former targets; `null` where there was none.
    pub links: BTreeMap<String, Option<String>>,
}

/// A file that an upgrade changes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Former {
    /// What was there before.
    pub was: Was,
    /// SHA-256 of what the upgrade writes: the whole file, or the lines of this program's part.
    pub became: Sha256,
    /// Whether it is a key or a certificate, or holds one. What is newer stays.
    pub is_identity: bool,
}

/// What was at the path of a file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Was {
    /// Nothing.
    Nothing,
    /// A file with these permission bits. Its copy has this name.
    File {
        /// The name in the directory of the copies.
        copy: String,
        /// The permission bits.
        mode: u32,
    },
    /// A file of others with this program's part, or without it.
    Part(Option<String>),
}

impl UpgradeRecord {
    /// The directory of the copies.
    pub fn directory(&self) -> String {
        format!("{FORMER_DIR}/{}", self.copies)
    }

    /// The path of the copy of this name.
    pub fn copy(&self, name: &str) -> String {
        format!("{}/{name}", self.directory())
    }

    /// The path of the copy of one of [`KEPT_RECORDS`], or of the program.
    pub fn copy_of(&self, path: &str) -> String {
        self.copy(path.rsplit('/').next().unwrap_or(path))
    }

    /// The path of the former program; `None` if there was none.
    pub fn program(&self) -> Option<String> {
        self.has_program.then(|| self.copy_of(PROGRAM))
    }

    /// Whether it leads to the node `to` with these settings, and has not gone back. `None` if a bundle comes.
    pub fn leads_to(&self, to: &State, settings: Option<&Sha256>) -> bool {
        matches!(self.stage, Stage::UnderWay | Stage::Done)
            && (&self.to.digest, &self.to.appliance) == (&to.digest, &to.appliance)
            && self.settings.as_ref() == settings
    }

    /// What it is, in words.
    pub fn words(&self) -> String {
        match self.settings {
            None => tr!("the upgrade to {}", self.to.words()),
            Some(_) => tr!("the change of settings"),
        }
    }

    /// What the node had before, in words.
    pub fn former(&self) -> String {
        match self.settings {
            None => self.from.words(),
            Some(_) => tr!("its former settings"),
        }
    }

    /// What to tell about it, if it is not done.
    pub fn told(&self) -> Option<String> {
        let (from, to) = (self.from.words(), self.to.words());
        let is_of_settings = self.settings.is_some();
        match self.stage {
            Stage::Done => None,
            Stage::UnderWay if is_of_settings => Some(tr!(
                "the change of settings is not finished; run `appliance apply FILE` again with the same file, or go \
                 back: `appliance rollback`"
            )),
            Stage::UnderWay => Some(tr!(
                "the upgrade from {from} to {to} is not finished; run the appliance of {bundle} again: `upgrade`, or go \
                 back: `appliance rollback`",
                from,
                to,
                bundle = self.to.bundle
            )),
            Stage::GoingBack | Stage::Back if is_of_settings => Some(tr!(
                "the return to the former settings is not finished; run it again: `appliance rollback`"
            )),
            Stage::GoingBack | Stage::Back => Some(tr!(
                "the rollback from {to} to {from} is not finished; run it again: `appliance rollback`",
                to,
                from
            )),
        }
    }
}
