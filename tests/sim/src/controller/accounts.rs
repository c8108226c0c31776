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
        let removed = each(tokens, |token| {
            let uid = &token["metadata"]["annotations"][UID];
            if accounts
                .iter()
                .any(|account| account["metadata"]["uid"] == *uid)
            {
                return Ok(());
            }
            delete(api, token, false)
        });
        made.and(removed)
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
        let name = match own.first() {
            Some(name) => text(name),
            None => {
                let secret = self.secret(account)?;
                text(&create(api, "secrets", &secret)?["metadata"]["name"])
            }
        };
        let mut account = account.clone();
        let mut secrets = account["secrets"].as_array().cloned().unwrap_or_default();
        secrets.push(json!({"name": name}));
        account["secrets"] = json!(secrets);
        put(api, &account, "")
    }

    fn secret(&self, account: &Value) -> Result<Value> {
        let metadata = &account["metadata"];
        let (namespace, account) = (text(&metadata["namespace"]), text(&metadata["name"]));
        let name = format!("{account}-token-{}", names::random_end());
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
        Ok(json!({
            "kind": "Secret", "apiVersion": "v1", "type": KIND, "data": data,
            "metadata": {
                "name": name, "namespace": namespace,
                "annotations": {NAME: account, UID: metadata["uid"]},
            },
        }))
    }
}
