//! Clients whose certificate has expired: a node that was off for long renews with it for some time.

use std::sync::Arc;
use std::time::Duration as StdDuration;

use anyhow::Result;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use time::{Duration, OffsetDateTime};

use crate::pki::inspect;
use crate::sys::tls;

/// How long after its end a certificate still authenticates its node for a renewal. The node proves that
/// it has the key, and its name must not have been released.
pub const GRACE: Duration = Duration::days(90);

/// Accepts the clients that `inner` accepts, and those whose certificate expired within [`GRACE`].
#[derive(Debug)]
struct Late(Arc<dyn ClientCertVerifier>);

/// Accepts clients with a certificate of one of `authorities` (PEM), which may have expired within
/// [`GRACE`].
pub fn clients_of(authorities: &[u8]) -> Result<Arc<dyn ClientCertVerifier>> {
    Ok(Arc::new(Late(tls::clients_of(authorities)?)))
}

/// The end of an expired certificate, if it still counts at `now`.
fn counted_end(certificate: &[u8], now: UnixTime) -> Option<UnixTime> {
    let end = inspect::inspect_der(certificate).ok()?.not_after;
    let now = OffsetDateTime::UNIX_EPOCH + StdDuration::from_secs(now.as_secs());
    let end_in_seconds = u64::try_from(end.unix_timestamp()).ok()?;
    let counts = now - end <= GRACE;
    counts.then(|| UnixTime::since_unix_epoch(StdDuration::from_secs(end_in_seconds)))
}

impl ClientCertVerifier for Late {
    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.0.verify_client_cert(certificate, intermediates, now);
        let Err(Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) = &verified
        else {
            return verified;
        };
        match counted_end(certificate, now) {
            Some(end) => self.0.verify_client_cert(certificate, intermediates, end),
            None => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }
}
