//! The record of a join token. Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::nodespec::token::Verifier;

/// How far the clock of the master that made a token may be ahead of another one's.
const AHEAD: Duration = Duration::days(1);

/// The record of one token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenRecord {
    /// The verifier of its holder's proof.
    pub verifier: Verifier,
    /// When it was added.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// When it expires.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires: Option<OffsetDateTime>,
    /// How many nodes may join with it.
    pub uses: Option<u32>,
    /// How many nodes have joined with it.
    pub used: u32,
    /// When an operator revoked it.
    #[serde(with = "time::serde::rfc3339::option")]
    pub revoked: Option<OffsetDateTime>,
    /// Its source, in words.
    pub from: String,
}

/// The state of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It is valid.
    Live,
    /// It has expired.
    Expired,
    /// It was revoked.
    Revoked,
    /// It was made at a time that is still to come: that clock was wrong, or this one is.
    Ahead,
    /// It was used as often as it may be.
    UsedUp,
}

impl TokenRecord {
    /// Its state at `now`.
    pub fn standing(&self, now: OffsetDateTime) -> Standing {
        if self.revoked.is_some() {
            Standing::Revoked
        } else if self.expires.is_some_and(|end| end <= now) {
            Standing::Expired
        } else if self.created - now > AHEAD {
            Standing::Ahead
        } else if self.uses.is_some_and(|uses| self.used >= uses) {
            Standing::UsedUp
        } else {
            Standing::Live
        }
    }
}
