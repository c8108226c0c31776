//! SHA-256 and SHA-512 digests in hexadecimal.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::language::tr;

/// A SHA-256 digest: 64 lower-case hexadecimal digits.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256(String);

impl Sha256 {
    /// Its 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The digest in the form of image manifests: `sha256:` and its digits.
    pub fn from_prefixed(text: &str) -> Result<Sha256> {
        text.strip_prefix("sha256:").unwrap_or_default().parse()
    }

    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Sha256 {
        Sha256::from(
            sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix(bytes))
                .as_slice(),
        )
    }
}

impl From<&[u8]> for Sha256 {
    fn from(bytes: &[u8]) -> Sha256 {
        Sha256(hex::encode(bytes))
    }
}

impl FromStr for Sha256 {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Sha256> {
        check(text, "sha256", 64)?;
        Ok(Sha256(text.to_owned()))
    }
}

fn check(text: &str, algorithm: &str, digits: usize) -> Result<()> {
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    ensure!(
        text.len() == digits && text.bytes().all(is_hex),
        tr!(
            "{text} is not a {algorithm} of {digits} lower-case hexadecimal digits",
            text = format_args!("{text:?}"),
            algorithm,
            digits
        )
    );
    Ok(())
}

impl TryFrom<String> for Sha256 {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Sha256> {
        text.parse()
    }
}

impl From<Sha256> for String {
    fn from(digest: Sha256) -> String {
        digest.0
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A SHA-512 digest: 128 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha512(String);

impl From<&[u8]> for Sha512 {
    fn from(bytes: &[u8]) -> Sha512 {
        Sha512(hex::encode(bytes))
    }
}

impl TryFrom<String> for Sha512 {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Sha512> {
        check(&text, "sha512", 128)?;
        Ok(Sha512(text))
    }
}

impl From<Sha512> for String {
    fn from(digest: Sha512) -> String {
        digest.0
    }
}

/// A digest of one of the algorithms with which projects publish checksums. Its text is the algorithm, a
/// colon and the digits, such as `sha512:0d1d…`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub enum Digest {
    /// The usual algorithm.
    Sha256(Sha256),
    /// The algorithm of Kubernetes since v1.9.11.
    Sha512(Sha512),
}

impl Digest {
    /// The algorithm's name, as in the names of its files: `sha256` or `sha512`.
    pub fn algorithm(&self) -> &'static str {
        match self {
            Digest::Sha256(_) => "sha256",
            Digest::Sha512(_) => "sha512",
        }
    }

    /// Its digits.
    pub fn digits(&self) -> &str {
        match self {
            Digest::Sha256(Sha256(digits)) | Digest::Sha512(Sha512(digits)) => digits,
        }
    }

    /// The digest of that algorithm.
    pub fn of(algorithm: &str, digits: &str) -> Result<Digest> {
        match algorithm {
            "sha256" => Ok(Digest::Sha256(digits.parse()?)),
            "sha512" => Ok(Digest::Sha512(digits.to_owned().try_into()?)),
            _ => bail!("{algorithm:?} is neither sha256 nor sha512"),
        }
    }
}

impl From<&Sha256> for Digest {
    fn from(digest: &Sha256) -> Digest {
        Digest::Sha256(digest.clone())
    }
}

impl From<&Digest> for Digest {
    fn from(digest: &Digest) -> Digest {
        digest.clone()
    }
}

impl TryFrom<String> for Digest {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Digest> {
        let (algorithm, digits) = text
            .split_once(':')
            .with_context(|| format!("{text:?}: expected ALGORITHM:DIGITS"))?;
        Digest::of(algorithm, digits)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.algorithm(), self.digits())
    }
}
