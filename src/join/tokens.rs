//! The tokens that a master accepts. Records of expired tokens stay: user-data that still contains
//! such a token must not make it valid again.

use std::path::Path;

use anyhow::Result;
use time::OffsetDateTime;

use super::message::{Reason, Refusal};
use super::shared::{Etcd, Unreachable};
use super::store::{self, Record, Records};
use crate::formats;
use crate::nodespec::token::TokenId;
use crate::records::tokens::{Standing, TokenRecord};
use crate::sys::clock::{CORRECT, moment};

/// Checks whether it is valid at `now`, or returns the refusal. A worker that joined with it
/// before (`again`) may use it even when it is used up: the answer may have been lost.
fn check(
    record: &TokenRecord,
    id: &TokenId,
    now: OffsetDateTime,
    again: bool,
) -> Result<(), Refusal> {
    const NEXT: &str = "make another on a master with `appliance token create`";
    let (reason, what) = match record.standing(now) {
        Standing::Live => return Ok(()),
        Standing::UsedUp if again => return Ok(()),
        Standing::Expired => (Reason::ExpiredToken, "has expired"),
        Standing::Revoked => (Reason::RevokedToken, "was revoked"),
        Standing::Ahead => {
            let why = format!(
                "token {id} was made on {}, and this master's clock says {}; {CORRECT}; if it was wrong when the \
                 token was made, {NEXT}",
                moment(record.created),
                moment(now)
            );
            return Err(Refusal::new(Reason::Unavailable, why));
        }
        Standing::UsedUp => (Reason::UsedUpToken, "was used as often as it may be"),
    };
    Err(Refusal::new(reason, format!("token {id} {what}; {NEXT}")))
}

impl Record for TokenRecord {
    const STAYS: bool = true;

    /// Keeps every use and every revocation, even if someone restored an old record.
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

/// Tokens by ID.
pub type All = store::All<TokenId, TokenRecord>;

/// The tokens of a master, or of all masters.
#[derive(Clone, Debug)]
pub struct Tokens(Records<TokenId, TokenRecord>);

impl Tokens {
    /// The tokens in the directory `dir`: of a single master, or the records of this master alone.
    pub fn new(dir: &Path) -> Tokens {
        Tokens(Records::new(dir, &formats::TOKENS, None))
    }

    /// The tokens that masters share in `etcd`, with `dir` for the records of this master.
    pub fn shared(dir: &Path, etcd: Etcd) -> Tokens {
        Tokens(Records::new(dir, &formats::TOKENS, Some(etcd)))
    }

    /// Takes the records out of etcd into the file of this machine, which is the only master from now on.
    pub fn take_home(&self) -> Result<()> {
        self.0.take_home()
    }

    /// All tokens that were ever added.
    pub fn all(&self) -> Result<All> {
        self.0.read()
    }

    /// The tokens in the file of this machine that are valid at `now`, or when its clock is right.
    pub fn live(&self, now: OffsetDateTime) -> Result<Vec<TokenId>> {
        let known = self.0.known()?.into_iter();
        // While the clock of this master is wrong, a token may be from a time that is still to come.
        let may_serve =
            |token: &TokenRecord| matches!(token.standing(now), Standing::Live | Standing::Ahead);
        let live = known.filter(|(_, token)| may_serve(token));
        Ok(live.map(|(id, _)| id).collect())
    }

    /// Whether there is a valid token.
    pub fn any_live(&self, now: OffsetDateTime) -> Result<bool> {
        Ok(!self.live(now)?.is_empty())
    }

    /// Adds a token if it is new. Returns whether it was. If etcd is not available, the other
    /// masters get the token later.
    pub fn add(&self, id: &TokenId, record: &TokenRecord) -> Result<bool> {
        let add = |found: &mut Option<TokenRecord>| {
            let is_new = found.is_none();
            found.get_or_insert_with(|| record.clone());
            Ok(is_new)
        };
        match self.0.change(id, add) {
            Err(error) if error.is::<Unreachable>() => {
                log::warn!(
                    "{error:#}; this master stores token {id} and shares it with the other \
                     masters when etcd answers again"
                );
                self.0.change_here(id, add)?
            }
            outcome => outcome?,
        }
    }

    /// Revokes a token. Returns whether there was one.
    pub fn revoke(&self, id: &TokenId, now: OffsetDateTime) -> Result<bool> {
        self.0.change(id, |found| {
            let token = found.as_mut();
            Ok(token.map(|t| t.revoked.get_or_insert(now)).is_some())
        })?
    }

    /// The token with this ID, if it is valid.
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
            // Accept a token that is used up here: the number of uses is checked when it is spent.
            check(&token, id, now, true)?;
            Ok(token)
        }))
    }

    /// Counts one more use, if one more node may join. A node that joined before (`again`) is not
    /// counted.
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
    let why = "etcd does not answer this master, so it cannot check the token; try again, or \
    run `appliance status` on a master to see which members are down";
    Refusal::new(Reason::Unavailable, why)
}

fn unknown(id: &TokenId) -> Refusal {
    Refusal::new(
        Reason::UnknownToken,
        format!(
            "token {id} is not known here; `appliance token list` on a master shows the known \
             tokens, and `appliance token create` makes a new one"
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
    fn a_token_that_a_clock_made_that_was_ahead_serves_only_when_its_time_has_come() {
        let bed = bed();
        let (tokens, id) = (&bed.tokens, bed.token.id());
        let early = NOW - Duration::days(3650);
        let refusal = tokens.spend(id, early, false).unwrap().unwrap_err();
        assert_eq!(refusal.reason, Reason::Unavailable);
        assert!(refusal.error.contains("1970-01-01"), "{}", refusal.error);
        // The service waits: the clock of this master may be the wrong one.
        assert!(tokens.any_live(early).unwrap());
        tokens.spend(id, NOW, false).unwrap().unwrap();
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
