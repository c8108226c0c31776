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
            // Next to the output, which needs the space there anyway.
            staging = scratch::directory_beside(&arguments.output)?;
            let payload = staging.path().join("payload");
            bundle::pack(name, &arguments.ingredients, &payload)?;
            payload
        }
        (None, None) => {
            anyhow::bail!("give a bundle with `--bundle NAME`, or a payload with `--payload FILE`")
        }
    };
    repack::repack(&program, &payload, &arguments.output)?;
    let made = Payload::open(&arguments.output)?;
    let size = std::fs::metadata(&arguments.output)
        .with_context(|| format!("cannot read {}", arguments.output.display()))?
        .len();
    log::info!(
        "wrote {}: bundle {}, {size} bytes; the program alone has {}",
        arguments.output.display(),
        made.manifest().bundle.name,
        made.start()
    );
    Ok(Outcome::Done)
}
