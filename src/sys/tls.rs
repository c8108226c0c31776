//! TLS for clients and servers, with certificates of authorities that the caller names.

use std::sync::Arc;

use anyhow::Result;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// A certificate and its private key, both in PEM.
pub struct Identity<'a> {
    /// The certificate, and those of intermediate authorities.
    pub certificate: &'a [u8],
    /// The private key.
    pub key: &'a [u8],
}

impl Identity<'_> {
    fn chain(&self) -> Result<Vec<CertificateDer<'static>>> {
        let chain = CertificateDer::pem_slice_iter(self.certificate);
        Ok(chain.collect::<Result<_, _>>()?)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>> {
        Ok(PrivateKeyDer::from_pem_slice(self.key)?)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(authorities: &[u8]) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities) {
        roots.add(certificate?)?;
    }
    Ok(roots)
}

/// A client that trusts only the certificate authorities in `authorities` (PEM), and presents
/// `identity` to a server that requests it.
pub fn client(authorities: &[u8], identity: Option<&Identity<'_>>) -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(authorities)?);
    Ok(match identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain()?, identity.key()?)?,
        None => builder.with_no_client_auth(),
    })
}

/// Accepts only clients with a certificate of one of `authorities` (PEM).
pub fn clients_of(authorities: &[u8]) -> Result<Arc<dyn ClientCertVerifier>> {
    let roots = Arc::new(roots(authorities)?);
    Ok(WebPkiClientVerifier::builder_with_provider(roots, provider()).build()?)
}

/// A server that presents `identity`. With `clients`, it accepts only the clients that those do.
pub fn server(
    identity: &Identity<'_>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig> {
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(clients),
    };
    Ok(builder.with_single_cert(identity.chain()?, identity.key()?)?)
}
