//! `appliance config`: checks and explains files of settings, on any machine.

use std::path::Path;

use anyhow::{Context, Result, anyhow};

use super::Outcome;
use crate::cli::Config;
use crate::nodespec::value::{Layer, Place};
use crate::nodespec::{Refused, reference, user_data, validate};
use crate::observe::inputs::{MAX_CONFIG, parse_config};
use crate::sys::out::{self, say};
use crate::sys::read::bounded;

/// Runs the command.
pub fn run(command: &Config) -> Result<Outcome> {
    match command {
        Config::Validate { file } => {
            let layer = read(file).map_err(Refused::because)?;
            validate::validate(&[layer])?;
            say!("{}: valid", file.display());
        }
        Config::Schema => say!("{}", serde_json::to_string_pretty(&reference::schema())?),
        Config::Example => out::text(&reference::example()),
    }
    Ok(Outcome::Done)
}

/// The settings in the file. It is read as user-data if it has the section `appliance:`, else as a
/// configuration.
pub(super) fn read(file: &Path) -> Result<Layer> {
    let shown = file.display().to_string();
    let content = bounded(file, MAX_CONFIG)?
        .ok_or_else(|| anyhow!("configuration {shown}: there is no such file"))?;
    let in_user_data = user_data::find(&content).with_context(|| format!("user-data {shown}"))?;
    if let Some(layer) = in_user_data.layers(&shown).next() {
        return Ok(layer);
    }
    let settings = parse_config(content, &shown)?;
    Ok(Layer::new(Place::Config(shown), settings))
}
