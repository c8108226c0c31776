//! Asking the cluster's servers with a certificate of this node's own.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::blocking::Client;

use crate::paths;
use crate::sys::http::{self, Identity};
use crate::sys::root::Root;

/// A client that believes the cluster's authority and shows the certificate of that name, as they
/// are below `root` now.
///
/// # Errors
/// If one of the files is missing or is not what it should be.
pub fn client(root: &Root, name: &str, timeout: Duration) -> Result<Client> {
    let read = |path: &str| {
        root.read(path)?
            .with_context(|| format!("{path} is missing"))
    };
    let (certificate, key) = (read(&paths::certificate(name))?, read(&paths::key(name))?);
    let identity = Identity {
        certificate: &certificate,
        key: &key,
    };
    http::client(&read(paths::CA_CERTIFICATE)?, Some(&identity), timeout)
}
