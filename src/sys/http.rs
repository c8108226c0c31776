//! Asking a server of this node something over HTTP, with the node's own certificates.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::blocking::Client;
use reqwest::redirect::Policy;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// A certificate to show, and its private key, both in PEM.
pub struct Identity<'a> {
    /// The certificate.
    pub certificate: &'a [u8],
    /// The private key.
    pub key: &'a [u8],
}

/// A client that trusts only the certificate authorities in `authorities` (PEM), shows
/// `identity` where a server asks for it, uses no proxy, follows no redirect, and gives
/// up after `timeout`.
pub fn client(
    authorities: &[u8],
    identity: Option<&Identity<'_>>,
    timeout: Duration,
) -> Result<Client> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let tls = match identity {
        Some(identity) => {
            let chain = CertificateDer::pem_slice_iter(identity.certificate)
                .collect::<Result<Vec<_>, _>>()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(identity.key)?)?
        }
        None => builder.with_no_client_auth(),
    };
    Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(Policy::none())
        .timeout(timeout)
        .build()
        .context("make an HTTP client")
}

/// Gets `url`; anything but an answer of 2xx is an error that says what went wrong at the root.
pub fn get(client: &Client, url: &str) -> Result<()> {
    let response = client.get(url).send().map_err(|error| {
        // The outer errors only repeat the address.
        let mut cause: &dyn std::error::Error = &error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        anyhow::anyhow!("{cause}")
    })?;
    let status = response.status();
    anyhow::ensure!(status.is_success(), "answers {status}");
    Ok(())
}
