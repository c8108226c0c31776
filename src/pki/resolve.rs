//! Decides which existing keys and certificates of a master to keep, and which to make.
//!
//! An existing private key is never replaced. Keys are written before their certificates:
//! an interrupted run leaves a key without a certificate, and the next run issues the
//! certificate.

use anyhow::{Context, Result, ensure};
use rcgen::KeyPair;
use time::OffsetDateTime;

use super::authority::authority;
use super::held::{Held, content, hold, key_or_new};
use super::issue::Signer;
use super::{Existing, Issued, KeyPairRequest, Pki, PkiRequest, issue, key};

/// Returns every key and certificate of `request`: the existing ones if they are as requested
/// at the time `now`, else a new certificate for the existing key, else both new.
///
/// Fails if a key cannot be read, if the key of the authority's certificate is missing or does
/// not belong to it, or if the authority has expired. The error has the file and the next step.
pub fn resolve(request: &PkiRequest, existing: &dyn Existing, now: OffsetDateTime) -> Result<Pki> {
    let (authority, key) = authority(&request.authority, existing, now)?;
    let signer = Signer::new(&authority.certificate_pem, key)
        .with_context(|| authority.certificate_path.clone())?;
    let pem = Some(authority.certificate_pem.as_str());
    let held = hold(&request.certificates, existing, pem, now)?;
    let certificates = held
        .into_iter()
        .map(|held| issued(held, &signer, now))
        .collect::<Result<_>>()?;
    Ok(Pki {
        authority,
        certificates,
        service_account: Some(service_account(&request.service_account, existing)?),
    })
}

fn issued(held: Held<'_>, signer: &Signer<'_, KeyPair>, now: OffsetDateTime) -> Result<Issued> {
    let reason = match &held.certificate {
        Ok(pem) => {
            let pem = pem.clone();
            return Ok(held.issued(pem, None));
        }
        Err(reason) => *reason,
    };
    let made = signer
        .certificate(held.request, held.public_key(), now, issue::LIFETIME)
        .with_context(|| format!("certificate {}", held.request.name))?;
    Ok(held.issued(made, Some(reason)))
}

fn service_account(request: &KeyPairRequest, existing: &dyn Existing) -> Result<super::KeyPair> {
    let (pem, key) = match &request.given {
        Some(given) if content(existing, &request.private)?.is_none() => {
            let key =
                key::read(given.expose()).context("the service accounts' key of the masters")?;
            (given.clone(), key)
        }
        _ => {
            ensure!(
                content(existing, &request.private)?.is_some()
                    || content(existing, &request.public)?.is_none(),
                "{} exists, but its private key {} is missing, and a new one would make every token \
                 of a service account invalid; restore the key, or move the public key away to make \
                 a new pair",
                request.public,
                request.private
            );
            let found = key_or_new(existing, &request.private)?;
            (found.pem, found.key)
        }
    };
    Ok(super::KeyPair {
        private_path: request.private.clone(),
        private_pem: pem,
        public_path: request.public.clone(),
        public_pem: key.public_key_pem(),
    })
}
