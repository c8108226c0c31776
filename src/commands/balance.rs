//! `appliance balance`: what the balancer's unit runs.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use anyhow::{Context, Result};

use super::Outcome;
use crate::balance;
use crate::cli::Balance;
use crate::language::tr;
use crate::sys::http;
use crate::sys::tls::Identity;

/// Forwards connections until the process ends.
pub fn run(arguments: &Balance) -> Result<Outcome> {
    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
    let (certificate, key) = (read(&arguments.certificate)?, read(&arguments.key)?);
    let identity = Identity {
        certificate: &certificate,
        key: &key,
    };
    let authority = read(&arguments.authority)?;
    let client = http::client(&authority, Some(&identity), balance::HEALTH)?;
    let listener = TcpListener::bind(arguments.listen).with_context(|| {
        tr!(
            "cannot listen at {}; if another program uses this port (`ss -ltnp`), stop it, or set \
             `balancerPort` to another port on all nodes",
            arguments.listen
        )
    })?;
    balance::run(listener, &arguments.servers, &client)?;
    Ok(Outcome::Done)
}
