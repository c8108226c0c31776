//! Authentication: client certificates and bearer tokens.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::etcd::Store;
use crate::keys::VerifyingKey;
use crate::server::Request;
use crate::user::User;

use super::tokens;

/// Finds the user of a request.
pub struct Authenticator {
    tokens: HashMap<String, User>,
    keys: Vec<VerifyingKey>,
    anonymous: bool,
}

impl Authenticator {
    /// Reads the token file, if there is one; `keys` are those of service accounts.
    ///
    /// # Errors
    /// A line without the columns token, user and uid. Tokens are never quoted.
    pub fn new(
        token_file: Option<&Path>,
        keys: Vec<VerifyingKey>,
        anonymous: bool,
    ) -> Result<Self> {
        let mut tokens = HashMap::new();
        if let Some(path) = token_file {
            let text = fs::read_to_string(path).context("--token-auth-file")?;
            tokens = parse_tokens(&text)
                .with_context(|| format!("--token-auth-file: {}", path.display()))?;
        }
        Ok(Self {
            tokens,
            keys,
            anonymous,
        })
    }

    /// The user of a request; `None` for an answer with 401.
    ///
    /// # Errors etcd does not answer.
    pub fn user(&self, store: &Store, request: &Request) -> Result<Option<User>> {
        if let Some(certificate) = &request.certificate {
            return Ok(User::of_certificate(certificate));
        }
        match &request.bearer {
            Some(token) => self.token_user(store, token),
            None => Ok(self.anonymous.then(User::anonymous)),
        }
    }

    /// The user of this bearer token.
    ///
    /// # Errors etcd does not answer.
    pub fn token_user(&self, store: &Store, token: &str) -> Result<Option<User>> {
        match self.tokens.get(token) {
            Some(user) => Ok(Some(user.clone())),
            None => tokens::user(&self.keys, store, token),
        }
    }
}

fn parse_tokens(text: &str) -> Result<HashMap<String, User>> {
    let mut tokens = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let fields = fields(line);
        let [token, name, _uid, rest @ ..] = &fields[..] else {
            bail!(
                "line {}: token file must have at least 3 columns (token, user name, user uid), found {}",
                number + 1,
                fields.len()
            );
        };
        if token.is_empty() {
            bail!("line {}: the token is empty", number + 1);
        }
        let groups = rest.first().map(|groups| {
            let names = groups.split(',').map(str::trim).filter(|g| !g.is_empty());
            names.map(str::to_owned).collect()
        });
        let user = User::authenticated(name.clone(), groups.unwrap_or_default());
        tokens.insert(token.clone(), user);
    }
    Ok(tokens)
}

/// The fields of a line of CSV; a quoted field may hold commas.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => {
                if let Some(field) = fields.last_mut() {
                    field.push(other);
                }
            }
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn reads_the_groups_of_a_token_in_quotes() {
        let tokens = parse_tokens("abc,kubelet-bootstrap,10001,\"a,system:masters\"\n").unwrap();
        let user = &tokens["abc"];
        assert_eq!(user.name, "kubelet-bootstrap");
        assert!(user.is_in("system:masters") && user.is_in("a"));
        assert!(user.is_in("system:authenticated"));
    }

    #[test]
    fn a_broken_line_is_refused_without_telling_the_token() {
        let error = parse_tokens("\nsecret,user\n").unwrap_err().to_string();
        assert!(
            error.contains("line 2") && error.contains("found 2"),
            "{error}"
        );
        assert!(!error.contains("secret"), "{error}");
    }
}
