//! `appliance repack`.

use anyhow::{Context, Result};

use super::{Outcome, bundle};
use crate::bundle::payload::{self, Payload};
use crate::bundle::repack;
use crate::cli::Repack;
use crate::sys::scratch;

/// Makes an appliance of a program and a bundle.
pub fn run(arguments: &Repack) -> Result<Outcome> {
    let program = match &arguments.program {
        Some(program) => program.clone(),
        None => payload::this_program()?,
    };
    let staging;
    let payload = match (&arguments.payload, &arguments.bundle) {
        (Some(payload), _) => payload.clone(),
        (None, Some(name)) => {
            // Beside the output, where there has to be room for it anyway.
            staging = scratch::directory_beside(&arguments.output)?;
            let payload = staging.path().join("payload");
            bundle::pack(name, &arguments.ingredients, &payload)?;
            payload
        }
        (None, None) => anyhow::bail!("give a bundle with --bundle, or a payload with --payload"),
    };
    repack::repack(&program, &payload, &arguments.output)?;
    let made = Payload::open(&arguments.output)?;
    let size = std::fs::metadata(&arguments.output)
        .context("the new appliance")?
        .len();
    log::info!(
        "{}: bundle {}, {size} bytes, of which {} are the program",
        arguments.output.display(),
        made.manifest().bundle.name,
        made.start()
    );
    Ok(Outcome::Done)
}
