//! `appliance datastore`: what the unit of Calico's data runs.

use std::fs;
use std::net::TcpListener;

use anyhow::{Context, Result};

use super::Outcome;
use crate::cli::Datastore;
use crate::components::{AUTHORITY, DATASTORE, DATASTORE_CLIENT, ETCD_AUTHORITY};
use crate::datastore;
use crate::language::tr;
use crate::sys::tls::{self, Identity};

/// Serves until the process ends.
pub fn run(arguments: &Datastore) -> Result<Outcome> {
    let read = |name: &str| {
        let path = arguments.identity.join(name);
        fs::read(&path).with_context(|| path.display().to_string())
    };
    let certificate = |name: &str| read(&format!("{name}.pem"));
    let key = |name: &str| read(&format!("{name}-key.pem"));
    let server = tls::server(
        &Identity {
            certificate: &certificate(DATASTORE)?,
            key: &key(DATASTORE)?,
        },
        Some(tls::clients_of(&certificate(AUTHORITY)?)?),
    )?;
    let client = Identity {
        certificate: &certificate(DATASTORE_CLIENT)?,
        key: &key(DATASTORE_CLIENT)?,
    };
    let client = tls::client(&certificate(ETCD_AUTHORITY)?, Some(&client))?;
    let listener = TcpListener::bind(arguments.listen).with_context(|| {
        tr!(
            "cannot listen at {}; if another program uses this port (`ss -ltnp`), stop it",
            arguments.listen
        )
    })?;
    datastore::run(listener, server, &arguments.etcd, client, &arguments.pods)?;
    Ok(Outcome::Done)
}
