//! The controllers `serviceaccount` and `serviceaccount-token`: every namespace has the
//! account `default`, and every account a token.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::client::Client;
use crate::flags::Flags;
use crate::names;
use crate::signing::SigningKey;

use super::api::{create, delete, each, list, put, text};

const KIND: &str = "kubernetes.io/service-account-token";
const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";

/// Gives every namespace the account `default`.
///
/// # Errors The first namespace that failed; the others are still processed.
pub fn defaults(api: &Client) -> Result<()> {
    let namespaces = list(api, "namespaces")?;
    let accounts = list(api, "serviceaccounts")?;
    each(&namespaces, |namespace| {
        let name = &namespace["metadata"]["name"];
        let is_there = accounts.iter().any(|account| {
            let metadata = &account["metadata"];
            metadata["namespace"] == *name && metadata["name"] == "default"
        });
        if is_there || namespace["status"]["phase"] == "Terminating" {
            return Ok(());
        }
        let account = json!({
            "kind": "ServiceAccount", "apiVersion": "v1",
            "metadata": {"name": "default", "namespace": name},
        });
        create(api, "serviceaccounts", &account).map(drop)
    })
}

/// Makes tokens.
pub struct Tokens {
    key: SigningKey,
    authority: Option<Vec<u8>>,
}

impl Tokens {
    /// From the flags; `None` without a key.
    ///
    /// # Errors A key that cannot be read or cannot sign.
    pub fn read(flags: &Flags) -> Result<Option<Self>> {
        let Some(path) = flags.text("service-account-private-key-file") else {
            return Ok(None);
        };
        let text = fs::read(path).with_context(|| path.to_owned())?;
        let key = SigningKey::from_pem(&text).with_context(|| path.to_owned())?;
        let authority = flags.text("root-ca-file").map(Path::new);
        let authority = authority
            .map(fs::read)
            .transpose()
            .context("--root-ca-file")?;
        Ok(Some(Self { key, authority }))
    }

    /// Gives every account a token, and removes tokens of accounts that no longer exist.
    ///
    /// # Errors The first account or token that failed; the others are still processed.
    pub fn look(&self, api: &Client) -> Result<()> {
        let secrets = list(api, "secrets")?;
        let tokens: Vec<&Value> = secrets.iter().filter(|one| one["type"] == KIND).collect();
        // An account exists before its token: a token without an account in the list is outdated.
        let accounts = list(api, "serviceaccounts")?;
        let made = each(&accounts, |account| self.give(api, account, &tokens));
        let filled = each(&accounts, |account| self.fill(api, account, &tokens));
        let removed = each(tokens, |token| {
            let own = &token["metadata"];
            let is_of = |account: &Value| {
                let account = &account["metadata"];
                match &own["annotations"][UID] {
                    Value::Null => {
                        account["name"] == own["annotations"][NAME]
                            && account["namespace"] == own["namespace"]
                    }
                    uid => account["uid"] == *uid,
                }
            };
            if accounts.iter().any(is_of) {
                return Ok(());
            }
            delete(api, token, false)
        });
        made.and(filled).and(removed)
    }

    fn give(&self, api: &Client, account: &Value, tokens: &[&Value]) -> Result<()> {
        let uid = &account["metadata"]["uid"];
        let own = tokens
            .iter()
            .filter(|token| token["metadata"]["annotations"][UID] == *uid);
        let own: Vec<&Value> = own.map(|token| &token["metadata"]["name"]).collect();
        let listed = account["secrets"].as_array().into_iter().flatten();
        if listed.into_iter().any(|one| own.contains(&&one["name"])) {
            return Ok(());
        }
        // Without a reference, it makes another one, whatever tokens there are.
        let secret = self.secret(account)?;
        let name = text(&create(api, "secrets", &secret)?["metadata"]["name"]);
        let mut account = account.clone();
        let mut secrets = account["secrets"].as_array().cloned().unwrap_or_default();
        secrets.push(json!({"name": name}));
        account["secrets"] = json!(secrets);
        put(api, &account, "")
    }

    /// Makes the tokens of an account that are missing in secrets which name it, and brings all of them the authority.
    fn fill(&self, api: &Client, account: &Value, tokens: &[&Value]) -> Result<()> {
        let metadata = &account["metadata"];
        let is_own = |token: &&Value| {
            let own = &token["metadata"];
            own["annotations"][NAME] == metadata["name"]
                && own["namespace"] == metadata["namespace"]
        };
        each(tokens.iter().copied().filter(is_own), |token| {
            let mut data = self.data(account, &text(&token["metadata"]["name"]))?;
            let known = &token["data"]["token"];
            if known.as_str().is_some_and(|known| !known.is_empty()) {
                data["token"] = known.clone();
            }
            if token["data"]["token"] == data["token"] && token["data"]["ca.crt"] == data["ca.crt"]
            {
                return Ok(());
            }
            let mut filled = token.clone();
            filled["data"] = data;
            filled["metadata"]["annotations"][UID] = metadata["uid"].clone();
            put(api, &filled, "")
        })
    }

    fn secret(&self, account: &Value) -> Result<Value> {
        let metadata = &account["metadata"];
        let name = format!("{}-token-{}", text(&metadata["name"]), names::random_end());
        Ok(json!({
            "kind": "Secret", "apiVersion": "v1", "type": KIND, "data": self.data(account, &name)?,
            "metadata": {
                "name": name, "namespace": metadata["namespace"],
                "annotations": {NAME: metadata["name"], UID: metadata["uid"]},
            },
        }))
    }

    /// What a secret of that name has, with a new token.
    fn data(&self, account: &Value, name: &str) -> Result<Value> {
        let metadata = &account["metadata"];
        let (namespace, account) = (text(&metadata["namespace"]), text(&metadata["name"]));
        let token = self.key.token(&json!({
            "iss": "kubernetes/serviceaccount",
            "kubernetes.io/serviceaccount/namespace": namespace,
            "kubernetes.io/serviceaccount/secret.name": name,
            "kubernetes.io/serviceaccount/service-account.name": account,
            "kubernetes.io/serviceaccount/service-account.uid": metadata["uid"],
            "sub": format!("system:serviceaccount:{namespace}:{account}"),
        }))?;
        let mut data = json!({
            "namespace": STANDARD.encode(&namespace), "token": STANDARD.encode(token),
        });
        if let Some(authority) = &self.authority {
            data["ca.crt"] = json!(STANDARD.encode(authority));
        }
        Ok(data)
    }
}
