//! Clients of the cluster's servers that use a certificate of this node.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::blocking::Client;

use crate::components;
use crate::paths;
use crate::sys::http;
use crate::sys::root::Root;
use crate::sys::tls::Identity;

/// A client that uses the certificate of this name, and trusts the authority that issued it, from the
/// files below `root`.
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
    let authority = paths::certificate(components::authority_of(name));
    http::client(&read(&authority)?, Some(&identity), timeout)
}
