//! This node's certificates, and clients of the cluster's servers that use them.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::blocking::Client;

use crate::components;
use crate::paths;
use crate::sys::http;
use crate::sys::root::Root;
use crate::sys::tls::Identity;

/// A certificate of this node with its key, in PEM.
pub struct OwnCertificate {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl OwnCertificate {
    /// The certificate of this name, from the files below `root`.
    ///
    /// # Errors
    /// If the certificate or its key is missing.
    pub fn read(root: &Root, name: &str) -> Result<OwnCertificate> {
        Ok(OwnCertificate {
            certificate: needed(root, &paths::certificate(name))?,
            key: needed(root, &paths::key(name))?,
        })
    }

    /// It, as a client shows it to a server.
    pub fn identity(&self) -> Identity<'_> {
        Identity {
            certificate: &self.certificate,
            key: &self.key,
        }
    }
}

/// A client that uses the certificate of this name, and trusts the authority that issued it, from the
/// files below `root`.
///
/// # Errors
/// If one of the files is missing or invalid.
pub fn client(root: &Root, name: &str, timeout: Duration) -> Result<Client> {
    let own = OwnCertificate::read(root, name)?;
    let authority = needed(root, &paths::certificate(components::authority_of(name)))?;
    http::client(&authority, Some(&own.identity()), timeout)
}

fn needed(root: &Root, path: &str) -> Result<Vec<u8>> {
    root.read(path)?
        .with_context(|| format!("{path} is missing; run `appliance install`"))
}
