//! `appliance user-data`: makes the user-data with which servers become nodes.

use anyhow::Result;

use super::{Outcome, config, documents, files, print};
use crate::cli::{Named, UserData};
use crate::language::tr;
use crate::nodespec::Refused;
use crate::nodespec::validate::validate;
use crate::nodespec::value::Layer;
use crate::nodespec::written::Written;
use crate::user_data::{advice, compose, secrets};

/// Runs the command.
pub fn run(arguments: &UserData, named: &Named) -> Result<Outcome> {
    let (place, output) = (
        files::place(arguments.file.as_deref(), named)?,
        named.format(),
    );
    if let Some(path) = &place {
        files::refuse_existing(path, arguments.force)?;
    }
    let layers = layers(arguments).map_err(Refused::because)?;
    validate(&layers)?;
    let said: Vec<_> = layers.iter().map(|layer| &layer.settings).collect();
    let written = Written::of(&said)?;
    let delivery = arguments.delivery();
    let text = compose(&written, &delivery, arguments.form()).map_err(Refused::because)?;
    let settings = written.settings()?;
    for secret in secrets(&settings, &delivery) {
        log::warn!(
            "{}",
            tr!(
                "everyone who may see the server in OpenStack can read {secret}",
                secret
            )
        );
    }
    for advice in advice(&settings) {
        log::warn!("{advice}");
    }
    match &place {
        Some(path) => {
            files::write_secret(path, &text, arguments.force)?;
            let file = documents::Written::of(path, None, None)?;
            print::result(output, &file, |_| ())?;
        }
        None => print::text(&text, output)?,
    }
    Ok(Outcome::Done)
}

/// The settings of the flags and of the file.
fn layers(arguments: &UserData) -> Result<Vec<Layer>> {
    let role = ("role", arguments.role.as_ref());
    let mut layers = vec![Layer::of_flags(&arguments.set, &[role])?];
    if let Some(file) = &arguments.cluster {
        layers.push(config::read(file)?);
    }
    Ok(layers)
}
