//! The keys and certificates that a node has already, and whether the certificates are usable.

use anyhow::{Context, Result, bail};
use rcgen::{KeyPair, PublicKeyData};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};

use super::inspect::{CertificateInfo, inspect, is_signed_by};
use super::{CertificateRequest, Existing, Issued, Secret, issue, key};

/// One requested certificate, with its key.
pub struct Held<'a> {
    /// The request.
    pub request: &'a CertificateRequest,
    /// Its key in PEM.
    pub key_pem: Secret,
    /// Whether the key is new and not yet written to a file.
    pub key_is_new: bool,
    /// The existing certificate in PEM, if it is usable; else why not.
    pub certificate: Result<String, &'static str>,
    key: KeyPair,
}

/// Finds for each certificate in `requests` the existing key, or makes a new one, and the existing
/// certificate, if at the time `now` it is as requested and signed by `authority` (PEM).
///
/// Fails if an existing key cannot be read. The error has the file and the next step.
pub fn hold<'a>(
    requests: &'a [CertificateRequest],
    existing: &dyn Existing,
    authority: Option<&str>,
    now: OffsetDateTime,
) -> Result<Vec<Held<'a>>> {
    let hold = |request| hold_one(request, existing, authority, now);
    requests.iter().map(hold).collect()
}

/// [`hold`] for one certificate.
pub(super) fn hold_one<'a>(
    request: &'a CertificateRequest,
    existing: &dyn Existing,
    authority: Option<&str>,
    now: OffsetDateTime,
) -> Result<Held<'a>> {
    let held = key_or_new(existing, &key_path(&request.path))?;
    let found = content(existing, &request.path)?;
    let certificate = match authority {
        Some(pem) => Authority::read(pem)?.usable(request, found, &held.key, now),
        None => Err("it did not exist"),
    };
    Ok(Held {
        request,
        key_pem: held.pem,
        key_is_new: held.is_new,
        certificate,
        key: held.key,
    })
}

impl Held<'_> {
    /// The certificate signing request (PKCS#10, PEM).
    pub fn signing_request(&self) -> Result<String> {
        issue::signing_request(self.request, &self.key)
    }

    /// Its public key.
    pub(super) fn public_key(&self) -> &impl PublicKeyData {
        &self.key
    }

    /// SHA-256 of its public key (SubjectPublicKeyInfo), in hexadecimal.
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(self.key.subject_public_key_info()))
    }

    /// The result with the existing certificate, if that is usable.
    pub fn kept(self) -> Option<Issued> {
        let pem = self.certificate.clone().ok()?;
        Some(self.issued(pem, None))
    }

    /// The result with the new certificate `pem`.
    pub fn issued(self, pem: String, reason: Option<&str>) -> Issued {
        Issued {
            name: self.request.name.to_owned(),
            certificate_path: self.request.path.clone(),
            certificate_pem: pem,
            key_path: key_path(&self.request.path),
            key_pem: Some(self.key_pem),
            reason: reason.map(str::to_owned),
        }
    }

    /// Checks that the certificate `pem`, which another machine issued, is as requested.
    pub fn check(&self, pem: &str, authority: &str, now: OffsetDateTime) -> Result<()> {
        let authority = Authority::read(authority)?;
        let usable = authority.usable(self.request, Some(pem.into()), &self.key, now);
        if let Err(why) = usable {
            bail!("the certificate {} is not usable: {why}", self.request.name);
        }
        Ok(())
    }
}

/// The authority that signs.
struct Authority<'a> {
    pem: &'a str,
    ends: OffsetDateTime,
}

impl Authority<'_> {
    fn read(pem: &str) -> Result<Authority<'_>> {
        let ends = inspect(pem.as_bytes())
            .context("the certificate authority")?
            .not_after;
        Ok(Authority { pem, ends })
    }

    /// The certificate that was found, if it is usable; else why not.
    fn usable(
        &self,
        request: &CertificateRequest,
        found: Option<Vec<u8>>,
        key: &KeyPair,
        now: OffsetDateTime,
    ) -> Result<String, &'static str> {
        let pem = found.ok_or("it did not exist")?;
        let info = inspect(&pem).map_err(|_| "it could not be read")?;
        let signed = is_signed_by(&pem, self.pem.as_bytes()).unwrap_or(false);
        // If it expires with its authority, a new one would not be valid any longer.
        let renewable = info.not_after < self.ends;
        if !signed {
            Err("another authority signed it")
        } else if info.public_key != key.subject_public_key_info() {
            Err("it was for another key")
        } else if !says_what_is_asked(&info, request) {
            Err("its names or usages differed")
        } else if info.not_before > now {
            Err("it was not yet valid")
        } else if info.not_after - now < renew_before(&info) && renewable {
            Err("it would expire soon")
        } else {
            String::from_utf8(pem).map_err(|_| "it could not be read")
        }
    }
}

/// Whether the certificate `pem` should be renewed at the time `now`: it expires soon, it is not valid yet, because the
/// clock was ahead when it was issued, or another authority signed it. If it expires with its authority, a new one would
/// not be valid any longer.
///
/// # Errors
/// If a certificate cannot be read, or if `now` is before the authority was made: then the clock is wrong, and says
/// nothing about the certificate.
pub fn is_due(pem: &[u8], authority: &[u8], now: OffsetDateTime) -> Result<bool> {
    let is_signed = is_signed_by(pem, authority)?;
    let (info, authority) = (inspect(pem)?, inspect(authority)?);
    issue::refuse_early(authority.not_before, now)?;
    let is_another = !is_signed && info.public_key != authority.public_key;
    let ends = info.not_after < authority.not_after && info.not_after - now < renew_before(&info);
    Ok(is_another || ends || info.not_before > now)
}

/// How long before its expiry a certificate is renewed: when a third to a quarter of its lifetime is left.
/// The day depends on the key, so that a thousand nodes that were installed in one hour do not all renew in
/// one hour.
fn renew_before(info: &CertificateInfo) -> Duration {
    let lot = Sha256::digest(&info.public_key)[0];
    let lifetime = info.not_after - info.not_before;
    lifetime / 3 - lifetime / 12 * i32::from(lot) / 255
}

fn says_what_is_asked(info: &CertificateInfo, request: &CertificateRequest) -> bool {
    info.common_name == request.common_name
        && info.organization == request.organization
        && info.dns_names == request.dns_names
        // An additional address does no harm. A floating IP is not known while the metadata service
        // is down, and that must not restart the API server.
        && request.ip_addresses.iter().all(|ip| info.ip_addresses.contains(ip))
        && info.server == request.usage.is_server()
        && info.client == request.usage.is_client()
        && !info.is_ca
}

/// The path of the key of the certificate at that path.
pub(super) fn key_path(certificate_path: &str) -> String {
    format!("{}-key.pem", certificate_path.trim_end_matches(".pem"))
}

/// The file at `path`. An empty file, which a power cut can leave, counts as missing: nothing is lost
/// with it.
pub(super) fn content(existing: &dyn Existing, path: &str) -> Result<Option<Vec<u8>>> {
    Ok(existing.read(path)?.filter(|bytes| !bytes.is_empty()))
}

/// The private key at `path`; `None` if there is none.
fn existing_key(existing: &dyn Existing, path: &str) -> Result<Option<(KeyPair, Secret)>> {
    let Some(bytes) = content(existing, path)?.map(Secret::new) else {
        return Ok(None);
    };
    let key = key::read(bytes.expose()).with_context(|| {
        format!(
            "{path} is not a private key that this program can use, and it is not overwritten; put \
             the right key there, or move it away to get a new one"
        )
    })?;
    Ok(Some((key, bytes)))
}

/// A private key.
pub(super) struct PrivateKey {
    pub(super) key: KeyPair,
    pub(super) pem: Secret,
    pub(super) is_new: bool,
}

/// The private key at `path`, or a new one.
pub(super) fn key_or_new(existing: &dyn Existing, path: &str) -> Result<PrivateKey> {
    if let Some((key, pem)) = existing_key(existing, path)? {
        return Ok(PrivateKey {
            key,
            pem,
            is_new: false,
        });
    }
    let key = key::generate()?;
    let pem = Secret::new(key.serialize_pem().into_bytes());
    Ok(PrivateKey {
        key,
        pem,
        is_new: true,
    })
}
