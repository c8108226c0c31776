//! What to keep of a master's keys and certificates that are there, and what to make.
//!
//! A private key that is there is never replaced. Keys are written before their
//! certificates, so that a run that was cut leaves a key without a certificate, for which
//! the next run makes one.

use anyhow::{Context, Result, bail, ensure};
use rcgen::{Issuer, KeyPair, PublicKeyData};
use time::OffsetDateTime;

use super::held::{Held, content, hold, key_or_new, key_path};
use super::inspect::inspect;
use super::issue::Validity;
use super::{AuthorityRequest, Existing, Issued, KeyPairRequest, Pki, PkiRequest, issue};

/// Gives every key and certificate of `request`: the one that exists if it is as requested
/// at the time `now`, else a new one for the existing key, else both new.
///
/// Fails, naming the file and the next step, where a key cannot be read, where the
/// authority's certificate is there without its key, where the two do not belong together,
/// and where the authority has expired.
pub fn resolve(request: &PkiRequest, existing: &dyn Existing, now: OffsetDateTime) -> Result<Pki> {
    let (authority, key) = authority(&request.authority, existing, now)?;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate_pem, key)
        .with_context(|| format!("{} cannot issue certificates", authority.certificate_path))?;
    let validity = Validity {
        now,
        lifetime: issue::LIFETIME,
        authority_ends: inspect(authority.certificate_pem.as_bytes())?.not_after,
    };
    let pem = Some(authority.certificate_pem.as_str());
    let held = hold(&request.certificates, existing, pem, now)?;
    let certificates = held
        .into_iter()
        .map(|held| issued(held, &issuer, validity))
        .collect::<Result<_>>()?;
    Ok(Pki {
        authority,
        certificates,
        service_account: Some(service_account(&request.service_account, existing)?),
    })
}

fn issued(held: Held<'_>, issuer: &Issuer<'_, KeyPair>, validity: Validity) -> Result<Issued> {
    let reason = match &held.certificate {
        Ok(pem) => {
            let pem = pem.clone();
            return Ok(held.issued(pem, None));
        }
        Err(reason) => *reason,
    };
    let made = issue::certificate(held.request, held.public_key(), issuer, validity)
        .with_context(|| format!("certificate {}", held.request.name))?;
    Ok(held.issued(made, Some(reason)))
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
    let found = key_or_new(existing, &key_path)?;
    let (certificate_pem, reason) = match certificate {
        Some(pem) => (
            checked_authority(&request.path, pem, &key_path, &found.key, now)?,
            None,
        ),
        None => (
            issue::authority(request, &found.key, now)?,
            Some("there was none".to_owned()),
        ),
    };
    let issued = Issued {
        name: "ca".to_owned(),
        certificate_path: request.path.clone(),
        certificate_pem,
        key_path,
        key_pem: Some(found.pem),
        reason,
    };
    Ok((issued, found.key))
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

fn service_account(request: &KeyPairRequest, existing: &dyn Existing) -> Result<super::KeyPair> {
    let found = key_or_new(existing, &request.private)?;
    Ok(super::KeyPair {
        private_path: request.private.clone(),
        private_pem: found.pem,
        public_path: request.public.clone(),
        public_pem: found.key.public_key_pem(),
    })
}
