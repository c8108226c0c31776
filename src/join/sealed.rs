//! How the keys that all masters share come to a new one: sealed for it alone, so that the process
//! on the network, which passes them on, cannot read them. Pure, but for randomness.
//!
//! The key is made of an agreement of two keys that live as long as the exchange (X25519, RFC 7748)
//! and of the token's own key, which nobody has who was not told the token: to open it, one would
//! have to have both.

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

/// What the derived key is for.
const PURPOSE: &[u8] = b"appliance join v1 keys of masters";

/// The keys that all masters of a cluster have.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MasterKeys {
    /// The authority's private key, in PEM.
    pub authority: Zeroizing<String>,
    /// The service accounts' private key, in PEM.
    pub service_account: Zeroizing<String>,
    /// The tokens kube-apiserver knows, as in `token.csv`.
    pub tokens: Zeroizing<String>,
}

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// Keys of masters that only one machine can read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sealed {
    /// The sealing side's public key of this exchange (X25519).
    pub public_key: Bytes32,
    /// [`MasterKeys`] as JSON under AES-256-GCM, in base64.
    pub content: String,
}

/// The half of an agreement that is one side's secret.
pub struct Half {
    private: EphemeralPrivateKey,
    /// The half the other side is told.
    pub public: Bytes32,
}

impl Half {
    /// A new one.
    pub fn new() -> Result<Half> {
        let broken = || anyhow!("no key could be made");
        let private = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new());
        let private = private.map_err(|_| broken())?;
        let public = private.compute_public_key().map_err(|_| broken())?;
        let public = <[u8; KEY_BYTES]>::try_from(public.as_ref()).map_err(|_| broken())?;
        Ok(Half {
            private,
            public: Bytes32(public),
        })
    }

    /// The key both sides make of their halves and the token's key.
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
            .context("the other side's key is none")?;
        let key = UnboundKey::new(&AES_256_GCM, &*key);
        Ok(LessSafeKey::new(key.map_err(|_| anyhow!("no cipher"))?))
    }
}

/// The key serves for one message.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// What both sides have of an exchange when keys are passed on in it.
pub struct Exchange<'a> {
    /// The joining side's nonce.
    pub worker_nonce: &'a Bytes32,
    /// The other side's.
    pub master_nonce: &'a Bytes32,
    /// The token's key, which only who knows the token has.
    pub token_key: &'a [u8; KEY_BYTES],
}

impl Exchange<'_> {
    /// What both sides have seen of it.
    fn salt(&self) -> [u8; KEY_BYTES] {
        let mut hash = Sha256::new();
        hash.update(self.worker_nonce.0);
        hash.update(self.master_nonce.0);
        hash.finalize().into()
    }

    /// Seals `keys` for the machine whose half is `theirs`.
    pub fn seal(&self, keys: &MasterKeys, theirs: &Bytes32) -> Result<Sealed> {
        let half = Half::new()?;
        let public_key = half.public;
        let key = half.agree(theirs, self.token_key, &self.salt())?;
        let mut content = Zeroizing::new(serde_json::to_vec(keys)?);
        let tag = key.seal_in_place_separate_tag(nonce(), Aad::empty(), &mut content);
        let tag = tag.map_err(|_| anyhow!("the keys could not be sealed"))?;
        let mut sealed = content.to_vec();
        sealed.extend(tag.as_ref());
        Ok(Sealed {
            public_key,
            content: BASE64.encode(sealed),
        })
    }

    /// Opens what was sealed for this machine's half.
    pub fn open(&self, sealed: &Sealed, own: Half) -> Result<MasterKeys> {
        let key = own.agree(&sealed.public_key, self.token_key, &self.salt())?;
        let mut content = Zeroizing::new(BASE64.decode(&sealed.content)?);
        let opened = key.open_in_place(nonce(), Aad::empty(), &mut content);
        let opened = opened.map_err(|_| anyhow!("they were not sealed for this machine"))?;
        // What the parser would complain of may be a key.
        serde_json::from_slice(opened).map_err(|_| anyhow!("they are none of a master"))
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
            service_account: Zeroizing::new("two".to_owned()),
            tokens: Zeroizing::new("three".to_owned()),
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
