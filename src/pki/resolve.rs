//! What to keep of a master's keys and certificates that are there, and what to make.
//!
//! A private key that is there is never replaced. Keys are written before their
//! certificates, so that a run that was cut leaves a key without a certificate, for which
//! the next run makes one.

use anyhow::{Context, Result};
use rcgen::KeyPair;
use time::OffsetDateTime;

use super::authority::authority;
use super::held::{Held, content, hold, key_or_new};
use super::issue::Signer;
use super::{Existing, Issued, KeyPairRequest, Pki, PkiRequest, issue, key};

/// Gives every key and certificate of `request`: the one that exists if it is as requested
/// at the time `now`, else a new one for the existing key, else both new.
///
/// Fails, naming the file and the next step, where a key cannot be read, where the
/// authority's certificate is there without its key, where the two do not belong together,
/// and where the authority has expired.
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
