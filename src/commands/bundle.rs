//! `appliance bundle`.

use anyhow::{Context, Result};

use super::{Outcome, print};
use crate::bundle::definition::Definition;
use crate::bundle::pack;
use crate::bundle::payload::Payload;
use crate::cli::{Bundle, Output, Pack};
use crate::sys::progress;

/// Runs a command of the group.
pub fn run(command: &Bundle) -> Result<Outcome> {
    match command {
        Bundle::Pack(arguments) => pack(arguments),
        Bundle::List { payload, output } => {
            let payload = match payload {
                Some(dir) => Payload::open(dir)?,
                None => Payload::embedded()?
                    .context("this program is the builder and carries no bundle")?,
            };
            list(&payload, *output)
        }
    }
}

fn pack(arguments: &Pack) -> Result<Outcome> {
    let definition = Definition::read(&arguments.bundle)?;
    let total = pack::total(&definition, &arguments.components);
    let progress = progress::standard_error("pack", total);
    let manifest = pack::pack(
        &definition,
        &arguments.components,
        &arguments.output,
        &*progress,
    )?;
    drop(progress);
    let packed: u64 = manifest.packs.iter().map(|pack| pack.size).sum();
    log::info!(
        "bundle {}: {} files, {} bytes packed into {packed}: {}",
        manifest.bundle.name,
        manifest.components.len(),
        manifest.unpacked_size(),
        arguments.output.display()
    );
    Ok(Outcome::Done)
}

fn list(payload: &Payload, output: Output) -> Result<Outcome> {
    match output {
        Output::Json => print!("{}", String::from_utf8_lossy(payload.manifest_text())),
        Output::Text => print::manifest(payload.manifest()),
    }
    Ok(Outcome::Done)
}
