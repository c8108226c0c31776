//! Join tokens, and the keys that both sides derive from one. Pure.
//!
//! A token is `id.secret`. The worker has the whole token. The master stores only a verifier, in
//! the way of SCRAM (RFC 5802, 3): the verifier reveals no secret, and does not allow its reader to
//! join. SCRAM's slow salted hash is not needed: a secret has over 128 random bits.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, anyhow};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::language::tr;

/// Characters of a token's identifier; the same number as in Kubernetes' bootstrap tokens.
const ID_LENGTH: usize = 6;
/// Characters of a new token's secret: 165 bits.
const SECRET_LENGTH: usize = 32;
/// The minimum length of a secret from another source: 134 bits if it is random.
const LEAST_SECRET_LENGTH: usize = 26;
const MOST_SECRET_LENGTH: usize = 64;
/// The minimum number of different characters: a random secret has more.
const LEAST_DIFFERENT: usize = 10;
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// Bytes of a key, a nonce and a proof.
pub const KEY_BYTES: usize = 32;

/// 32 bytes that are sent as base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes32(pub [u8; KEY_BYTES]);

impl Bytes32 {
    /// New random bytes.
    pub fn random() -> Result<Bytes32> {
        let mut bytes = [0; KEY_BYTES];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| anyhow!(tr!("the system provides no random numbers")))?;
        Ok(Bytes32(bytes))
    }

    /// Whether both are equal, compared in constant time.
    pub fn is(&self, other: &Bytes32) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Bytes32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<32 bytes>")
    }
}

impl TryFrom<String> for Bytes32 {
    type Error = String;

    fn try_from(text: String) -> Result<Bytes32, String> {
        let bytes = BASE64.decode(text).ok();
        let bytes = bytes.and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok());
        bytes
            .map(Bytes32)
            .ok_or_else(|| tr!("expected 32 bytes in base64"))
    }
}

impl From<Bytes32> for String {
    fn from(bytes: Bytes32) -> String {
        BASE64.encode(bytes.0)
    }
}

/// The identifier of a token. It is not secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId(String);

impl TryFrom<String> for TokenId {
    type Error = String;

    fn try_from(text: String) -> Result<TokenId, String> {
        text.parse()
    }
}

impl From<TokenId> for String {
    fn from(id: TokenId) -> String {
        id.0
    }
}

impl FromStr for TokenId {
    type Err = String;

    fn from_str(text: &str) -> Result<TokenId, String> {
        if text.len() == ID_LENGTH && text.bytes().all(|byte| ALPHABET.contains(&byte)) {
            return Ok(TokenId(text.to_owned()));
        }
        Err(tr!(
            "the ID of a token has {ID_LENGTH} lower-case letters and digits",
            ID_LENGTH
        ))
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A join token. Its holder can join a VM to the cluster as a worker.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: TokenId,
    secret: Zeroizing<String>,
}

impl Token {
    /// Makes a new token.
    pub fn generate() -> Result<Token> {
        Ok(Token {
            id: TokenId(random_text(ID_LENGTH)?.to_string()),
            secret: random_text(SECRET_LENGTH)?,
        })
    }

    /// Its identifier.
    pub fn id(&self) -> &TokenId {
        &self.id
    }

    /// `id.secret`, for the user-data of workers.
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{}.{}", self.id, *self.secret))
    }

    /// The key with which its holder proves that it has the token.
    pub(crate) fn worker_key(&self) -> Zeroizing<[u8; KEY_BYTES]> {
        self.derive(b"worker")
    }

    /// The verifier, which the master stores.
    pub fn verifier(&self) -> Verifier {
        Verifier {
            stored_key: Bytes32(Sha256::digest(*self.worker_key()).into()),
            master_key: Bytes32(*self.derive(b"master")),
        }
    }

    /// Derives a key with HKDF (RFC 5869). The identifier is the salt.
    fn derive(&self, side: &'static [u8]) -> Zeroizing<[u8; KEY_BYTES]> {
        let salt = format!("appliance join v1 {}", self.id);
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        Salt::new(HKDF_SHA256, salt.as_bytes())
            .extract(self.secret.as_bytes())
            .expand(&[side], HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut *key))
            .expect("HKDF-SHA-256 returns 32 bytes in one step");
        key
    }
}

impl FromStr for Token {
    type Err = String;

    /// The error never contains the text, which is secret.
    fn from_str(text: &str) -> Result<Token, String> {
        let expected = tr!(
            "a join token has {ID_LENGTH} characters, a dot, and at least {LEAST_SECRET_LENGTH} \
             random characters, all of them lower-case letters and digits; make one with \
             `appliance token create --offline`",
            ID_LENGTH,
            LEAST_SECRET_LENGTH
        );
        let (id, secret) = text.split_once('.').ok_or_else(|| expected.clone())?;
        let id = id.parse().map_err(|_| expected.clone())?;
        let fits = (LEAST_SECRET_LENGTH..=MOST_SECRET_LENGTH).contains(&secret.len())
            && secret.bytes().all(|byte| ALPHABET.contains(&byte));
        if !fits {
            return Err(expected);
        }
        let mut different = secret.as_bytes().to_vec();
        different.sort_unstable();
        different.dedup();
        if different.len() < LEAST_DIFFERENT {
            return Err(tr!(
                "its secret is not random and could be guessed; make a token with `appliance token \
                 create --offline`"
            ));
        }
        Ok(Token {
            id,
            secret: Zeroizing::new(secret.to_owned()),
        })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.<secret>", self.id)
    }
}

/// Random characters of the alphabet, all with the same probability.
fn random_text(length: usize) -> Result<Zeroizing<String>> {
    // Skip bytes beyond the last whole multiple: their remainder would favour the first letters.
    const LIMIT: usize = 256 - 256 % ALPHABET.len();
    let mut text = Zeroizing::new(String::with_capacity(length));
    while text.len() < length {
        let bytes = Bytes32::random()?;
        let fit = bytes.0.iter().filter(|&&byte| usize::from(byte) < LIMIT);
        let letters = fit.map(|&byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
        let missing = length - text.len();
        text.extend(letters.take(missing));
    }
    Ok(text)
}

/// The part of a token that the master stores: enough to verify a worker's proof and to make its
/// own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Verifier {
    /// SHA-256 of the worker's key.
    pub(crate) stored_key: Bytes32,
    /// The key of the master's proofs.
    pub(crate) master_key: Bytes32,
}

/// The text with the secret of every join token in it replaced: a user may have written a token in a
/// wrong place, which an error then repeats.
pub fn redacted(text: &str) -> String {
    let is_inside = |byte: &u8| ALPHABET.contains(byte);
    let mut redacted = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dot) = rest.find('.') {
        let (before, after) = rest.split_at(dot + 1);
        redacted.push_str(before);
        let mut id = before.bytes().rev().skip(1);
        let has_id = id.by_ref().take(ID_LENGTH).filter(is_inside).count() == ID_LENGTH
            && id.next().is_none_or(|byte| !byte.is_ascii_alphanumeric());
        let length = after.bytes().take_while(is_inside).count();
        let ends = after[length..].bytes().next();
        let has_secret = (LEAST_SECRET_LENGTH..=MOST_SECRET_LENGTH).contains(&length)
            && ends.is_none_or(|byte| !byte.is_ascii_alphanumeric());
        rest = if has_id && has_secret {
            redacted.push_str("<secret>");
            &after[length..]
        } else {
            after
        };
    }
    redacted + rest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_new_token_is_read_back_and_no_two_are_alike() {
        let token = Token::generate().unwrap();
        assert_eq!(token.expose().parse::<Token>().unwrap(), token);
        assert_ne!(Token::generate().unwrap(), token);
    }

    #[test]
    fn a_weak_or_broken_token_is_refused_without_being_repeated() {
        let secret = "a1b2c3d4e5f6g7h8i9j0k1l2m3n4";
        for bad in [
            "".to_owned(),
            "abcdef".to_owned(),
            format!("abcde.{secret}"),
            format!("Abcdef.{secret}"),
            "abcdef.short".to_owned(),
            format!("abcdef.{}", "ab".repeat(16)),
            format!("abcdef.{secret}\n"),
            format!("abcdef.{secret}.{secret}"),
        ] {
            let error = bad.parse::<Token>().unwrap_err();
            assert!(!error.contains(secret), "{error}");
        }
        assert!(format!("abcdef.{secret}").parse::<Token>().is_ok());
    }

    #[test]
    fn what_the_master_keeps_does_not_hold_the_workers_key() {
        let token = Token::generate().unwrap();
        let kept = serde_json::to_string(&token.verifier()).unwrap();
        assert!(!kept.contains(&BASE64.encode(*token.worker_key())));
        assert!(!kept.contains(&*token.secret));
        assert_eq!(
            serde_json::from_str::<Verifier>(&kept).unwrap(),
            token.verifier()
        );
    }

    #[test]
    fn debug_shows_the_identifier_only() {
        let token: Token = "abcdef.a1b2c3d4e5f6g7h8i9j0k1l2m3n4".parse().unwrap();
        assert_eq!(format!("{token:?}"), "abcdef.<secret>");
        assert!(!format!("{:?}", token.verifier()).contains("="));
    }

    #[test]
    fn a_redacted_text_keeps_everything_but_secrets() {
        let secret = "0123456789abcdefghijklmnopqrstuv";
        let token = format!("abcdef.{secret}");
        for (text, expected) in [
            (token.clone(), "abcdef.<secret>".to_owned()),
            (
                format!("a `{token}`, {token}. ä{token}"),
                "a `abcdef.<secret>`, abcdef.<secret>. äabcdef.<secret>".to_owned(),
            ),
        ] {
            assert_eq!(redacted(&text), expected);
        }
        for other in [
            String::new(),
            ".".to_owned(),
            "server.example.org".to_owned(),
            format!("abcde.{secret}"),
            format!("gabcdef.{secret}"),
            format!("abcdef.{secret}A"),
            format!("abcdef.{}", &secret[..25]),
            format!("abcdef.{}a", secret.repeat(2)),
        ] {
            assert_eq!(redacted(&other), other);
        }
    }
}
