//! `appliance config`: checks and explains files of settings, on any machine.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};

use super::{Outcome, print};
use crate::cli::{Config, Output};
use crate::language::{tr, translated};
use crate::nodespec::value::{Layer, Place};
use crate::nodespec::{Refused, reference, user_data, validate};
use crate::observe::inputs::{MAX_CONFIG, parse_config};
use crate::paths::CONFIG;
use crate::sys::out::say;
use crate::sys::read::bounded;
use crate::topics::breaks;

/// How wide the comments of the example are at most.
const WIDEST: usize = 100;
/// How they begin.
const COMMENT: &str = "# ";

/// Runs the command.
pub fn run(command: &Config, output: Output) -> Result<Outcome> {
    match command {
        Config::Validate { file } => {
            let layer = read(file).map_err(Refused::because)?;
            validate::validate(&[layer])?;
            let valid = tr!("{}: valid", file.display());
            match output {
                Output::Text => say!("{valid}"),
                Output::Json => print::done(valid, output)?,
            }
        }
        // The same in both formats: it is JSON.
        Config::Schema => say!("{}", serde_json::to_string_pretty(&reference::schema())?),
        Config::Example => {
            print::text(&filled(&reference::example(&mut translated)), output)?;
        }
    }
    Ok(Outcome::Done)
}

/// The settings in the file. It is read as user-data if it has the section `appliance:`, else as a
/// configuration.
pub(super) fn read(file: &Path) -> Result<Layer> {
    let shown = file.display().to_string();
    let content = bounded(file, MAX_CONFIG)?
        .ok_or_else(|| anyhow!(tr!("configuration {shown}: there is no such file", shown)))?;
    let in_user_data =
        user_data::find(&content).with_context(|| tr!("user-data {shown}", shown))?;
    if let Some(layer) = in_user_data.layers(&shown).next() {
        return Ok(layer);
    }
    if user_data::is_known(&content) {
        let without = || {
            tr!(
                "user-data {shown} has no settings: neither the section `appliance:` nor the file {CONFIG}; \
                 `appliance user-data --role single` prints user-data that has them",
                shown,
                CONFIG
            )
        };
        bail!(user_data::why_unread(&content).unwrap_or_else(without));
    }
    let settings = parse_config(content, &shown)?;
    Ok(Layer::new(Place::Config(shown), settings))
}

/// The text with comments of at most [`WIDEST`] columns. They begin with `# `, settings without a blank.
fn filled(text: &str) -> String {
    let options = breaks::options(WIDEST).subsequent_indent(COMMENT);
    let lines = text.lines().map(|line| match line.starts_with(COMMENT) {
        true => textwrap::fill(line, options.clone().break_words(false)) + "\n",
        false => format!("{line}\n"),
    });
    lines.collect()
}
