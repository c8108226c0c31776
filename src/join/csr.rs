//! Checks certificate signing requests. A certificate takes only the public key from a request. The
//! rest of the request must still match exactly what its sender may have, so that errors are
//! noticed.

use core::net::{IpAddr, Ipv4Addr};
use std::collections::BTreeSet;

use anyhow::Result;
use rcgen::{CertificateSigningRequestParams, KeyPair};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::der_parser::asn1_rs::{Oid, oid};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;

use super::message::{Certificate, CertificateSigningRequest, Reason, Refusal};
use crate::components::{self, ETCD_CERTIFICATE, KUBELET_CLIENT};
use crate::pki::CertificateRequest;
use crate::pki::issue::Signer;

/// The minimum size of an RSA key, in bits.
const LEAST_RSA_BITS: usize = 2048;
const RSA: Oid<'static> = oid!(1.2.840.113549.1.1.1);
const EC: Oid<'static> = oid!(1.2.840.10045.2.1);

/// Requests that passed the checks.
pub struct Checked {
    checked: Vec<(CertificateRequest, CertificateSigningRequestParams)>,
    /// SHA-256 of the public key that identifies the node, in hexadecimal.
    pub key: String,
}

/// The certificates that a machine may request.
pub struct Allowed {
    certificates: Vec<CertificateRequest>,
    /// The certificate whose key identifies the machine.
    known_by: &'static str,
}

impl Allowed {
    /// The certificates that the worker called `name` at `address` may request.
    pub fn worker(name: &str, address: Ipv4Addr) -> Allowed {
        Allowed {
            certificates: components::worker(name, address),
            known_by: KUBELET_CLIENT,
        }
    }

    /// The certificate that identifies the master called `name` at `address`. A master issues its
    /// own certificates.
    pub fn master(name: &str, address: Ipv4Addr) -> Allowed {
        Allowed {
            certificates: vec![components::etcd_member(name, address)],
            known_by: ETCD_CERTIFICATE,
        }
    }
}

/// Checks that the sender may request these certificates: each at most once, including the one
/// that identifies it.
pub fn check(
    requests: &[CertificateSigningRequest],
    allowed: &Allowed,
) -> Result<Checked, Refusal> {
    let (allowed, known_by) = (&allowed.certificates, allowed.known_by);
    let mut seen = BTreeSet::new();
    let (mut checked, mut key) = (Vec::new(), None);
    for request in requests {
        let wanted = allowed.iter().find(|allowed| allowed.name == request.name);
        let wanted = wanted
            .filter(|_| seen.insert(&request.name))
            .ok_or_else(|| {
                let names: Vec<&str> = allowed.iter().map(|allowed| allowed.name).collect();
                bad(format!(
                    "certificate {:?} is requested twice or is not allowed; expected each of {} at \
                     most once",
                    shown(&request.name),
                    names.join(", ")
                ))
            })?;
        let refused = |why: String| bad(format!("certificate {}: {why}", wanted.name));
        let der = contents(&request.csr).map_err(refused)?;
        let fingerprint = check_one(&der, wanted).map_err(refused)?;
        let parsed = CertificateSigningRequestParams::from_der(&der.into())
            .map_err(|_| refused(broken()))?;
        if wanted.name == known_by {
            key = Some(fingerprint);
        }
        checked.push((wanted.clone(), parsed));
    }
    let key =
        key.ok_or_else(|| bad(format!("the request for certificate {known_by} is missing")))?;
    Ok(Checked { checked, key })
}

fn bad(why: String) -> Refusal {
    Refusal::new(Reason::BadCertificateRequest, why)
}

/// The beginning of a text from the network, escaped for a log.
fn shown(text: &str) -> String {
    text.chars()
        .take(40)
        .collect::<String>()
        .escape_debug()
        .to_string()
}

/// The request in a text of one PEM block and nothing else, in DER. What is checked and what is certified are made from
/// these bytes: two readers of PEM may find two different blocks in one text.
fn contents(text: &str) -> Result<Vec<u8>, String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE REQUEST-----";
    let (rest, pem) = parse_x509_pem(text.as_bytes()).map_err(|_| broken())?;
    let is_alone = text.starts_with(BEGIN) && text.matches("-----BEGIN").count() == 1;
    if !is_alone || !rest.trim_ascii().is_empty() || pem.label != "CERTIFICATE REQUEST" {
        return Err(
            "expected one PEM block of type CERTIFICATE REQUEST, and no text outside it".to_owned(),
        );
    }
    Ok(pem.contents)
}

fn broken() -> String {
    "the request is not a valid PKCS#10 request".to_owned()
}

/// Compares a request (DER) with the allowed certificate. Returns SHA-256 of its public key.
fn check_one(der: &[u8], wanted: &CertificateRequest) -> Result<String, String> {
    let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| broken())?;
    if !rest.is_empty() {
        return Err(broken());
    }
    let key = &request.certification_request_info.subject_pki;
    let strong = match &key.algorithm.algorithm {
        algorithm if *algorithm == RSA => key
            .parsed()
            .is_ok_and(|key| key.key_size() >= LEAST_RSA_BITS),
        algorithm => *algorithm == EC,
    };
    if !strong {
        return Err(format!(
            "expected an ECDSA key, or an RSA key of at least {LEAST_RSA_BITS} bits"
        ));
    }
    request
        .verify_signature()
        .map_err(|_| "its signature does not match its key".to_owned())?;
    check_subject(&request, wanted)?;
    check_extensions(&request, wanted)?;
    Ok(hex::encode(Sha256::digest(key.raw)))
}

fn check_subject(
    request: &X509CertificationRequest<'_>,
    wanted: &CertificateRequest,
) -> Result<(), String> {
    let subject = &request.certification_request_info.subject;
    let all = |attributes: Vec<&str>, wanted: &str| attributes == [wanted];
    let names: Vec<&str> = subject
        .iter_common_name()
        .filter_map(|name| name.as_str().ok())
        .collect();
    let groups: Vec<&str> = subject
        .iter_organization()
        .filter_map(|name| name.as_str().ok())
        .collect();
    let attributes = subject.iter_attributes().count();
    if attributes == 2 && all(names, &wanted.common_name) && all(groups, &wanted.organization) {
        return Ok(());
    }
    Err(format!(
        "its subject is {:?}; expected O={}, CN={} and nothing else",
        shown(&subject.to_string()),
        wanted.organization,
        wanted.common_name
    ))
}

fn check_extensions(
    request: &X509CertificationRequest<'_>,
    wanted: &CertificateRequest,
) -> Result<(), String> {
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    for extension in request.requested_extensions().into_iter().flatten() {
        match extension {
            ParsedExtension::KeyUsage(usage) if !usage.key_cert_sign() && !usage.crl_sign() => {}
            ParsedExtension::ExtendedKeyUsage(usage)
                if usage.client_auth == wanted.usage.is_client()
                    && usage.server_auth == wanted.usage.is_server()
                    && !usage.any
                    && usage.other.is_empty() => {}
            ParsedExtension::BasicConstraints(constraints) if !constraints.ca => {}
            ParsedExtension::BasicConstraints(_) => {
                return Err("it requests a CA certificate".to_owned());
            }
            ParsedExtension::SubjectAlternativeName(sans) => {
                for name in &sans.general_names {
                    match name {
                        GeneralName::DNSName(name) => names.push((*name).to_owned()),
                        GeneralName::IPAddress(bytes) => addresses.push(ip(bytes)?),
                        _ => {
                            return Err(
                                "it has a subject alternative name of another type than DNS and IP"
                                    .to_owned(),
                            );
                        }
                    }
                }
            }
            _ => return Err("it requests an extension or a usage that is not allowed".to_owned()),
        }
    }
    if names == wanted.dns_names && addresses == wanted.ip_addresses {
        return Ok(());
    }
    Err("its subject alternative names are not the names and address of its node".to_owned())
}

fn ip(bytes: &[u8]) -> Result<IpAddr, String> {
    let address = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let address = address.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    address.map_err(|_| "it has an invalid IP address".to_owned())
}

impl Checked {
    /// Signs all requests with the CA whose certificates are `authority` (PEM, the issuing CA
    /// first) and whose key is `key`.
    pub fn issue(
        &self,
        authority: &str,
        key: &KeyPair,
        now: OffsetDateTime,
    ) -> Result<Vec<Certificate>> {
        let signer = Signer::new(authority, key)?;
        let issue = |(request, parsed): &(CertificateRequest, CertificateSigningRequestParams)| {
            Ok(Certificate {
                name: request.name.to_owned(),
                pem: signer.certificate(request, &parsed.public_key, now)?,
            })
        };
        self.checked.iter().map(issue).collect()
    }
}
