//! Signing keys, in every PEM form that programs of that time read.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, PublicKeyData,
    SignatureAlgorithm,
};
use rustls::SignatureScheme;
use rustls::crypto::ring::sign::any_supported_type;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};

use crate::keys;

/// The start of a P-256 key as `EC PRIVATE KEY`, up to the secret; and the bytes between the secret
/// and the public key: the curve's name.
const SEC1_START: [u8; 7] = [0x30, 0x77, 2, 1, 1, 4, 0x20];
const SEC1_MIDDLE: [u8; 17] = [
    0xa0, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7, 0xa1, 0x44, 3, 0x42, 0,
];

/// The position of the secret in a P-256 key from rcgen.
const SECRET: std::ops::Range<usize> = 36..68;

/// A private key that signs requests and certificates.
pub struct SigningKey {
    signer: Box<dyn rustls::sign::Signer>,
    algorithm: &'static SignatureAlgorithm,
    public: Vec<u8>,
}

impl SigningKey {
    /// The key in a PEM text.
    ///
    /// # Errors No key in it, or one that cannot sign. The key is never quoted.
    pub fn from_pem(text: &[u8]) -> Result<Self> {
        let key = any_supported_type(&keys::private_key_in(text)?)?;
        let known = [
            (SignatureScheme::RSA_PKCS1_SHA256, &PKCS_RSA_SHA256),
            (
                SignatureScheme::ECDSA_NISTP256_SHA256,
                &PKCS_ECDSA_P256_SHA256,
            ),
            (
                SignatureScheme::ECDSA_NISTP384_SHA384,
                &PKCS_ECDSA_P384_SHA384,
            ),
        ];
        let (signer, algorithm) = known
            .into_iter()
            .find_map(|(scheme, algorithm)| Some((key.choose_scheme(&[scheme])?, algorithm)))
            .context("the stand-in cannot sign with such a key")?;
        let public = key.public_key().context("a key without its public part")?;
        let (_, info) = SubjectPublicKeyInfo::from_der(&public).context("public key")?;
        Ok(Self {
            signer,
            algorithm,
            public: info.subject_public_key.data.to_vec(),
        })
    }
}

impl SigningKey {
    /// A token with these claims, as a JSON Web Token.
    ///
    /// # Errors The key cannot sign.
    pub fn token(&self, claims: &Value) -> Result<String> {
        let (name, size) = if self.algorithm == &PKCS_RSA_SHA256 {
            ("RS256", None)
        } else if self.algorithm == &PKCS_ECDSA_P256_SHA256 {
            ("ES256", Some(32))
        } else {
            ("ES384", Some(48))
        };
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let head = json!({"alg": name, "typ": "JWT"}).to_string();
        let signed = format!(
            "{}.{}",
            encode(head.as_bytes()),
            encode(claims.to_string().as_bytes())
        );
        let mut signature = self.signer.sign(signed.as_bytes())?;
        if let Some(size) = size {
            signature = fixed(&signature, size).context("a signature of an unknown form")?;
        }
        Ok(format!("{signed}.{}", encode(&signature)))
    }
}

/// An ECDSA signature as two numbers of `size` bytes, from its DER form.
fn fixed(der: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut rest = der.get(2..)?;
    let mut numbers = Vec::new();
    for _ in 0..2 {
        let [2, length, after @ ..] = rest else {
            return None;
        };
        let (number, after) = after.split_at_checked(usize::from(*length))?;
        let bare = &number[number.iter().take_while(|&&byte| byte == 0).count()..];
        numbers.resize(numbers.len() + size.checked_sub(bare.len())?, 0);
        numbers.extend_from_slice(bare);
        rest = after;
    }
    Some(numbers)
}

impl PublicKeyData for SigningKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

impl rcgen::SigningKey for SigningKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signed = self.signer.sign(message);
        signed.map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

/// A new ECDSA key on P-256 in the PEM form of the v1.9.0 kubelet.
///
/// # Errors No key can be made.
pub fn new_key() -> Result<String> {
    let key = KeyPair::generate()?;
    let pkcs8 = key.serialized_der();
    let secret = pkcs8.get(SECRET).context("a key of an unknown form")?;
    let der = [&SEC1_START, secret, &SEC1_MIDDLE, key.public_key_raw()].concat();
    let text = keys::pem("EC PRIVATE KEY", &der);
    SigningKey::from_pem(text.as_bytes()).context("a new key")?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rcgen::{CertificateParams, SigningKey as _};

    use super::*;

    #[test]
    fn a_new_key_is_the_one_that_was_made() {
        let text = new_key().unwrap();
        assert!(text.starts_with("-----BEGIN EC PRIVATE KEY-----\n"));
        let key = SigningKey::from_pem(text.as_bytes()).unwrap();
        // A request whose signature does not match its key is refused.
        let request = CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        let parsed = rcgen::CertificateSigningRequestParams::from_pem(&request.pem().unwrap());
        assert_eq!(parsed.unwrap().public_key.der_bytes(), key.der_bytes());
        assert_ne!(text, new_key().unwrap());
        key.sign(b"x").unwrap();
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert!(SigningKey::from_pem(b"").is_err());
        assert!(SigningKey::from_pem(b"-----BEGIN X-----\nAA==\n-----END X-----\n").is_err());
    }
}
