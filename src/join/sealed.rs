//! How a new master gets the keys that all masters share. They are encrypted for it alone, so that
//! the HTTPS service, which forwards them, cannot read them. Pure except for randomness.
//!
//! The encryption key is derived from a key agreement that lasts only for the exchange (X25519, RFC
//! 7748) and from the token's key, which only holders of the token have. An attacker would need
//! both.

use std::fmt;

use anyhow::{Context, Result, anyhow};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey, X25519};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::SystemRandom;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::nodespec::token::{Bytes32, KEY_BYTES};

/// The purpose of the derived key.
const PURPOSE: &[u8] = b"appliance join v1 keys of masters";

/// The keys that all masters of a cluster share.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MasterKeys {
    /// The CA's private key, in PEM.
    pub authority: Zeroizing<String>,
    /// The certificate of etcd's CA, in PEM.
    pub etcd_authority: String,
    /// The private key of etcd's CA, in PEM.
    pub etcd_key: Zeroizing<String>,
    /// The service accounts' private key, in PEM.
    pub service_account: Zeroizing<String>,
    /// All public keys of service accounts, in PEM, while a rotation replaces the private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verifying: Option<String>,
    /// The tokens that kube-apiserver accepts, as in `token.csv`.
    pub tokens: Zeroizing<String>,
    /// The key that encrypts secrets in etcd, as kube-apiserver reads it.
    pub encryption: Zeroizing<String>,
}

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// Keys of masters, encrypted for one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sealed {
    /// The sender's public key in this exchange (X25519).
    pub public_key: Bytes32,
    /// [`MasterKeys`] as JSON under AES-256-GCM, in base64.
    pub content: String,
}

/// The secret half of a key agreement.
pub struct Half {
    private: EphemeralPrivateKey,
    /// The public half, for the other side.
    pub public: Bytes32,
}

impl Half {
    /// Makes a new key pair.
    pub fn new() -> Result<Half> {
        let broken = || anyhow!("the system provides no random numbers for a key");
        let private = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new());
        let private = private.map_err(|_| broken())?;
        let public = private.compute_public_key().map_err(|_| broken())?;
        let public = <[u8; KEY_BYTES]>::try_from(public.as_ref()).map_err(|_| broken())?;
        Ok(Half {
            private,
            public: Bytes32(public),
        })
    }

    /// The key that both sides derive from their halves and the token's key.
    fn agree(
        self,
        other: &Bytes32,
        token_key: &[u8; KEY_BYTES],
        salt: &[u8],
    ) -> Result<LessSafeKey> {
        let other = UnparsedPublicKey::new(&X25519, other.0);
        let derived = agreement::agree_ephemeral(self.private, &other, |shared| {
            let mut secret = Zeroizing::new(shared.to_vec());
            secret.extend(token_key);
            let mut key = Zeroizing::new([0; KEY_BYTES]);
            let made = Salt::new(HKDF_SHA256, salt).extract(&secret);
            let made = made.expand(&[PURPOSE], HKDF_SHA256);
            made.and_then(|made| made.fill(&mut *key)).map(|()| key)
        });
        let key = derived
            .ok()
            .and_then(Result::ok)
            .context("the public key of the other side is invalid")?;
        let key = UnboundKey::new(&AES_256_GCM, &*key);
        Ok(LessSafeKey::new(
            key.map_err(|_| anyhow!("cannot derive the key"))?,
        ))
    }
}

/// A constant nonce: each key encrypts only one message.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// The facts of an exchange that both sides know when one sends keys.
pub struct Exchange<'a> {
    /// The joining side's nonce.
    pub worker_nonce: &'a Bytes32,
    /// The other side's nonce.
    pub master_nonce: &'a Bytes32,
    /// The token's key, which only holders of the token have.
    pub token_key: &'a [u8; KEY_BYTES],
}

impl Exchange<'_> {
    /// The salt from the nonces of both sides.
    fn salt(&self) -> [u8; KEY_BYTES] {
        let mut hash = Sha256::new();
        hash.update(self.worker_nonce.0);
        hash.update(self.master_nonce.0);
        hash.finalize().into()
    }

    /// Encrypts `keys` for the machine whose public half is `theirs`.
    pub fn seal(&self, keys: &MasterKeys, theirs: &Bytes32) -> Result<Sealed> {
        let half = Half::new()?;
        let public_key = half.public;
        let key = half.agree(theirs, self.token_key, &self.salt())?;
        let mut content = Zeroizing::new(serde_json::to_vec(keys)?);
        let tag = key.seal_in_place_separate_tag(nonce(), Aad::empty(), &mut content);
        let tag = tag.map_err(|_| anyhow!("cannot encrypt the keys"))?;
        let mut sealed = content.to_vec();
        sealed.extend(tag.as_ref());
        Ok(Sealed {
            public_key,
            content: BASE64.encode(sealed),
        })
    }

    /// Decrypts what was encrypted for this machine's half.
    pub fn open(&self, sealed: &Sealed, own: Half) -> Result<MasterKeys> {
        let key = own.agree(&sealed.public_key, self.token_key, &self.salt())?;
        let mut content = Zeroizing::new(BASE64.decode(&sealed.content)?);
        let opened = key.open_in_place(nonce(), Aad::empty(), &mut content);
        let opened = opened.map_err(|_| anyhow!("they are not encrypted for this machine"))?;
        // Drop the parser's error: its text may contain a key.
        serde_json::from_slice(opened).map_err(|_| anyhow!("they are not the keys of a master"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TOKEN_KEY: [u8; KEY_BYTES] = [7; KEY_BYTES];

    fn keys() -> MasterKeys {
        MasterKeys {
            authority: Zeroizing::new("one".to_owned()),
            etcd_authority: "etcd".to_owned(),
            etcd_key: Zeroizing::new("four".to_owned()),
            service_account: Zeroizing::new("two".to_owned()),
            verifying: None,
            tokens: Zeroizing::new("three".to_owned()),
            encryption: Zeroizing::new("five".to_owned()),
        }
    }

    #[test]
    fn only_the_machine_that_asked_and_knows_the_token_reads_the_keys() {
        let nonces = [Bytes32::random().unwrap(), Bytes32::random().unwrap()];
        let exchange = Exchange {
            worker_nonce: &nonces[0],
            master_nonce: &nonces[1],
            token_key: &TOKEN_KEY,
        };
        let own = Half::new().unwrap();
        let sealed = exchange.seal(&keys(), &own.public).unwrap();
        assert!(
            !BASE64
                .decode(&sealed.content)
                .unwrap()
                .windows(5)
                .any(|w| w == b"three")
        );
        assert_eq!(exchange.open(&sealed, own).unwrap(), keys());

        let own = Half::new().unwrap();
        let sealed = exchange.seal(&keys(), &own.public).unwrap();
        assert!(exchange.open(&sealed, Half::new().unwrap()).is_err());
        let stranger = Exchange {
            token_key: &[8; KEY_BYTES],
            ..exchange
        };
        assert!(stranger.open(&sealed, own).is_err());
    }

    #[test]
    fn debug_shows_no_key() {
        assert!(!format!("{:?}", keys()).contains("one"));
    }
}
