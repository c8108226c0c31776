//! What is kept of a join token. Pure.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::nodespec::token::Verifier;

/// What is known of one token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenRecord {
    /// What checks its bearer's proof.
    pub verifier: Verifier,
    /// Since when it is known.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires: Option<OffsetDateTime>,
    /// How many workers may join with it.
    pub uses: Option<u32>,
    /// How many have.
    pub used: u32,
    /// When an operator revoked it.
    #[serde(with = "time::serde::rfc3339::option")]
    pub revoked: Option<OffsetDateTime>,
    /// Who made it, in words.
    pub from: String,
}

/// How a token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It can be used.
    Live,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
    /// It was used as often as it may.
    UsedUp,
}

impl TokenRecord {
    /// How it stands at `now`.
    pub fn standing(&self, now: OffsetDateTime) -> Standing {
        if self.revoked.is_some() {
            Standing::Revoked
        } else if self.expires.is_some_and(|end| end <= now) {
            Standing::Expired
        } else if self.uses.is_some_and(|uses| self.used >= uses) {
            Standing::UsedUp
        } else {
            Standing::Live
        }
    }
}
