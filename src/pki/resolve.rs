//! Decides which existing keys and certificates of a master to keep, and which to make.
//!
//! An existing private key is never replaced. Keys are written before their certificates:
//! an interrupted run leaves a key without a certificate, and the next run issues the
//! certificate.

use anyhow::{Context, Result, ensure};
use rcgen::{KeyPair, PublicKeyData};
use time::OffsetDateTime;

use super::authority::authority;
use super::held::{content, hold_one, key_or_new};
use super::issue::Signer;
use super::{
    AuthorityRequest, CertificateRequest, Existing, Issued, IssuedBy, KeyPairRequest, Pki,
    PkiRequest, account, key,
};

/// Returns every key and certificate of `request`: the existing ones if they are as requested
/// at the time `now`, else a new certificate for the existing key, else both new.
///
/// Fails if a key cannot be read, if the key of the authority's certificate is missing or does
/// not belong to it, or if the authority has expired. The error has the file and the next step.
pub fn resolve(request: &PkiRequest, existing: &dyn Existing, now: OffsetDateTime) -> Result<Pki> {
    let cluster = Signing::new(&request.authority, existing, now)?;
    let etcd = request.etcd.as_ref();
    let etcd = etcd.map(|request| Signing::new(request, existing, now)?.crossed_by(&cluster, now));
    let etcd = etcd.transpose()?;
    if let Some(etcd) = &etcd {
        ensure!(
            etcd.own.key_pem != cluster.own.key_pem,
            "{} has the key of {}, so etcd would accept every node; move {} and {0} away to get another one",
            etcd.own.key_path,
            cluster.own.key_path,
            etcd.own.certificate_path
        );
    }
    let mut certificates = Vec::new();
    for request in &request.certificates {
        let by = match request.issuer {
            IssuedBy::Cluster => &cluster,
            IssuedBy::Etcd => etcd.as_ref().context("etcd has no authority here")?,
        };
        certificates.push(by.issued(request, existing, now)?);
    }
    Ok(Pki {
        authority: cluster.own,
        etcd: etcd.map(|etcd| etcd.own),
        certificates,
        service_account: Some(service_account(&request.service_account, existing)?),
    })
}

/// An authority that signs here.
struct Signing {
    own: Issued,
    signer: Signer<'static, KeyPair>,
}

impl Signing {
    fn new(
        request: &AuthorityRequest,
        existing: &dyn Existing,
        now: OffsetDateTime,
    ) -> Result<Signing> {
        let (own, key) = authority(request, existing, now)?;
        let signer = Signer::new(&own.certificate_pem, key);
        let signer = signer.with_context(|| own.certificate_path.clone())?;
        Ok(Signing { own, signer })
    }

    fn crossed_by(self, other: &Signing, now: OffsetDateTime) -> Result<Signing> {
        let signer = other.signer.cross(self.signer, now)?;
        Ok(Signing { signer, ..self })
    }

    /// The existing certificate if it is as requested, else a new one.
    fn issued(
        &self,
        request: &CertificateRequest,
        existing: &dyn Existing,
        now: OffsetDateTime,
    ) -> Result<Issued> {
        let held = hold_one(request, existing, Some(&self.own.certificate_pem), now)?;
        let reason = match &held.certificate {
            Ok(pem) => {
                let pem = pem.clone();
                return Ok(held.issued(pem, None));
            }
            Err(reason) => *reason,
        };
        let made = self
            .signer
            .certificate(held.request, held.public_key(), now)
            .with_context(|| format!("certificate {}", held.request.name))?;
        Ok(held.issued(made, Some(reason)))
    }
}

fn service_account(request: &KeyPairRequest, existing: &dyn Existing) -> Result<super::KeyPair> {
    let public = content(existing, &request.public)?;
    let (pem, key, public) = match &request.given {
        Some(given) if content(existing, &request.private)?.is_none() => {
            let key = key::read(given.private.expose())
                .context("the service accounts' key of the masters")?;
            (given.private.clone(), key, given.public.clone())
        }
        _ => {
            ensure!(
                content(existing, &request.private)?.is_some() || public.is_none(),
                "{} exists, but its private key {} is missing, and a new one would make every token \
                 of a service account invalid; restore the key, or move the public key away to make \
                 a new pair",
                request.public,
                request.private
            );
            let found = key_or_new(existing, &request.private)?;
            let public = public.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            (found.pem, found.key, public)
        }
    };
    let public_pem = match public {
        Some(public) => public_keys(request, &key, public)?,
        None => key.public_key_pem(),
    };
    Ok(super::KeyPair {
        private_path: request.private.clone(),
        private_pem: pem,
        public_path: request.public.clone(),
        public_pem,
    })
}

/// The public keys of service accounts `text`, of which one belongs to the private key: another one may be there while
/// a rotation replaces the pair. Refuses others: which of the keys is the right one, only the operator knows.
fn public_keys(request: &KeyPairRequest, key: &KeyPair, text: String) -> Result<String> {
    let all = account::verifying(&text).unwrap_or_default();
    ensure!(
        all.contains(&key.subject_public_key_info()),
        "{} and {} do not belong together, and tokens of service accounts are valid only with the pair that \
         signed them; restore the pair, or move both away to make a new one",
        request.private,
        request.public
    );
    Ok(match all.len() {
        1 => key.public_key_pem(),
        _ => text,
    })
}
