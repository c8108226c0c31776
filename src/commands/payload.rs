//! Finds the payload of a command, and verifies its signature.

use std::path::Path;

use anyhow::{Context, Result};

use crate::bundle::manifest::{self, Manifest};
use crate::bundle::payload::Payload;
use crate::bundle::signature::TrustKey;
use crate::cli::{Carrier, Trust};
use crate::nodespec::Refused;
use crate::paths::CURRENT;
use crate::sys::root::Root;

const BUILDER: &str = "this program carries no bundle; make an appliance with `appliance repack \
                       --bundle BUNDLE -o FILE` and use that, or give a payload with `--payload \
                       FILE`";

/// The payload in the file `given`, or the payload of this program.
pub fn to_install(given: Option<&Path>) -> Result<Payload> {
    let payload = match given {
        Some(path) => Some(Payload::open(path)?),
        None => Payload::of_this_program()?,
    };
    payload.ok_or_else(|| Refused::because(anyhow::anyhow!(BUILDER)).into())
}

/// Refuses a payload that is not signed by the key of the user, or by the key that this program
/// was built with.
pub fn check_signature(payload: &Payload, trust: &Trust, required: Option<&str>) -> Result<()> {
    for key in trust.key.as_deref().into_iter().chain(required) {
        let key = TrustKey::find(key).map_err(Refused::because)?;
        payload.check_signature(&key).map_err(Refused::because)?;
    }
    Ok(())
}

/// The manifest of the payload that the arguments name, and its text.
pub fn manifest_of(carrier: &Carrier) -> Result<(Manifest, Vec<u8>)> {
    let payload = match (&carrier.file, carrier.installed) {
        (Some(file), _) => Some(Payload::open(file)?),
        (None, true) => None,
        (None, false) => Payload::of_this_program()?,
    };
    if let Some(payload) = payload {
        return Ok((payload.manifest().clone(), payload.manifest_text().to_vec()));
    }
    let path = format!("{CURRENT}/{}", manifest::FILE_NAME);
    let text = Root::open(Path::new("/"))?.read(&path)?;
    let text = text.with_context(|| {
        format!(
            "no bundle is installed on this machine ({path} is missing); give the file of an \
                 appliance or payload"
        )
    })?;
    Ok((Manifest::parse(&text).with_context(|| path.clone())?, text))
}
