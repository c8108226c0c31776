//! The tokens of service accounts in the API.
//!
//! The API server refuses a token as soon as its secret has another one, or is gone (`--service-account-lookup`).
//! Therefore an old token stays in its secret until no pod has it: the service account only no longer refers to the
//! secret, and the controller manager makes another one for new pods.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, anyhow};
use serde_json::Value;

use super::Tokens;
use crate::clients::accounts::{Account, Token};
use crate::clients::api::Api;
use crate::clients::kubectl;
use crate::install::Machine;
use crate::language::tr;
use crate::pki::account::signed;
use crate::rotate::pods;
use crate::sys::process::Runner;
use crate::sys::retry::transient;
use crate::sys::waiting::awaited;

/// How long the controller manager may take to make all tokens.
const PATIENCE: Duration = Duration::from_secs(300);
/// The longest pause between two looks at them.
const PAUSE: Duration = Duration::from_secs(5);
/// How many letters and digits end a name that the controller manager makes.
const ENDING: usize = 5;

/// The tokens as the API server of a master has them.
pub struct Seen<'a> {
    api: Api,
    runner: &'a dyn Runner,
}

impl<'a> Seen<'a> {
    /// Those of the cluster of `machine`.
    pub fn new(machine: &'a Machine) -> Result<Seen<'a>> {
        Ok(Seen::at(Api::here(&machine.root)?, machine.runner))
    }

    /// Those of the API server `api`. `runner` runs kubectl, which lists pods.
    pub fn at(api: Api, runner: &'a dyn Runner) -> Seen<'a> {
        Seen { api, runner }
    }

    /// The old tokens.
    fn old(&self, public: &[u8]) -> Result<Vec<Token>> {
        let tokens = self.api.tokens()?.into_iter();
        let is_old = |token: &Token| !token.text.is_empty() && !signed(&token.text, public);
        Ok(tokens.filter(is_old).collect())
    }

    fn pods_now(&self) -> Result<Value> {
        kubectl::get(self.runner, &["pods", "--all-namespaces"])
    }
}

impl Tokens for Seen<'_> {
    fn renew(&self, public: &[u8]) -> Result<()> {
        awaited("new tokens of service accounts", PATIENCE, PAUSE, || {
            let tokens = self.api.tokens().map_err(transient)?;
            let accounts = self.api.accounts().map_err(transient)?;
            let mut lacking = Vec::new();
            for account in &accounts {
                let (old, has_new) = of(account, &tokens, public);
                if !old.is_empty() {
                    self.api.unreference(account, &old).map_err(transient)?;
                }
                if !has_new {
                    lacking.push(format!("{}/{}", account.namespace, account.name));
                }
            }
            match lacking.first() {
                None => Ok(()),
                Some(first) => Err(transient(anyhow!(tr!(
                    "the controller manager has not made new tokens for {} service accounts, for example {first}; see \
                     `journalctl -u kube-controller-manager`",
                    lacking.len(),
                    first
                )))),
            }
        })
    }

    fn pods(&self, public: &[u8]) -> Result<Vec<String>> {
        let mut old = self.old(public)?;
        old.retain(is_generated);
        Ok(holders(&self.pods_now()?, &names(&old)))
    }

    fn renew_others(&self, public: &[u8]) -> Result<Vec<String>> {
        let mut others = self.old(public)?;
        others.retain(|token| !is_generated(token));
        let all = names(&others);
        if all.is_empty() {
            return Ok(vec![]);
        }
        awaited("new tokens in secrets", PATIENCE, PAUSE, || {
            for token in self.old(public).map_err(transient)? {
                if !is_generated(&token) {
                    self.api.empty(&token).map_err(transient)?;
                }
            }
            let tokens = self.api.tokens().map_err(transient)?;
            let lacks = |token: &&Token| all.contains(&full(token)) && !signed(&token.text, public);
            match tokens.iter().find(lacks) {
                None => Ok(()),
                Some(token) => Err(transient(anyhow!(tr!(
                    "the controller manager has not made a new token in the secret {}; see \
                     `journalctl -u kube-controller-manager`",
                    full(token)
                )))),
            }
        })?;
        Ok(all.into_iter().collect())
    }

    fn remove_old(&self, public: &[u8]) -> Result<usize> {
        let mut old = self.old(public)?;
        old.retain(is_generated);
        let pods = self.pods_now()?;
        let mut removed = 0;
        for token in old {
            if holders(&pods, &[full(&token)].into()).is_empty() {
                self.api.delete_token(&token)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// The old tokens to which `account` refers, and whether it refers to a new one.
fn of<'a>(account: &Account, tokens: &'a [Token], public: &[u8]) -> (Vec<&'a str>, bool) {
    let own = tokens.iter().filter(|token| {
        token.namespace == account.namespace
            && token.account == account.name
            && account.secrets.contains(&token.name)
            // The controller manager is just making it.
            && !token.text.is_empty()
    });
    let (new, old): (Vec<&Token>, Vec<&Token>) = own.partition(|token| signed(&token.text, public));
    let old = old.into_iter().map(|token| token.name.as_str());
    (old.collect(), !new.is_empty())
}

/// Whether the controller manager made the secret, by its name: a user's own stays.
fn is_generated(token: &Token) -> bool {
    let ending = token
        .name
        .strip_prefix(&format!("{}-token-", token.account));
    ending.is_some_and(|ending| {
        ending.len() == ENDING && ending.chars().all(|c| c.is_ascii_alphanumeric())
    })
}

fn full(token: &Token) -> String {
    format!("{}/{}", token.namespace, token.name)
}

fn names(tokens: &[Token]) -> BTreeSet<String> {
    tokens.iter().map(full).collect()
}

/// The pods in `list`, as `NAMESPACE/NAME`, that have a volume of one of the `secrets`. Pods that have ended need none.
pub fn holders(list: &Value, secrets: &BTreeSet<String>) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of_volume = |volume: &Value| {
        let sources = volume["projected"]["sources"].as_array();
        let projected = sources.into_iter().flatten();
        let mut names: Vec<String> = projected
            .map(|source| text(&source["secret"]["name"]))
            .collect();
        names.push(text(&volume["secret"]["secretName"]));
        names
    };
    pods::running(list, |pod| {
        let namespace = text(&pod["metadata"]["namespace"]);
        let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
        volumes
            .flat_map(of_volume)
            .any(|name| secrets.contains(&format!("{namespace}/{name}")))
    })
}
