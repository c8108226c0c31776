//! SHA-256 digests in hexadecimal.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// A SHA-256 digest: 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
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
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        ensure!(
            text.len() == 64 && text.bytes().all(is_hex),
            "{text:?} is not a sha256 of 64 lower-case hexadecimal digits"
        );
        Ok(Sha256(text.to_owned()))
    }
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
