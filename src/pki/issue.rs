//! Making certificates.

use anyhow::{Result, anyhow};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use time::{Duration, OffsetDateTime};

use super::{AuthorityRequest, CertificateRequest};

/// How long a certificate authority and its certificates last. As long as the tutorial's,
/// since a node without a network may run for years with nobody to renew anything.
const LIFETIME: Duration = Duration::days(3650);
/// How long before now a certificate begins: the clocks of new VMs differ.
const BACKDATED: Duration = Duration::days(1);

fn params(
    now: OffsetDateTime,
    organization: Option<&str>,
    common_name: &str,
) -> Result<CertificateParams> {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common_name);
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.serial_number = Some(serial_number()?);
    params.not_before = now - BACKDATED;
    params.not_after = now + LIFETIME;
    Ok(params)
}

/// 127 random bits: positive, and never used twice, also not for a key that gets a second certificate.
fn serial_number() -> Result<SerialNumber> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| anyhow!("the system gives no randomness"))?;
    bytes[0] &= 0x7f;
    Ok(SerialNumber::from_slice(&bytes))
}

/// A new certificate authority's own certificate, in PEM.
pub fn authority(request: &AuthorityRequest, key: &KeyPair, now: OffsetDateTime) -> Result<String> {
    let mut params = params(now, None, &request.common_name)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    Ok(params.self_signed(key)?.pem())
}

/// A certificate as requested for `key`, in PEM. It ends no later than `authority_ends`.
pub fn certificate(
    request: &CertificateRequest,
    key: &KeyPair,
    issuer: &Issuer<'_, KeyPair>,
    now: OffsetDateTime,
    authority_ends: OffsetDateTime,
) -> Result<String> {
    let mut params = params(now, Some(&request.organization), &request.common_name)?;
    params.not_after = params.not_after.min(authority_ends);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if request.server {
        params
            .extended_key_usages
            .push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    for name in &request.dns_names {
        params
            .subject_alt_names
            .push(SanType::DnsName(name.clone().try_into()?));
    }
    params
        .subject_alt_names
        .extend(request.ip_addresses.iter().copied().map(SanType::IpAddress));
    Ok(params.signed_by(key, issuer)?.pem())
}
