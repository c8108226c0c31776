//! Reads private keys that other programs wrote.

use anyhow::{Context, Result, anyhow};
use pkcs8::der::asn1::Null;
use pkcs8::der::{AnyRef, Decode, Encode};
use pkcs8::{AlgorithmIdentifierRef, ObjectIdentifier, PrivateKeyInfo};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sec1::{EcParameters, EcPrivateKey};

use super::random::NO_RANDOM;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// Reads the first private key of a PEM file: PKCS#8, or `RSA PRIVATE KEY` and `EC PRIVATE KEY` of
/// openssl and cfssl. The error never quotes the key.
pub fn read(pem: &[u8]) -> Result<KeyPair> {
    let key = PrivateKeyDer::from_pem_slice(pem)
        .map_err(|_| anyhow!("it has no private key in PEM, or the key has a password; remove that with `openssl pkey -in FILE -out NEW`"))?;
    let pkcs8 = match &key {
        PrivateKeyDer::Pkcs8(key) => key.secret_pkcs8_der().to_vec(),
        PrivateKeyDer::Pkcs1(key) => wrap(RSA, Null.into(), key.secret_pkcs1_der())?,
        PrivateKeyDer::Sec1(key) => {
            let broken = || anyhow!("its EC PRIVATE KEY names no curve");
            let parsed = EcPrivateKey::from_der(key.secret_sec1_der()).map_err(|_| broken())?;
            let curve = parsed.parameters.and_then(EcParameters::named_curve);
            let curve = curve.with_context(|| broken().to_string())?;
            wrap(EC, (&curve).into(), key.secret_sec1_der())?
        }
        _ => return Err(anyhow!("its private key is in an unknown format")),
    };
    KeyPair::try_from(&PrivatePkcs8KeyDer::from(pkcs8)).map_err(|_| {
        anyhow!("its key is neither RSA of 2048 bits and more nor ECDSA on P-256 or P-384")
    })
}

/// The public key of `key`: a SubjectPublicKeyInfo in DER.
pub fn public(key: &KeyPair) -> Vec<u8> {
    key.subject_public_key_info()
}

/// A new key, ECDSA on P-256. Unlike `KeyPair::generate`, it does not panic if the system provides no random
/// numbers.
pub fn generate() -> Result<KeyPair> {
    let random = SystemRandom::new();
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random);
    let made = made.map_err(|_| anyhow!(NO_RANDOM))?;
    let pkcs8 = PrivatePkcs8KeyDer::from(made.as_ref());
    KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ECDSA_P256_SHA256)
        .map_err(|_| anyhow!(NO_RANDOM))
}

fn wrap(algorithm: ObjectIdentifier, parameters: AnyRef<'_>, key: &[u8]) -> Result<Vec<u8>> {
    let algorithm = AlgorithmIdentifierRef {
        oid: algorithm,
        parameters: Some(parameters),
    };
    let wrapped = PrivateKeyInfo::new(algorithm, key).to_der();
    wrapped.map_err(|_| anyhow!("its private key cannot be read"))
}
