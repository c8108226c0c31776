//! The tokens a master takes. A token that has ended stays known: user-data that still names it
//! must not bring it back.

use std::path::Path;

use anyhow::Result;
use time::OffsetDateTime;

use super::message::{Reason, Refusal};
use super::shared::{Etcd, Unreachable};
use super::store::{self, Record, Records};
use crate::nodespec::token::TokenId;
use crate::records::tokens::{Standing, TokenRecord};

const KIND: &str = "tokens";

/// Whether it can be used at `now`; else what its bearer is told. A worker that joined with it
/// before may come again when it is used up: its answer may have been lost.
fn check(
    record: &TokenRecord,
    id: &TokenId,
    now: OffsetDateTime,
    again: bool,
) -> Result<(), Refusal> {
    const NEXT: &str = "make another on the master with `appliance token create`";
    let (reason, what) = match record.standing(now) {
        Standing::Live => return Ok(()),
        Standing::UsedUp if again => return Ok(()),
        Standing::Expired => (Reason::ExpiredToken, "has expired"),
        Standing::Revoked => (Reason::RevokedToken, "was revoked"),
        Standing::UsedUp => (Reason::UsedUpToken, "was used as often as it may be"),
    };
    Err(Refusal::new(reason, format!("token {id} {what}; {NEXT}")))
}

impl Record for TokenRecord {
    const STAYS: bool = true;

    /// No use is forgotten and no revocation taken back, whoever put an old record there again.
    fn joined(&self, own: &TokenRecord, first: bool) -> TokenRecord {
        TokenRecord {
            used: match first {
                true => self.used.saturating_add(own.used),
                false => self.used.max(own.used),
            },
            revoked: self.revoked.or(own.revoked),
            ..self.clone()
        }
    }
}

/// Tokens by their names.
pub type All = store::All<TokenId, TokenRecord>;

/// The tokens of a master, or of all masters.
#[derive(Clone, Debug)]
pub struct Tokens(Records<TokenId, TokenRecord>);

impl Tokens {
    /// Those in the directory `dir`: of a single master, or what this one knows by itself.
    pub fn new(dir: &Path) -> Tokens {
        Tokens(Records::new(dir, KIND, None))
    }

    /// Those that masters share in `etcd`, and `dir` for what this one knows by itself.
    pub fn shared(dir: &Path, etcd: Etcd) -> Tokens {
        Tokens(Records::new(dir, KIND, Some(etcd)))
    }

    /// All that were ever known.
    pub fn all(&self) -> Result<All> {
        self.0.read()
    }

    /// Those that this machine knows by itself and that can be used at `now`.
    pub fn live(&self, now: OffsetDateTime) -> Result<Vec<TokenId>> {
        let known = self.0.known()?.into_iter();
        let live = known.filter(|(_, token)| token.standing(now) == Standing::Live);
        Ok(live.map(|(id, _)| id).collect())
    }

    /// Whether there is one of these.
    pub fn any_live(&self, now: OffsetDateTime) -> Result<bool> {
        Ok(!self.live(now)?.is_empty())
    }

    /// Adds one, unless it is known already. Tells whether it was new. Where the other masters
    /// cannot be told now, they are told later.
    pub fn add(&self, id: &TokenId, record: &TokenRecord) -> Result<bool> {
        let add = |found: &mut Option<TokenRecord>| {
            let is_new = found.is_none();
            found.get_or_insert_with(|| record.clone());
            Ok(is_new)
        };
        match self.0.change(id, add) {
            Err(error) if error.is::<Unreachable>() => {
                log::warn!(
                    "{error:#}; this master keeps the token {id} and tells the others later"
                );
                self.0.change_here(id, add)?
            }
            outcome => outcome?,
        }
    }

    /// Makes one useless. Tells whether there was one.
    pub fn revoke(&self, id: &TokenId, now: OffsetDateTime) -> Result<bool> {
        self.0.change(id, |found| {
            let token = found.as_mut();
            Ok(token.map(|t| t.revoked.get_or_insert(now)).is_some())
        })?
    }

    /// The one a worker speaks of, if it can be used.
    pub fn usable(
        &self,
        id: &TokenId,
        now: OffsetDateTime,
    ) -> Result<Result<TokenRecord, Refusal>> {
        let mut all = match self.all() {
            Err(error) if error.is::<Unreachable>() => return Ok(Err(unreachable(&error))),
            all => all?,
        };
        let token = all.remove(id);
        Ok(token.ok_or_else(|| unknown(id)).and_then(|token| {
            // Whether it may be used again is seen when it is.
            check(&token, id, now, true)?;
            Ok(token)
        }))
    }

    /// Counts one worker more, if one more may join; `again` is one that joined before, which is
    /// not counted.
    pub fn spend(
        &self,
        id: &TokenId,
        now: OffsetDateTime,
        again: bool,
    ) -> Result<Result<(), Refusal>> {
        self.0.change(id, |found| {
            let token = found.as_mut().ok_or_else(|| unknown(id))?;
            check(token, id, now, again)?;
            token.used += u32::from(!again);
            Ok(())
        })
    }
}

fn unreachable(error: &anyhow::Error) -> Refusal {
    log::warn!("{error:#}");
    let why = "etcd, where the masters keep their tokens, does not answer this one; try again";
    Refusal::new(Reason::Unavailable, why)
}

fn unknown(id: &TokenId) -> Refusal {
    Refusal::new(
        Reason::UnknownToken,
        format!(
            "token {id} is not known here; `appliance token list` on the master shows those that \
             are"
        ),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::nodespec::token::Token;
    use time::Duration;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn record(token: &Token) -> TokenRecord {
        TokenRecord {
            verifier: token.verifier(),
            created: NOW,
            expires: Some(NOW + Duration::hours(1)),
            uses: Some(2),
            used: 0,
            revoked: None,
            from: "a test".to_owned(),
        }
    }

    struct Bed {
        _dir: tempfile::TempDir,
        tokens: Tokens,
        token: Token,
    }

    fn bed() -> Bed {
        let dir = tempfile::tempdir().unwrap();
        let (tokens, token) = (Tokens::new(dir.path()), Token::generate().unwrap());
        assert!(tokens.add(token.id(), &record(&token)).unwrap());
        Bed {
            _dir: dir,
            tokens,
            token,
        }
    }

    fn reason(outcome: Result<Result<(), Refusal>>) -> Reason {
        outcome.unwrap().unwrap_err().reason
    }

    #[test]
    fn a_token_serves_as_often_as_it_may_and_not_longer() {
        let bed = bed();
        let (tokens, id) = (&bed.tokens, bed.token.id());
        tokens.spend(id, NOW, false).unwrap().unwrap();
        tokens.spend(id, NOW, false).unwrap().unwrap();
        assert_eq!(reason(tokens.spend(id, NOW, false)), Reason::UsedUpToken);
        tokens.spend(id, NOW, true).unwrap().unwrap();
        let later = NOW + Duration::hours(1);
        assert_eq!(reason(tokens.spend(id, later, true)), Reason::ExpiredToken);
        assert!(!tokens.any_live(NOW).unwrap());
    }

    #[test]
    fn a_revoked_token_does_not_come_back() {
        let bed = bed();
        let (tokens, id) = (&bed.tokens, bed.token.id());
        assert!(tokens.revoke(id, NOW).unwrap());
        assert!(!tokens.add(id, &record(&bed.token)).unwrap());
        assert_eq!(reason(tokens.spend(id, NOW, false)), Reason::RevokedToken);
        assert!(!tokens.revoke(Token::generate().unwrap().id(), NOW).unwrap());
    }

    #[test]
    fn the_file_is_roots_alone_and_holds_no_secret() {
        use std::os::unix::fs::PermissionsExt;
        let bed = bed();
        let path = bed._dir.path().join("tokens.json");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = std::fs::read_to_string(path).unwrap();
        let token = bed.token.expose();
        assert!(!text.contains(token.split_once('.').unwrap().1));
    }
}
