//! What a node may ask to have signed. Nothing but the public key is ever taken from a request
//! into a certificate; that a request says exactly what its sender may have is checked so that a
//! wrong one is noticed.

use core::net::{IpAddr, Ipv4Addr};
use std::collections::BTreeSet;

use anyhow::Result;
use rcgen::{CertificateSigningRequestParams, KeyPair};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::der_parser::asn1_rs::{Oid, oid};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;

use super::message::{Certificate, CertificateSigningRequest, Reason, Refusal};
use crate::components::{self, ETCD_CERTIFICATE, KUBELET_CLIENT};
use crate::pki::CertificateRequest;
use crate::pki::issue::Signer;

/// How long a node's certificates last. It renews them by itself.
const LIFETIME: Duration = Duration::days(365);
/// The least bits of an RSA key.
const LEAST_RSA_BITS: usize = 2048;
const RSA: Oid<'static> = oid!(1.2.840.113549.1.1.1);
const EC: Oid<'static> = oid!(1.2.840.10045.2.1);

/// Requests that were found good.
pub struct Checked {
    checked: Vec<(CertificateRequest, CertificateSigningRequestParams)>,
    /// SHA-256 of the public key by which the node is known, in hexadecimal.
    pub key: String,
}

/// What a machine may ask for.
pub struct Allowed {
    certificates: Vec<CertificateRequest>,
    /// The one by whose key it is known.
    known_by: &'static str,
}

impl Allowed {
    /// What the worker called `name` at `address` may ask for.
    pub fn worker(name: &str, address: Ipv4Addr) -> Allowed {
        Allowed {
            certificates: components::worker(name, address),
            known_by: KUBELET_CLIENT,
        }
    }

    /// What the master called `name` at `address` is known by. It issues its certificates itself.
    pub fn master(name: &str, address: Ipv4Addr) -> Allowed {
        Allowed {
            certificates: vec![components::etcd_member(name, address)],
            known_by: ETCD_CERTIFICATE,
        }
    }
}

/// Checks that these are what their sender may ask for: each certificate at most once, and among
/// them the one by which it is known.
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
                    "certificate {:?}: expected each of {} at most once",
                    shown(&request.name),
                    names.join(", ")
                ))
            })?;
        let refused = |why: String| bad(format!("certificate {}: {why}", wanted.name));
        let fingerprint = check_one(&request.csr, wanted).map_err(refused)?;
        let parsed = CertificateSigningRequestParams::from_pem(&request.csr)
            .map_err(|_| refused("the request could not be read".to_owned()))?;
        if wanted.name == known_by {
            key = Some(fingerprint);
        }
        checked.push((wanted.clone(), parsed));
    }
    let key = key.ok_or_else(|| bad(format!("the certificate {known_by} is missing")))?;
    Ok(Checked { checked, key })
}

fn bad(why: String) -> Refusal {
    Refusal::new(Reason::BadCertificateRequest, why)
}

/// The beginning of text from the network, harmless in a log.
fn shown(text: &str) -> String {
    text.chars()
        .take(40)
        .collect::<String>()
        .escape_debug()
        .to_string()
}

/// Compares a request with what it has to be. Gives SHA-256 of its public key.
fn check_one(pem: &str, wanted: &CertificateRequest) -> Result<String, String> {
    let broken = |_| "the request could not be read".to_owned();
    let (_, pem) = parse_x509_pem(pem.as_bytes()).map_err(|_| broken(()))?;
    if pem.label != "CERTIFICATE REQUEST" {
        return Err("expected a PEM block CERTIFICATE REQUEST".to_owned());
    }
    let (rest, request) =
        X509CertificationRequest::from_der(&pem.contents).map_err(|_| broken(()))?;
    if !rest.is_empty() {
        return Err(broken(()));
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
        .map_err(|_| "its signature is not its own key's".to_owned())?;
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
        "its subject is {:?}, expected O={}, CN={} and nothing more",
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
                return Err("it asks to be a certificate authority".to_owned());
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
            _ => return Err("it asks for an extension or a usage it may not have".to_owned()),
        }
    }
    if names == wanted.dns_names && addresses == wanted.ip_addresses {
        return Ok(());
    }
    Err("its subject alternative names are not those of its node".to_owned())
}

fn ip(bytes: &[u8]) -> Result<IpAddr, String> {
    let address = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let address = address.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    address.map_err(|_| "it has a broken address".to_owned())
}

impl Checked {
    /// Signs them all with the authority whose certificates are `authority` (PEM, the issuing one
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
                pem: signer.certificate(request, &parsed.public_key, now, LIFETIME)?,
            })
        };
        self.checked.iter().map(issue).collect()
    }
}
