//! `appliance version`.

use anyhow::Result;
use serde_json::json;

use super::Outcome;
use crate::bundle::payload::Payload;
use crate::cli::Output;
use crate::sys::out::say;

/// Prints the version of the program and of its payload.
pub fn run(output: Output) -> Result<Outcome> {
    let version = env!("CARGO_PKG_VERSION");
    let payload = Payload::of_this_program()?;
    match (output, &payload) {
        (Output::Json, _) => {
            let bundle = payload.as_ref().map(|payload| {
                json!({ "digest": payload.digest(), "bundle": payload.manifest().bundle })
            });
            say!("{}", json!({ "appliance": version, "payload": bundle }));
        }
        (Output::Text, Some(payload)) => {
            let bundle = &payload.manifest().bundle;
            say!("appliance {version}");
            say!(
                "bundle {} (Kubernetes {}), {}",
                bundle.name,
                bundle.kubernetes,
                payload.digest()
            );
            if bundle.demonstration {
                say!("{}", bundle.description);
            }
        }
        (Output::Text, None) => say!("appliance {version} (builder: carries no bundle)"),
    }
    Ok(Outcome::Done)
}
