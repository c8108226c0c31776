//! The keys of service accounts: one signs their tokens, and one or more verify them.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::KeyPair;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256,
    UnparsedPublicKey, VerificationAlgorithm,
};

use super::signature::{Kind, public_key};
use super::{Secret, key};

/// The label of a public key in PEM.
const PUBLIC: &str = "PUBLIC KEY";

/// A key that signs tokens.
pub struct AccountKey(KeyPair);

impl AccountKey {
    /// The private key in PEM. The error never quotes it.
    pub fn read(pem: &Secret) -> Result<AccountKey> {
        key::read(pem.expose()).map(AccountKey)
    }

    /// A new key, in PEM.
    pub fn generate() -> Result<Secret> {
        let pem = key::generate()?.serialize_pem();
        Ok(Secret::new(pem.into_bytes()))
    }

    /// Its public key: a SubjectPublicKeyInfo in DER.
    pub fn public(&self) -> Vec<u8> {
        key::public(&self.0)
    }

    /// Its public key in PEM.
    pub fn public_pem(&self) -> String {
        self.0.public_key_pem()
    }
}

/// The public keys in a file for `--service-account-key-file`, each a SubjectPublicKeyInfo in DER.
///
/// # Errors
/// The file has anything else than public keys.
pub fn verifying(text: &str) -> Result<Vec<Vec<u8>>> {
    let blocks = pem::parse_many(text).context("not a PEM file")?;
    let keys = blocks.into_iter().map(|block| {
        ensure!(
            block.tag() == PUBLIC,
            "it has a {} instead of a {PUBLIC}",
            block.tag()
        );
        Ok(block.into_contents())
    });
    keys.collect()
}

/// Whether the key with this public key (SubjectPublicKeyInfo in DER) signed the JSON web token, as kube-controller-manager
/// signs: RS256, ES256 or ES384 (RFC 7518, 3.3 and 3.4).
pub fn signed(token: &str, public: &[u8]) -> bool {
    let Some((text, signature)) = token.rsplit_once('.') else {
        return false;
    };
    let (Ok(signature), Some((kind, bits))) =
        (URL_SAFE_NO_PAD.decode(signature), public_key(public))
    else {
        return false;
    };
    let algorithm: &dyn VerificationAlgorithm = match kind {
        Kind::Rsa => &RSA_PKCS1_2048_8192_SHA256,
        Kind::P256 => &ECDSA_P256_SHA256_FIXED,
        Kind::P384 => &ECDSA_P384_SHA384_FIXED,
    };
    let key = UnparsedPublicKey::new(algorithm, bits);
    key.verify(text.as_bytes(), &signature).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

    use super::*;

    fn token(key: &Secret) -> String {
        let pkcs8 = AccountKey::read(key).unwrap().0.serialize_der();
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8, &random);
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let text = format!(
            "{}.{}",
            part(r#"{"alg":"ES256"}"#),
            part(r#"{"sub":"someone"}"#)
        );
        let signature = key.unwrap().sign(&random, text.as_bytes()).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    #[test]
    fn a_token_belongs_to_the_key_that_signed_it() {
        let (one, other) = (
            AccountKey::generate().unwrap(),
            AccountKey::generate().unwrap(),
        );
        let token = token(&one);
        let public = |key| AccountKey::read(key).unwrap().public();
        assert!(signed(&token, &public(&one)));
        assert!(!signed(&token, &public(&other)));
        assert!(!signed(&token, b""));
        for broken in ["", ".", "a.b.c", &token[..token.len() - 2], &token[1..]] {
            assert!(!signed(broken, &public(&one)), "{broken}");
        }
    }

    #[test]
    fn a_file_can_have_several_public_keys_and_nothing_else() {
        let (one, other) = (
            AccountKey::generate().unwrap(),
            AccountKey::generate().unwrap(),
        );
        let [first, second] = [&one, &other].map(|key| AccountKey::read(key).unwrap());
        let text = first.public_pem() + &second.public_pem();
        assert_eq!(verifying(&text).unwrap(), [first.public(), second.public()]);
        assert!(verifying(str::from_utf8(one.expose()).unwrap()).is_err());
        assert!(verifying("").unwrap().is_empty());
    }
}
