//! New settings for an installed node: the file, what is refused about it, and the steps that put it in place.

use std::path::Path;

use anyhow::{Result, bail};
use serde_json::{Map, Value};

use crate::desired::{Content, Directory, Purpose};
use crate::digest::Sha256;
use crate::install::Machine;
use crate::language::tr;
use crate::nodespec::Refused;
use crate::nodespec::value::{Layer, Place};
use crate::observe::inputs::{config_bytes, parse_config};
use crate::paths::{CONFIG, PROGRAM};
use crate::plan::{Plan, Step};
use crate::records::state::State;
use crate::records::written::KEPT;
use crate::sys::root::Root;

/// The permission bits of a new file of settings: there may be a join token in it.
const MODE: u32 = 0o600;

/// The settings in a file that the operator gives, which was read once.
pub struct NewSettings {
    /// Its name, as it was typed.
    pub shown: String,
    /// Its bytes.
    pub content: Vec<u8>,
}

impl NewSettings {
    /// Reads the file.
    ///
    /// # Errors
    /// [`Refused`] if it cannot be read.
    pub fn read(file: &Path) -> Result<NewSettings, Refused> {
        let shown = file.display().to_string();
        let content = config_bytes(file, &shown).map_err(Refused::because)?;
        Ok(NewSettings { shown, content })
    }

    /// SHA-256 of its bytes.
    pub fn digest(&self) -> Sha256 {
        Sha256::of(&self.content)
    }

    /// Whether the node has them already.
    pub fn are_in_place(&self, root: &Root) -> Result<bool> {
        Ok(in_place(root)?.as_ref() == Some(&self.digest()))
    }

    /// Refuses settings that `machine`, which is the node `state`, cannot have with this command, and those that would
    /// have no effect. Writes nothing.
    pub fn check(&self, machine: &Machine, state: &State) -> Result<()> {
        if state.digest != machine.payload.digest().as_str() {
            bail!(Refused::new(tr!(
                "this appliance has another bundle than the node; change the settings with the appliance on the node, \
                 `{PROGRAM} apply`, or give the node this bundle first: `upgrade`",
                PROGRAM
            )));
        }
        let file = Place::Config(self.shown.clone());
        let (own, others): (Vec<&Layer>, Vec<&Layer>) =
            machine.layers.iter().partition(|layer| layer.place == file);
        let own = own.first().map(|layer| said(layer)).unwrap_or_default();
        let before = former(&machine.root);
        let mut problems = Vec::new();
        for layer in others {
            problems.extend(self.hidden_by(layer, &own));
            problems.extend(self.left_to(layer, &own, &before));
        }
        match problems.is_empty() {
            true => Ok(()),
            false => bail!(Refused { problems }),
        }
    }

    /// The settings of the file that a stronger place makes otherwise.
    fn hidden_by(&self, layer: &Layer, own: &Map<String, Value>) -> Vec<String> {
        let theirs = said(layer);
        let differing = theirs
            .iter()
            .filter(|(key, value)| own.get(*key) != Some(value));
        let problem = |(key, _): (&String, &Value)| {
            let origin = layer.origin(key);
            match &layer.place {
                Place::Environment => Some(tr!(
                    "{origin} wins over the file, but only in this shell, not at the next boot: unset it, and write \
                     `{key}` into {}",
                    self.shown,
                    origin,
                    key
                )),
                Place::Property(_) if own.contains_key(key) => {
                    let remedy = origin.remedy(true).unwrap_or_default();
                    Some(tr!(
                        "{origin} wins over the file, so `{key}` in {} has no effect: {remedy}, or remove the line from \
                         the file",
                        self.shown,
                        origin,
                        key,
                        remedy
                    ))
                }
                _ => None,
            }
        };
        differing.filter_map(problem).collect()
    }

    /// The settings that the former file had and this one has not, but user-data has: they would come from there.
    fn left_to(
        &self,
        layer: &Layer,
        own: &Map<String, Value>,
        before: &Map<String, Value>,
    ) -> Vec<String> {
        let is_of_data = matches!(
            layer.place,
            Place::UserDataFile(_) | Place::UserData(_) | Place::VendorData(_)
        );
        let theirs = said(layer);
        let keys = theirs
            .keys()
            .filter(|key| is_of_data && before.contains_key(*key) && !own.contains_key(*key));
        let problem = |key: &String| {
            tr!(
                "{} leaves out `{key}`, but {} has it, which cannot be changed on a running server and counts where the \
                 file says nothing: write the value that you want into {0}, the default, too",
                self.shown,
                layer.origin(key),
                key
            )
        };
        keys.map(problem).collect()
    }

    /// The permission bits of the file in its place: those that it has, unless there is a token in it.
    fn mode(&self, root: &Root) -> Result<u32> {
        let has_token = parse_config(self.content.clone(), &self.shown)?
            .join
            .is_some_and(|join| join.token.is_some());
        let present = root.mode(CONFIG)?.filter(|_| !has_token);
        Ok(present.unwrap_or(MODE))
    }

    /// The changes of `plan`, after those that put the file in place and keep the former one.
    pub fn before(&self, root: &Root, plan: Plan) -> Result<Plan> {
        if self.are_in_place(root)? {
            return Ok(plan);
        }
        let (directory, _) = CONFIG.rsplit_once('/').unwrap_or_default();
        let former = root.read(CONFIG)?;
        let mut steps = Vec::new();
        if !root.exists(directory)? {
            steps.push(Step::CreateDirectory(Directory {
                path: directory.to_owned(),
                mode: 0o755,
            }));
        }
        if former.is_some() {
            steps.push(Step::KeepCopy {
                path: CONFIG.to_owned(),
                to: kept(),
                most: MODE,
                purpose: Purpose::Other,
            });
        }
        steps.push(Step::WriteFile {
            path: CONFIG.to_owned(),
            mode: self.mode(root)?,
            new: former.is_none(),
            content: Content::Whole(self.content.clone()),
            replaces: former,
            purpose: Purpose::Other,
        });
        steps.extend(plan.steps);
        Ok(Plan { steps })
    }
}

/// Where the former file of settings stays.
pub fn kept() -> String {
    format!("{CONFIG}{KEPT}")
}

/// SHA-256 of the file of settings that the node has; `None` if it has none.
pub fn in_place(root: &Root) -> Result<Option<Sha256>> {
    Ok(root.read(CONFIG)?.map(|content| Sha256::of(&content)))
}

/// The settings that the node has in its file. None if the file is damaged: it is replaced.
fn former(root: &Root) -> Map<String, Value> {
    let content = root.read(CONFIG).ok().flatten().unwrap_or_default();
    let settings = parse_config(content, CONFIG).unwrap_or_default();
    said(&Layer::new(Place::Config(CONFIG.to_owned()), settings))
}

/// The settings that a place makes. Secrets are hidden in it.
fn said(layer: &Layer) -> Map<String, Value> {
    match serde_json::to_value(&layer.settings) {
        Ok(Value::Object(all)) => all
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .collect(),
        _ => Map::new(),
    }
}
