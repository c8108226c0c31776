//! Reads certificates.

use core::net::IpAddr;

use anyhow::{Context, Result, anyhow};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::{Pem, parse_x509_pem};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

/// The parts of a certificate that matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Its subject, such as `O=system:masters, CN=admin`.
    pub subject: String,
    /// The subject's common name.
    pub common_name: String,
    /// The subject's organization.
    pub organization: String,
    /// Its subject alternative names of type DNS.
    pub dns_names: Vec<String>,
    /// Its subject alternative names of type IP address.
    pub ip_addresses: Vec<IpAddr>,
    /// The start of its validity.
    pub not_before: OffsetDateTime,
    /// The end of its validity.
    pub not_after: OffsetDateTime,
    /// Whether it may sign others.
    pub is_ca: bool,
    /// Whether it names itself as its issuer, as a root does.
    pub is_self_issued: bool,
    /// Whether its key may sign certificates (RFC 5280, 4.2.1.3).
    pub signs_certificates: bool,
    /// Whether a server may use it.
    pub server: bool,
    /// Whether a client may use it.
    pub client: bool,
    /// Its public key: a SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
}

impl CertificateInfo {
    /// All subject alternative names.
    pub fn sans(&self) -> Vec<String> {
        let addresses = self.ip_addresses.iter().map(ToString::to_string);
        self.dns_names.iter().cloned().chain(addresses).collect()
    }
}

/// Reads the first certificate of a PEM file.
pub fn inspect(pem: &[u8]) -> Result<CertificateInfo> {
    read(&parse(&parse_pem(pem)?)?)
}

/// Reads a certificate in DER.
pub fn inspect_der(der: &[u8]) -> Result<CertificateInfo> {
    read(&parse_der(der)?)
}

/// The certificates of a PEM file: each in PEM, and its content.
pub fn certificates(pem: &str) -> Result<Vec<Read>> {
    let mut all = Vec::new();
    for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let der = der.map_err(|_| anyhow!("not a PEM file of certificates"))?;
        let encoded = pem::encode(&pem::Pem::new("CERTIFICATE", der.to_vec()));
        all.push((encoded, inspect_der(&der)?));
    }
    Ok(all)
}

/// A certificate in PEM, and its content.
pub type Read = (String, CertificateInfo);

/// The certificates in the file of an authority: those of the issuing authority up to its root; and those of other
/// authorities, which are trusted beside it while one replaces the other.
pub fn authorities(pem: &str) -> Result<(Vec<Read>, Vec<Read>)> {
    let mut chain = certificates(pem)?;
    let root = chain.iter().position(|(_, info)| info.is_self_issued);
    let others = root.map(|root| chain.split_off(root + 1));
    Ok((chain, others.unwrap_or_default()))
}

/// The newest ones in the file of an authority, by the start of their validity, without the certificates above the
/// issuing authority. A rotation makes the next authority newer than all others.
pub fn newest(pem: &str) -> Result<Vec<Read>> {
    let (chain, others) = authorities(pem)?;
    let mut all: Vec<Read> = chain.into_iter().take(1).chain(others).collect();
    let latest = all.iter().map(|(_, info)| info.not_before).max();
    all.retain(|(_, info)| Some(info.not_before) == latest);
    Ok(all)
}

/// SHA-256 of the certificate's public key (SubjectPublicKeyInfo), in hexadecimal.
pub fn fingerprint(info: &CertificateInfo) -> String {
    hex::encode(Sha256::digest(&info.public_key))
}

fn read(certificate: &X509Certificate<'_>) -> Result<CertificateInfo> {
    let (mut dns_names, mut ip_addresses) = (Vec::new(), Vec::new());
    if let Some(sans) = certificate.subject_alternative_name()? {
        for name in &sans.value.general_names {
            match name {
                GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => ip_addresses.extend(ip_address(bytes)),
                _ => {}
            }
        }
    }
    let usage = certificate.extended_key_usage()?.map(|usage| usage.value);
    let validity = certificate.validity();
    Ok(CertificateInfo {
        subject: certificate.subject().to_string(),
        common_name: first(certificate.subject().iter_common_name()),
        organization: first(certificate.subject().iter_organization()),
        dns_names,
        ip_addresses,
        not_before: validity.not_before.to_datetime(),
        not_after: validity.not_after.to_datetime(),
        is_ca: certificate.is_ca(),
        is_self_issued: same_name(certificate.issuer(), certificate.subject()),
        signs_certificates: certificate
            .key_usage()?
            .is_none_or(|usage| usage.value.key_cert_sign()),
        server: usage.is_some_and(|usage| usage.server_auth),
        client: usage.is_some_and(|usage| usage.client_auth),
        public_key: certificate.public_key().raw.to_vec(),
    })
}

/// Whether the certificate authority `authority` signed the certificate `pem`.
pub fn is_signed_by(pem: &[u8], authority: &[u8]) -> Result<bool> {
    let (pem, authority) = (parse_pem(pem)?, parse_pem(authority)?);
    signed(&parse(&pem)?, &parse(&authority)?)
}

/// Like [`is_signed_by`], for a certificate in DER.
pub fn is_der_signed_by(der: &[u8], authority: &[u8]) -> Result<bool> {
    signed(&parse_der(der)?, &parse(&parse_pem(authority)?)?)
}

/// Whether one of the authorities in `authorities` (PEM) signed the certificate `der`.
pub fn is_der_signed_by_any(der: &[u8], authorities: &str) -> Result<bool> {
    for (authority, _) in certificates(authorities)? {
        if is_der_signed_by(der, authority.as_bytes())? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn signed(certificate: &X509Certificate<'_>, authority: &X509Certificate<'_>) -> Result<bool> {
    let named = same_name(certificate.issuer(), authority.subject());
    Ok(named
        && certificate
            .verify_signature(Some(authority.public_key()))
            .is_ok())
}

fn same_name(a: &X509Name<'_>, b: &X509Name<'_>) -> bool {
    a.as_raw() == b.as_raw()
}

fn parse_pem(pem: &[u8]) -> Result<Pem> {
    let (_, pem) = parse_x509_pem(pem).map_err(|_| anyhow!("not a PEM file"))?;
    anyhow::ensure!(
        pem.label == "CERTIFICATE",
        "it holds a {} instead of a CERTIFICATE",
        pem.label
    );
    Ok(pem)
}

fn parse(pem: &Pem) -> Result<X509Certificate<'_>> {
    parse_der(&pem.contents)
}

fn parse_der(der: &[u8]) -> Result<X509Certificate<'_>> {
    let (_, certificate) = X509Certificate::from_der(der).context("not an X.509 certificate")?;
    Ok(certificate)
}

fn first<'a>(
    mut values: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
) -> String {
    values
        .next()
        .and_then(|value| value.as_str().ok())
        .unwrap_or_default()
        .to_owned()
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}
