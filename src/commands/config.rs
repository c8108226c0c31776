//! `appliance config`: files of settings, far from the nodes they are for.

use std::path::Path;

use anyhow::{Context, Result, anyhow};

use super::Outcome;
use crate::cli::Config;
use crate::nodespec::value::{Layer, Place};
use crate::nodespec::{Refused, reference, user_data, validate};
use crate::observe::inputs::{MAX_CONFIG, parse_config};
use crate::sys::read::bounded;

/// Runs the command.
pub fn run(command: &Config) -> Result<Outcome> {
    match command {
        Config::Validate { file } => {
            let layer = read(file).map_err(Refused::because)?;
            validate::validate(&[layer])?;
            println!("{}: valid", file.display());
        }
        Config::Schema => println!("{}", serde_json::to_string_pretty(&reference::schema())?),
        Config::Example => print!("{}", reference::example()),
    }
    Ok(Outcome::Done)
}

/// The settings in the file: user-data where its section is found, else a configuration.
pub(super) fn read(file: &Path) -> Result<Layer> {
    let shown = file.display().to_string();
    let content = bounded(file, MAX_CONFIG)?
        .ok_or_else(|| anyhow!("configuration {shown}: there is no such file"))?;
    let in_user_data =
        user_data::settings(&content).with_context(|| format!("user-data {shown}"))?;
    if let Some(settings) = in_user_data {
        return Ok(Layer::new(Place::UserData(shown), settings));
    }
    let settings = parse_config(content, &shown)?;
    Ok(Layer::new(Place::Config(shown), settings))
}
