//! A certificate authority (CA): the existing one, the operator's own, or a new one.

use anyhow::{Context, Result, bail, ensure};
use rcgen::{KeyPair, PublicKeyData};
use time::OffsetDateTime;

use super::held::{content, key_or_new, key_path};
use super::inspect::{authorities, certificates, is_signed_by};
use super::{AuthorityRequest, Existing, GivenAuthority, Issued, Secret, issue, key};

/// The authority of `request`, with its key.
pub(super) fn authority(
    request: &AuthorityRequest,
    existing: &dyn Existing,
    now: OffsetDateTime,
) -> Result<(Issued, KeyPair)> {
    let key_path = key_path(&request.path);
    let found = content(existing, &request.path)?;
    if found.is_some() && content(existing, &key_path)?.is_none() {
        bail!(
            "{} exists, but its key {key_path} is missing; restore the key, or move the certificate \
             away to start a new cluster",
            request.path
        );
    }
    let (certificate_pem, key_pem, key, reason) = match (found, &request.given) {
        (Some(pem), given) => {
            let own = key_or_new(existing, &key_path)?;
            let pem = String::from_utf8(pem).with_context(|| request.path.clone())?;
            check(&request.path, &pem, &own.key, now)?;
            refuse_another(request, &pem, given.as_ref())?;
            // A key in it is not passed on, and the next write removes it from the file.
            (only_certificates(pem)?, own.pem, own.key, None)
        }
        (None, Some(given)) => {
            let (pem, key_pem, key) = taken(given, now)?;
            refuse_other_key(existing, &key_path, &key)?;
            (pem, key_pem, key, Some("it was given"))
        }
        (None, None) => {
            let own = key_or_new(existing, &key_path)?;
            let pem = issue::authority(request, &own.key, now)?;
            (pem, own.pem, own.key, Some("it did not exist"))
        }
    };
    let issued = Issued {
        name: request.name.to_owned(),
        certificate_path: request.path.clone(),
        certificate_pem,
        key_path,
        key_pem: Some(key_pem),
        reason: reason.map(str::to_owned),
    };
    Ok((issued, key))
}

/// The authority of `request` alone, without what it issues: the existing one, or a new one.
pub fn authority_alone(
    request: &AuthorityRequest,
    existing: &dyn Existing,
    now: OffsetDateTime,
) -> Result<Issued> {
    authority(request, existing, now).map(|(issued, _)| issued)
}

fn taken(given: &GivenAuthority, now: OffsetDateTime) -> Result<(String, Secret, KeyPair)> {
    let own_key = key::read(given.key.expose()).with_context(|| given.key_place.clone())?;
    let text = given.certificates.clone();
    check(&given.place, &text, &own_key, now)?;
    // Others may be beside that of a cluster, which replaces its own.
    let is_alone = given.may_have_others || authorities(&text)?.1.is_empty();
    ensure!(
        is_alone,
        "{} has certificates behind the root; the file must end with the root",
        given.place
    );
    ensure!(
        only_certificates(text.clone())? == text,
        "{} contains more than certificates, such as a private key, and everyone may read it on a \
         node; use a file with the certificates alone",
        given.place
    );
    for (_, info) in certificates(&text)? {
        ensure!(
            info.not_before <= now,
            "{}: {} is not valid before {}; check this machine's clock with `timedatectl`",
            given.place,
            info.subject,
            info.not_before.date()
        );
    }
    // In the format that the controller manager reads.
    let pem = Secret::new(own_key.serialize_pem().into_bytes());
    Ok((text, pem, own_key))
}

/// The text, if it has certificates only; else its certificates.
fn only_certificates(text: String) -> Result<String> {
    let other = |line: &str| line.starts_with("-----BEGIN") && !line.contains(" CERTIFICATE-----");
    if !text.lines().any(|line| other(line.trim_start())) {
        return Ok(text);
    }
    let certificates = certificates(&text)?.into_iter();
    Ok(certificates.map(|(pem, _)| pem.replace('\r', "")).collect())
}

/// A cluster cannot change its CA: the certificates of all its nodes would become invalid.
fn refuse_another(
    request: &AuthorityRequest,
    pem: &str,
    given: Option<&GivenAuthority>,
) -> Result<()> {
    let Some(given) = given else {
        return Ok(());
    };
    let der = |text: &str| -> Result<Vec<String>> {
        Ok(certificates(text)?
            .into_iter()
            .map(|(pem, _)| pem)
            .collect())
    };
    let (present, given_ones) = (der(pem)?, der(&given.certificates)?);
    // While a rotation replaces it, the old and the new one are there.
    let is_replaced = !authorities(pem)?.1.is_empty();
    ensure!(
        present == given_ones || is_replaced && given_ones.iter().all(|one| present.contains(one)),
        "{} is not the certificate authority of this cluster, which is in {}; set `ca` to that one, \
         or move /etc/kubernetes/ca away to start a new cluster",
        given.place,
        request.path
    );
    Ok(())
}

fn refuse_other_key(existing: &dyn Existing, path: &str, key: &KeyPair) -> Result<()> {
    if content(existing, path)?.is_none() {
        return Ok(());
    }
    let own = key_or_new(existing, path)?;
    ensure!(
        own.key.subject_public_key_info() == key.subject_public_key_info(),
        "{path} exists, but is not the key of the certificate authority in the setting `ca`; move it \
         away"
    );
    Ok(())
}

/// Refuses certificates of an authority that cannot sign with `key` at the time `now`. `place`
/// names them.
fn check(place: &str, pem: &str, key: &KeyPair, now: OffsetDateTime) -> Result<()> {
    let (chain, others) = authorities(pem).with_context(|| place.to_owned())?;
    let (_, first) = chain
        .first()
        .with_context(|| format!("{place} has no certificate"))?;
    ensure!(
        first.public_key == key.subject_public_key_info(),
        "{place} and its key do not belong together; the first certificate must be that of the \
         issuing authority (if `appliance certs rotate-ca` was interrupted, run it again)"
    );
    for (_, info) in &others {
        ensure!(
            info.is_ca && info.signs_certificates,
            "{place}: {} is not that of a certificate authority",
            info.subject
        );
    }
    for (number, (own, info)) in chain.iter().enumerate() {
        let name = format!("{place}: certificate {} ({})", number + 1, info.subject);
        ensure!(
            info.is_ca && info.signs_certificates,
            "{name} is not that of a certificate authority"
        );
        ensure!(
            info.not_after > now,
            "{name} expired on {} and cannot be renewed; make a new cluster with another certificate \
             authority",
            info.not_after.date()
        );
        let above = chain.get(number + 1).map_or(own, |(above, _)| above);
        ensure!(
            is_signed_by(own.as_bytes(), above.as_bytes())?,
            "{name} is not signed by the one after it; the file must have all certificates from that \
             of the issuing authority to the root, in this order"
        );
    }
    Ok(())
}
