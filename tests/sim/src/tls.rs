//! TLS configurations from the files of the programs.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::keys;

/// A certificate chain and its private key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// From PEM texts.
    ///
    /// # Errors
    /// Texts without a certificate or a key. They are never quoted.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self> {
        Ok(Self {
            chain: keys::certificates_in(certificate).context("client certificate")?,
            key: keys::private_key_in(key).context("client key")?,
        })
    }

    /// From PEM files.
    ///
    /// # Errors
    /// Files that cannot be read, or hold no certificate or key.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self> {
        let text = std::fs::read(key).with_context(|| key.display().to_string())?;
        Ok(Self {
            chain: keys::certificates(certificate)?,
            key: keys::private_key_in(&text).with_context(|| key.display().to_string())?,
        })
    }
}

/// A store of CAs.
///
/// # Errors A certificate that cannot be a trust anchor.
pub fn authorities(certificates: Vec<CertificateDer<'static>>) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in certificates {
        store
            .add(certificate)
            .context("not a certificate authority")?;
    }
    Ok(store)
}

/// A client that trusts only `authorities` and presents `identity`.
///
/// # Errors A key that does not match its certificate.
pub fn client(
    authorities: Option<RootCertStore>,
    identity: Option<Identity>,
) -> Result<ClientConfig> {
    let provider = Arc::new(default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let builder = match authorities {
        Some(store) => builder.with_webpki_verifier(
            WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider).build()?,
        ),
        None => builder.with_root_certificates(RootCertStore::empty()),
    };
    Ok(match identity {
        Some(identity) => builder
            .with_client_auth_cert(identity.chain, identity.key)
            .context("client certificate and key")?,
        None => builder.with_no_client_auth(),
    })
}

/// A server with `identity`; a client may present a certificate, which must then be signed by
/// `client_authority`.
///
/// # Errors A key that does not match its certificate, or an invalid CA.
pub fn server(identity: Identity, client_authority: Option<&Path>) -> Result<ServerConfig> {
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let builder = match client_authority {
        Some(path) => {
            let store = Arc::new(authorities(keys::certificates(path)?)?);
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(store, provider)
                    .allow_unauthenticated()
                    .build()
                    .with_context(|| path.display().to_string())?,
            )
        }
        None => builder.with_no_client_auth(),
    };
    builder
        .with_single_cert(identity.chain, identity.key)
        .context("server certificate and key")
}
