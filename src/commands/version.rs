//! `appliance version`.

use anyhow::Result;

use super::documents::{Version, VersionOfPayload};
use super::{Outcome, print};
use crate::bundle::payload::Payload;
use crate::cli::Output;
use crate::formats;
use crate::language::tr;
use crate::sys::out::say;

/// Prints the version of the program and of its payload.
pub fn run(output: Output) -> Result<Outcome> {
    print::result(output, &document()?, tell)?;
    Ok(Outcome::Done)
}

/// The versions.
pub(super) fn document() -> Result<Version> {
    let payload = Payload::of_this_program()?;
    Ok(Version {
        appliance: formats::PROGRAM,
        payload: payload.map(|payload| VersionOfPayload {
            digest: payload.digest().clone(),
            bundle: payload.manifest().bundle.clone(),
        }),
        architecture: std::env::consts::ARCH,
        formats: formats::ALL,
    })
}

fn tell(version: &Version) {
    let Some(payload) = &version.payload else {
        say!(
            "{}",
            tr!(
                "appliance {} (builder: carries no bundle)",
                version.appliance
            )
        );
        return;
    };
    let bundle = &payload.bundle;
    say!("appliance {}", version.appliance);
    say!(
        "{}",
        tr!(
            "bundle {} (Kubernetes {}), {}",
            bundle.name,
            bundle.kubernetes,
            payload.digest
        )
    );
    if bundle.demonstration {
        say!("{}", bundle.description);
    }
}
