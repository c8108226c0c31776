//! From the arguments about a payload to what they mean.

use std::path::Path;

use anyhow::{Context, Result};

use crate::bundle::manifest::{self, Manifest};
use crate::bundle::payload::Payload;
use crate::cli::{Carrier, Trust};
use crate::language::tr;
use crate::paths::CURRENT;
use crate::sys::root::Root;

/// The keys that must have signed a payload: the one that the user names, and the one that this
/// program was built with.
pub fn keys<'a>(trust: &'a Trust, required: Option<&'a str>) -> Vec<&'a str> {
    trust.key.as_deref().into_iter().chain(required).collect()
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
        tr!(
            "no bundle is installed on this machine ({path} is missing); give the file of an \
                 appliance or payload",
            path
        )
    })?;
    Ok((Manifest::parse(&text).with_context(|| path.clone())?, text))
}
