//! What to keep of the keys and certificates that are there, and what to make.
//!
//! A private key that is there is never replaced. Keys are written before their
//! certificates, so that a run that was cut leaves a key without a certificate, for which
//! the next run makes one.

use anyhow::{Context, Result, bail, ensure};
use rcgen::{Issuer, KeyPair, PublicKeyData};
use time::{Duration, OffsetDateTime};

use super::inspect::{CertificateInfo, inspect, is_signed_by};
use super::{
    AuthorityRequest, CertificateRequest, Existing, Issued, KeyPairRequest, Pki, PkiRequest,
    Secret, issue,
};

/// A certificate that ends sooner is made anew.
const RENEW_BEFORE: Duration = Duration::days(30);

/// Gives every key and certificate of `request`: the one that exists if it is as requested
/// at the time `now`, else a new one for the existing key, else both new.
///
/// Fails, naming the file and the next step, where a key cannot be read, where the
/// authority's certificate is there without its key, where the two do not belong together,
/// and where the authority has expired.
pub fn resolve(request: &PkiRequest, existing: &dyn Existing, now: OffsetDateTime) -> Result<Pki> {
    let (authority, key) = authority(&request.authority, existing, now)?;
    let ends = inspect(authority.certificate_pem.as_bytes())?.not_after;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate_pem, key)
        .with_context(|| format!("{} cannot issue certificates", authority.certificate_path))?;
    let resolver = Resolver {
        existing,
        authority: &authority,
        issuer: &issuer,
        ends,
        now,
    };
    let certificates = request
        .certificates
        .iter()
        .map(|request| resolver.certificate(request))
        .collect::<Result<_>>()?;
    let service_account = service_account(&request.service_account, existing)?;
    Ok(Pki {
        authority,
        certificates,
        service_account,
    })
}

fn key_path(certificate_path: &str) -> String {
    format!("{}-key.pem", certificate_path.trim_end_matches(".pem"))
}

/// The file at `path`. One without a single byte, as a power cut may leave it, counts as none:
/// nothing is lost with it.
fn content(existing: &dyn Existing, path: &str) -> Result<Option<Vec<u8>>> {
    Ok(existing.read(path)?.filter(|bytes| !bytes.is_empty()))
}

/// The private key at `path`; `None` if there is none.
fn existing_key(existing: &dyn Existing, path: &str) -> Result<Option<(KeyPair, Secret)>> {
    let Some(bytes) = content(existing, path)?.map(Secret::new) else {
        return Ok(None);
    };
    // What exactly is wrong could quote the key; that it is wrong is all that may be said.
    let key = str::from_utf8(bytes.expose())
        .ok()
        .and_then(|pem| KeyPair::from_pem(pem).ok());
    match key {
        Some(key) => Ok(Some((key, bytes))),
        None => bail!(
            "{path} is not a private key in PKCS#8 PEM; it is not overwritten: convert it \
             (openssl pkcs8 -topk8 -nodes), put the right one there, or move it away to have a \
             new one made"
        ),
    }
}

fn key_or_new(existing: &dyn Existing, path: &str) -> Result<(KeyPair, Secret)> {
    if let Some(found) = existing_key(existing, path)? {
        return Ok(found);
    }
    let key = KeyPair::generate()?;
    let pem = Secret::new(key.serialize_pem().into_bytes());
    Ok((key, pem))
}

fn authority(
    request: &AuthorityRequest,
    existing: &dyn Existing,
    now: OffsetDateTime,
) -> Result<(Issued, KeyPair)> {
    let key_path = key_path(&request.path);
    let certificate = content(existing, &request.path)?;
    if certificate.is_some() && content(existing, &key_path)?.is_none() {
        bail!(
            "{} is there without its key {key_path}; put the key back, or move the certificate away \
             to start a new cluster",
            request.path
        );
    }
    let (key, key_pem) = key_or_new(existing, &key_path)?;
    let (certificate_pem, reason) = match certificate {
        Some(pem) => (
            checked_authority(&request.path, pem, &key_path, &key, now)?,
            None,
        ),
        None => (
            issue::authority(request, &key, now)?,
            Some("there was none".to_owned()),
        ),
    };
    let certificate_path = request.path.clone();
    let name = "ca".to_owned();
    Ok((
        Issued {
            name,
            certificate_path,
            certificate_pem,
            key_path,
            key_pem,
            reason,
        },
        key,
    ))
}

fn checked_authority(
    path: &str,
    pem: Vec<u8>,
    key_path: &str,
    key: &KeyPair,
    now: OffsetDateTime,
) -> Result<String> {
    let info = inspect(&pem).with_context(|| path.to_owned())?;
    ensure!(
        info.is_ca,
        "{path} is not a certificate authority's certificate"
    );
    ensure!(
        info.public_key == key.subject_public_key_info(),
        "{path} and {key_path} do not belong together; put back the pair that does"
    );
    ensure!(
        info.not_after > now,
        "{path} expired on {}; the cluster needs a new one",
        info.not_after.date()
    );
    String::from_utf8(pem).with_context(|| path.to_owned())
}

struct Resolver<'a> {
    existing: &'a dyn Existing,
    authority: &'a Issued,
    issuer: &'a Issuer<'a, KeyPair>,
    ends: OffsetDateTime,
    now: OffsetDateTime,
}

impl Resolver<'_> {
    fn certificate(&self, request: &CertificateRequest) -> Result<Issued> {
        let key_path = key_path(&request.path);
        let (key, key_pem) = key_or_new(self.existing, &key_path)?;
        let found = content(self.existing, &request.path)?;
        let (certificate_pem, reason) = match self.usable(request, found, &key) {
            Ok(pem) => (pem, None),
            Err(reason) => {
                let made = issue::certificate(request, &key, self.issuer, self.now, self.ends)
                    .with_context(|| format!("certificate {}", request.name))?;
                (made, Some(reason.to_owned()))
            }
        };
        let certificate_path = request.path.clone();
        let name = request.name.to_owned();
        Ok(Issued {
            name,
            certificate_path,
            certificate_pem,
            key_path,
            key_pem,
            reason,
        })
    }

    /// The certificate that is there, if it will do; else why not.
    fn usable(
        &self,
        request: &CertificateRequest,
        found: Option<Vec<u8>>,
        key: &KeyPair,
    ) -> Result<String, &'static str> {
        let pem = found.ok_or("there was none")?;
        let info = inspect(&pem).map_err(|_| "it could not be read")?;
        let signed = is_signed_by(&pem, self.authority.certificate_pem.as_bytes()).unwrap_or(false);
        // At the end of the authority's own life, a new one would end no later.
        let renewable = info.not_after < self.ends;
        if !signed {
            Err("another authority had signed it")
        } else if info.public_key != key.subject_public_key_info() {
            Err("it was for another key")
        } else if !says_what_is_asked(&info, request) {
            Err("its names or usages differed")
        } else if info.not_before > self.now {
            Err("it was not yet valid")
        } else if info.not_after - self.now < RENEW_BEFORE && renewable {
            Err("it would end within 30 days")
        } else {
            String::from_utf8(pem).map_err(|_| "it could not be read")
        }
    }
}

fn says_what_is_asked(info: &CertificateInfo, request: &CertificateRequest) -> bool {
    info.common_name == request.common_name
        && info.organization == request.organization
        && info.dns_names == request.dns_names
        // An address more does no harm, and a floating IP is not seen while the metadata service
        // is away: that must not restart the API server.
        && request.ip_addresses.iter().all(|ip| info.ip_addresses.contains(ip))
        && info.server == request.server
        && info.client
        && !info.is_ca
}

fn service_account(request: &KeyPairRequest, existing: &dyn Existing) -> Result<super::KeyPair> {
    let (key, private_pem) = key_or_new(existing, &request.private)?;
    Ok(super::KeyPair {
        private_path: request.private.clone(),
        private_pem,
        public_path: request.public.clone(),
        public_pem: key.public_key_pem(),
    })
}
