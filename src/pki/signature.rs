//! Signatures over statements, with the keys of certificates.

use anyhow::{Result, anyhow};
use rcgen::{KeyPair, SigningKey};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use serde::{Deserialize, Serialize};
use x509_parser::der_parser::asn1_rs::{Oid, oid};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::bytes::Base64;

// RFC 3279, 2.3.1, and RFC 5480, 2.1.1.1.
const RSA: Oid<'static> = oid!(1.2.840.113549.1.1.1);
const P256: Oid<'static> = oid!(1.2.840.10045.3.1.7);
const P384: Oid<'static> = oid!(1.3.132.0.34);

/// A signature, which is sent as base64. Its algorithm is the one that its key uses for certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signature(Base64);

impl Signature {
    /// The signature of `key` over `text`.
    pub fn of(key: &KeyPair, text: &[u8]) -> Result<Signature> {
        let made = key.sign(text);
        made.map(|bytes| Signature(Base64(bytes)))
            .map_err(|_| anyhow!("cannot sign with this key"))
    }

    /// Whether the key with this public key (SubjectPublicKeyInfo in DER) signed `text`.
    pub fn is_by(&self, public_key: &[u8], text: &[u8]) -> bool {
        let Some((kind, bits)) = self::public_key(public_key) else {
            return false;
        };
        // The algorithm with which rcgen signs for a key of this kind.
        let algorithm: &dyn VerificationAlgorithm = match kind {
            Kind::Rsa => &RSA_PKCS1_2048_8192_SHA256,
            Kind::P256 => &ECDSA_P256_SHA256_ASN1,
            Kind::P384 => &ECDSA_P384_SHA384_ASN1,
        };
        let key = UnparsedPublicKey::new(algorithm, bits);
        key.verify(text, &self.0.0).is_ok()
    }
}

/// The kind of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// RSA.
    Rsa,
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
}

/// The kind of a public key (SubjectPublicKeyInfo in DER), and the key without its kind; `None` if it is of no kind that
/// this program uses.
pub(super) fn public_key(der: &[u8]) -> Option<(Kind, Vec<u8>)> {
    let Ok(([], key)) = SubjectPublicKeyInfo::from_der(der) else {
        return None;
    };
    let kind = match &key.algorithm {
        algorithm if algorithm.algorithm == RSA => Kind::Rsa,
        algorithm => match algorithm.parameters.as_ref()?.as_oid().ok()? {
            curve if curve == P256 => Kind::P256,
            curve if curve == P384 => Kind::P384,
            _ => return None,
        },
    };
    Some((kind, key.subject_public_key.data.to_vec()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rcgen::{PKCS_ECDSA_P384_SHA384, PublicKeyData};

    use super::*;

    #[test]
    fn a_signature_holds_for_its_key_and_its_text_only() {
        let p256 = KeyPair::generate().unwrap();
        let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        for (own, other) in [(&p256, &p384), (&p384, &p256)] {
            let signature = Signature::of(own, b"text").unwrap();
            let public = own.subject_public_key_info();
            assert!(signature.is_by(&public, b"text"));
            assert!(!signature.is_by(&public, b"another"));
            assert!(!signature.is_by(&other.subject_public_key_info(), b"text"));
            assert!(!signature.is_by(b"", b"text"));
            let json = serde_json::to_string(&signature).unwrap();
            assert_eq!(serde_json::from_str::<Signature>(&json).unwrap(), signature);
        }
    }
}
