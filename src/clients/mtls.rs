//! Clients of the cluster's servers that use a certificate of this node.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::blocking::Client;

use crate::paths;
use crate::sys::http::{self, Identity};
use crate::sys::root::Root;

/// A client that trusts the cluster's CA and uses the certificate of this name, from the files
/// below `root`.
///
/// # Errors
/// If one of the files is missing or invalid.
pub fn client(root: &Root, name: &str, timeout: Duration) -> Result<Client> {
    let read = |path: &str| {
        root.read(path)?
            .with_context(|| format!("{path} is missing; run `appliance install`"))
    };
    let (certificate, key) = (read(&paths::certificate(name))?, read(&paths::key(name))?);
    let identity = Identity {
        certificate: &certificate,
        key: &key,
    };
    http::client(&read(paths::CA_CERTIFICATE)?, Some(&identity), timeout)
}
