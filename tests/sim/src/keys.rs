//! The PEM forms of keys and certificates that each v1.9.0 program reads.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::SignatureAlgorithm;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};
use x509_parser::public_key::PublicKey;

type Section = (SectionKind, Vec<u8>);

fn sections(path: &Path) -> Result<Vec<Section>> {
    let text = fs::read(path).with_context(|| path.display().to_string())?;
    Section::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .with_context(|| format!("{}: not PEM", path.display()))
}

/// Every certificate in the file.
///
/// # Errors An unreadable file, or one with no certificate or an invalid one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let text = fs::read(path).with_context(|| path.display().to_string())?;
    certificates_in(&text).with_context(|| path.display().to_string())
}

/// Every certificate in a PEM text.
///
/// # Errors No certificate in it, or an invalid one.
pub fn certificates_in(text: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .context("not PEM")?;
    if found.is_empty() {
        bail!("holds no certificate");
    }
    for certificate in &found {
        X509Certificate::from_der(certificate).context("holds a broken certificate")?;
    }
    Ok(found)
}

/// The first private key in a PEM text.
///
/// # Errors No private key in it, or one that no program of that time reads.
pub fn private_key_in(text: &[u8]) -> Result<PrivateKeyDer<'static>> {
    let key = PrivateKeyDer::from_pem_slice(text).context("holds no private key")?;
    algorithm(&key)?;
    Ok(key)
}

/// A PEM text.
pub fn pem(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text = text + line + "\n";
        rest = after;
    }
    text + &format!("-----END {label}-----\n")
}

/// The kind of a private key; programs of that time did not know Ed25519.
fn algorithm(key: &PrivateKeyDer<'_>) -> Result<SignatureAlgorithm> {
    let algorithm = any_supported_type(key)
        .context("holds a broken private key")?
        .algorithm();
    match algorithm {
        SignatureAlgorithm::RSA | SignatureAlgorithm::ECDSA => Ok(algorithm),
        other => bail!("holds a {other:?} key; v1.9.0 reads only RSA and ECDSA ones"),
    }
}

/// Checks that `key` is the key of `certificate`.
///
/// # Errors The certificate has another key.
pub fn check_pair(certificate: &Path, key: &Path) -> Result<()> {
    let chain = certificates(certificate)?;
    let text = fs::read(key).with_context(|| key.display().to_string())?;
    let private = private_key_in(&text).with_context(|| key.display().to_string())?;
    CertifiedKey::new(chain, any_supported_type(&private)?)
        .keys_match()
        .with_context(|| {
            format!(
                "{} is not the key of {}",
                key.display(),
                certificate.display()
            )
        })
}

/// Checks a file for the controller-manager's `--service-account-private-key-file`.
///
/// # Errors
/// A file without an RSA or ECDSA private key.
pub fn check_signing_key(path: &Path) -> Result<()> {
    let text = fs::read(path).with_context(|| path.display().to_string())?;
    private_key_in(&text)
        .map(|_| ())
        .with_context(|| path.display().to_string())
}

/// A public key that verifies tokens.
pub struct VerifyingKey {
    /// The algorithm, by its name in the header of a token.
    pub algorithm: &'static str,
    /// The key: an RSA key in DER, or a point on a curve.
    pub bytes: Vec<u8>,
}

/// The keys in a file for the apiserver's `--service-account-key-file`: it reads public keys,
/// certificates and private keys, but no ECDSA key in PKCS#8 form.
///
/// # Errors A file without any key that the apiserver reads.
pub fn verifying_keys(path: &Path) -> Result<Vec<VerifyingKey>> {
    let keys: Vec<_> = sections(path)?.iter().filter_map(verifying_key).collect();
    if keys.is_empty() {
        bail!(
            "{}: data does not contain any valid RSA or ECDSA public keys",
            path.display()
        );
    }
    Ok(keys)
}

fn verifying_key((kind, der): &Section) -> Option<VerifyingKey> {
    let private = |key: PrivateKeyDer<'_>| {
        let signer = any_supported_type(&key).ok()?;
        let public = signer.public_key()?;
        let (_, info) = SubjectPublicKeyInfo::from_der(&public).ok()?;
        public_key(&info)
    };
    match kind {
        SectionKind::PublicKey => match SubjectPublicKeyInfo::from_der(der) {
            Ok(([], info)) => public_key(&info),
            _ => None,
        },
        SectionKind::Certificate => {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            public_key(certificate.public_key())
        }
        SectionKind::RsaPrivateKey => private(PrivateKeyDer::Pkcs1(der.clone().into())),
        SectionKind::EcPrivateKey => private(PrivateKeyDer::Sec1(der.clone().into())),
        SectionKind::PrivateKey => {
            let key = PrivateKeyDer::Pkcs8(der.clone().into());
            private(key).filter(|key| key.algorithm == "RS256")
        }
        _ => None,
    }
}

fn public_key(info: &SubjectPublicKeyInfo<'_>) -> Option<VerifyingKey> {
    let algorithm = match info.parsed().ok()? {
        PublicKey::RSA(_) => "RS256",
        PublicKey::EC(point) if point.key_size() == 256 => "ES256",
        PublicKey::EC(point) if point.key_size() == 384 => "ES384",
        _ => return None,
    };
    Some(VerifyingKey {
        algorithm,
        bytes: info.subject_public_key.data.to_vec(),
    })
}
