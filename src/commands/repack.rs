//! `appliance repack`.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::documents::Written;
use super::{Outcome, bundle, files, print};
use crate::bundle::pack::Signer;
use crate::bundle::payload::{self, Payload};
use crate::bundle::repack;
use crate::cli::{Named, Repack};
use crate::language::tr;
use crate::sys::stream::sha256_of_file;
use crate::sys::{out, scratch};

/// Makes an appliance from a program and a bundle.
pub fn run(arguments: &Repack, named: &Named) -> Result<Outcome> {
    let file = files::needed(arguments.file.as_deref(), named, "--file FILE")?;
    let output = &file;
    let program = match &arguments.program {
        Some(program) => program.clone(),
        None => payload::this_program()?,
    };
    let staging;
    let payload = match (&arguments.payload, &arguments.bundle) {
        (Some(payload), _) => payload.clone(),
        (None, Some(name)) => {
            // Next to the output, which needs the space there anyway.
            staging = scratch::directory_beside(output)?;
            let payload = staging.path().join("payload");
            bundle::pack(name, &arguments.ingredients, &payload)?;
            payload
        }
        (None, None) => {
            anyhow::bail!(tr!(
                "give a bundle with `--bundle NAME`, or a payload with `--payload FILE`"
            ))
        }
    };
    repack::repack(&program, &payload, output)?;
    let made = Payload::open(output)?;
    let place = || output.display().to_string();
    let size = std::fs::metadata(output).with_context(place)?.len();
    let sha256 = sha256_of_file(output)?;
    let bundle = &made.manifest().bundle.name;
    log::info!(
        "{}",
        tr!(
            "wrote {}: bundle {bundle}, {size} bytes, sha256 {sha256}; the program alone has {} bytes",
            output.display(),
            made.start(),
            bundle,
            size,
            sha256
        )
    );
    if let Some(signer) = bundle::signer(&arguments.ingredients) {
        sign(output, &made, &signer)?;
    }
    let written = Written::of(output, Some(sha256), Some(bundle))?;
    print::result(named.format(), &written, |_| ())?;
    Ok(Outcome::Done)
}

/// Writes the signature of the whole file beside it.
fn sign(appliance: &Path, made: &Payload, signer: &Signer) -> Result<()> {
    let place = || appliance.display().to_string();
    let comment = format!("appliance with bundle {}", made.manifest().bundle.name);
    let file = File::open(appliance).with_context(place)?;
    let signature = signer.sign(file, &comment)?;
    let path = PathBuf::from(format!("{}.minisig", place()));
    out::file(&path, 0o644, signature.as_bytes())?;
    log::info!(
        "{}",
        tr!("wrote {}: the signature of the whole file", path.display())
    );
    Ok(())
}
