//! Issues certificates.

use anyhow::{Context, Result, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SigningKey,
};
use time::{Duration, OffsetDateTime};

use super::random::random;
use super::{AuthorityRequest, CertificateRequest, inspect};

/// How long a certificate authority is valid. As long as in the tutorial: it cannot be renewed.
const AUTHORITY: Duration = Duration::days(3650);
/// How long a certificate is valid: a timer on each node renews it.
const LEAF: Duration = Duration::days(365);
/// How long a certificate of [`ADMINS`] is valid.
const ADMIN: Duration = Duration::days(90);
/// The group that may do everything in Kubernetes.
const ADMINS: &str = "system:masters";
/// How long before now the validity begins, because the clocks of new VMs differ.
pub const BACKDATED: Duration = Duration::days(1);

fn params(now: OffsetDateTime, organization: Option<&str>, common_name: &str) -> CertificateParams {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common_name);
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.not_before = now - BACKDATED;
    params
}

/// 127 random bits: positive, and never used twice, also not for a key that gets a second
/// certificate.
fn serial_number() -> Result<SerialNumber> {
    let mut bytes = random::<16>()?;
    bytes[0] &= 0x7f;
    Ok(SerialNumber::from_slice(&*bytes))
}

/// A new certificate authority's own certificate, in PEM.
pub fn authority(request: &AuthorityRequest, key: &KeyPair, now: OffsetDateTime) -> Result<String> {
    let mut params = params(now, None, &request.common_name);
    params.serial_number = Some(serial_number()?);
    params.not_after = now + AUTHORITY;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    Ok(params.self_signed(key)?.pem())
}

/// A signing authority: its certificates and its key.
pub struct Signer<'a, K: SigningKey> {
    issuer: Issuer<'a, K>,
    common_name: String,
    /// The intermediate certificates, in PEM, its own first; empty if it is the root.
    chain: String,
    /// The chain that only servers send, in PEM.
    for_servers: String,
    begins: OffsetDateTime,
    ends: OffsetDateTime,
}

impl<K: SigningKey> Signer<'_, K> {
    /// The authority with the certificates `authority` (PEM, the issuing authority first, the root
    /// last) and the key of the issuing authority.
    pub fn new(authority: &str, key: K) -> Result<Signer<'static, K>> {
        let issuer = Issuer::from_ca_cert_pem(authority, key)
            .context("the authority cannot issue certificates")?;
        // It may be trusted beside the one that it replaces, which does not limit what it issues.
        let (certificates, _) = inspect::authorities(authority)?;
        let (_, own) = certificates.first().context("no authority")?;
        let begins = certificates.iter().map(|(_, info)| info.not_before).max();
        let ends = certificates.iter().map(|(_, info)| info.not_after).min();
        let between = certificates.iter().filter(|(_, info)| !info.is_self_issued);
        Ok(Signer {
            issuer,
            common_name: own.common_name.clone(),
            chain: between.map(|(pem, _)| pem.as_str()).collect(),
            for_servers: String::new(),
            begins: begins.context("no authority")?,
            ends: ends.context("no authority")?,
        })
    }

    /// The authority `other`, with a certificate of this one (a cross-certificate). Servers of `other`
    /// send it, so that clients which trust only this authority can verify them. Its extended key usage
    /// admits servers only: clients of `other` are strangers here.
    pub fn cross<'o, L: SigningKey>(
        &self,
        other: Signer<'o, L>,
        now: OffsetDateTime,
    ) -> Result<Signer<'o, L>> {
        refuse_early(self.begins.max(other.begins), now)?;
        let mut params = params(now, None, &other.common_name);
        params.serial_number = Some(serial_number()?);
        params.not_after = self.ends.min(other.ends);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let crossed = params.signed_by(other.issuer.key(), &self.issuer)?;
        Ok(Signer {
            for_servers: crossed.pem() + &self.chain,
            ..other
        })
    }

    /// A certificate as requested for the public key `key`, followed by the intermediate
    /// certificates, in PEM. It expires after a year, the admin's sooner, and no later than its
    /// authorities.
    ///
    /// # Errors
    /// If `now` is before the authorities were made: then the clock is wrong.
    pub fn certificate(
        &self,
        request: &CertificateRequest,
        key: &impl PublicKeyData,
        now: OffsetDateTime,
    ) -> Result<String> {
        refuse_early(self.begins, now)?;
        let lifetime = match request.organization.as_str() {
            ADMINS => ADMIN,
            _ => LEAF,
        };
        let mut params = request_params(request, now)?;
        params.serial_number = Some(serial_number()?);
        params.not_after = (now + lifetime).min(self.ends);
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        let mut pem = params.signed_by(key, &self.issuer)?.pem() + &self.chain;
        if request.usage.is_server() {
            pem += &self.for_servers;
        }
        Ok(pem)
    }
}

/// Refuses the time `now` of a clock that shows a time before the authority was made, whose validity begins at `begins`.
pub fn refuse_early(begins: OffsetDateTime, now: OffsetDateTime) -> Result<()> {
    ensure!(
        begins <= now,
        "this machine's clock shows {}, but the certificate authority is valid from {} on; correct the clock: \
         `timedatectl set-ntp true`, or `timedatectl set-time 'YYYY-MM-DD hh:mm:ss'`",
        now.date(),
        begins.date()
    );
    Ok(())
}

/// A certificate signing request (PKCS#10), signed with its key, in PEM.
pub fn signing_request(request: &CertificateRequest, key: &KeyPair) -> Result<String> {
    // A request has no validity, but the parameters need one.
    let params = request_params(request, OffsetDateTime::UNIX_EPOCH)?;
    Ok(params.serialize_request(key)?.pem()?)
}

fn request_params(request: &CertificateRequest, now: OffsetDateTime) -> Result<CertificateParams> {
    let mut params = params(now, Some(&request.organization), &request.common_name);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    if request.usage.is_client() {
        params
            .extended_key_usages
            .push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    if request.usage.is_server() {
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
    Ok(params)
}
