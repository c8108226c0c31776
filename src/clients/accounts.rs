//! Service accounts and their tokens in the API of this master. Tokens pass through no other program.

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::api::{Api, TRIES, sent};
use crate::sys::http;

/// A secret with a token of a service account.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its identifier.
    pub uid: String,
    /// The name of the service account.
    pub account: String,
    /// The JSON web token; empty until the controller manager has made it.
    pub text: Zeroizing<String>,
}

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The names of the secrets that it refers to. New pods get the first one that has a token.
    pub secrets: Vec<String>,
}

#[derive(Deserialize)]
struct List<T> {
    items: Vec<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    namespace: String,
    name: String,
    #[serde(default)]
    uid: String,
    annotations: Option<Annotations>,
    deletion_timestamp: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "kubernetes.io/service-account.name")]
    account: String,
}

#[derive(Deserialize)]
struct Secret {
    metadata: Metadata,
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Data {
    token: Zeroizing<String>,
    /// The authorities that come with the token, in base64.
    #[serde(rename = "ca.crt")]
    authorities: String,
}

#[derive(Deserialize)]
struct ServiceAccount {
    metadata: Metadata,
    #[serde(default)]
    secrets: Option<Vec<Reference>>,
}

#[derive(Deserialize)]
struct Reference {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Namespace {
    metadata: Metadata,
}

impl Api {
    fn token_secrets(&self) -> Result<Vec<Secret>> {
        self.list("secrets?fieldSelector=type=kubernetes.io%2Fservice-account-token")
    }

    /// The secrets with a token of a service account, as `NAMESPACE/NAME`, that do not come with the authorities
    /// `wanted`, in base64.
    pub fn tokens_without(&self, wanted: &str) -> Result<Vec<String>> {
        let secrets = self.token_secrets()?.into_iter().map(|secret| {
            let authorities = secret.data.unwrap_or_default().authorities;
            (secret.metadata, authorities)
        });
        let others = secrets.filter(|(_, authorities)| authorities != wanted);
        Ok(others
            .map(|(metadata, _)| format!("{}/{}", metadata.namespace, metadata.name))
            .collect())
    }

    /// All secrets with tokens of service accounts.
    pub fn tokens(&self) -> Result<Vec<Token>> {
        let secrets = self.token_secrets()?;
        let token = |secret: Secret| {
            let text = BASE64.decode(&*secret.data.unwrap_or_default().token);
            let text = text.map(Zeroizing::new).unwrap_or_default();
            Token {
                namespace: secret.metadata.namespace,
                name: secret.metadata.name,
                uid: secret.metadata.uid,
                account: (secret.metadata.annotations.unwrap_or_default()).account,
                text: String::from_utf8_lossy(&text).into_owned().into(),
            }
        };
        Ok(secrets.into_iter().map(token).collect())
    }

    /// All service accounts, without those that are being deleted, alone or with their namespace: they get no token.
    pub fn accounts(&self) -> Result<Vec<Account>> {
        let namespaces: Vec<Namespace> = self.list("namespaces")?;
        let going: Vec<String> = namespaces
            .into_iter()
            .filter(|one| one.metadata.deletion_timestamp.is_some())
            .map(|one| one.metadata.name)
            .collect();
        let all: Vec<ServiceAccount> = self.list("serviceaccounts")?;
        let stays = |one: &ServiceAccount| {
            one.metadata.deletion_timestamp.is_none() && !going.contains(&one.metadata.namespace)
        };
        let account = |one: ServiceAccount| Account {
            namespace: one.metadata.namespace,
            name: one.metadata.name,
            secrets: (one.secrets.unwrap_or_default().into_iter())
                .map(|secret| secret.name)
                .collect(),
        };
        Ok(all.into_iter().filter(stays).map(account).collect())
    }

    /// Removes from a service account what it says about the secrets `names`. The controller manager then makes a new
    /// token for it, if it refers to no other one.
    pub fn unreference(&self, account: &Account, names: &[&str]) -> Result<()> {
        let (namespace, name) = (&account.namespace, &account.name);
        let path = format!("namespaces/{namespace}/serviceaccounts/{name}");
        self.update(&path, |object| {
            let Some(secrets) = object["secrets"].as_array_mut() else {
                return false;
            };
            let before = secrets.len();
            secrets.retain(|one| {
                !one["name"]
                    .as_str()
                    .is_some_and(|name| names.contains(&name))
            });
            secrets.len() != before
        })
    }

    /// Empties the secret of `token`, if it still has that token. The controller manager then makes a new one in the same
    /// secret.
    pub fn empty(&self, token: &Token) -> Result<()> {
        let (namespace, name) = (&token.namespace, &token.name);
        let text = BASE64.encode(token.text.as_bytes());
        self.update(
            &format!("namespaces/{namespace}/secrets/{name}"),
            |object| match object["data"].as_object_mut() {
                Some(data) if data.get("token") == Some(&json!(text)) => {
                    data.remove("token").is_some()
                }
                _ => false,
            },
        )
    }

    /// Deletes the secret of `token`. One that is gone, or was made anew under the same name, is no error.
    pub fn delete_token(&self, token: &Token) -> Result<()> {
        let (namespace, name) = (&token.namespace, &token.name);
        let url = format!(
            "{}/api/v1/namespaces/{namespace}/secrets/{name}",
            self.server
        );
        let options = json!({
            "kind": "DeleteOptions", "apiVersion": "v1", "preconditions": { "uid": token.uid },
        });
        let request = self.client.delete(url);
        let request = request.header("content-type", "application/json");
        let what = || format!("secret {namespace}/{name}");
        let answer = sent(request.body(options.to_string())).with_context(what)?;
        match answer.status() {
            StatusCode::OK | StatusCode::NOT_FOUND | StatusCode::CONFLICT => Ok(()),
            other => bail!("{}: the API server answers {other} to a deletion", what()),
        }
    }

    fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>> {
        let request = self.client.get(format!("{}/api/v1/{path}", self.server));
        let what = path.split('?').next().unwrap_or(path);
        let answer = http::send(request).with_context(|| format!("the API server: {what}"))?;
        let text = Zeroizing::new(answer.text()?);
        // Drop the parser's error: its text may contain a token.
        let list: Option<List<T>> = serde_json::from_str(&text).ok();
        let list = list.with_context(|| format!("the API server sent an invalid list of {what}"));
        Ok(list?.items)
    }

    /// Writes the object at `path` as `change` leaves it, unless that returns false. A conflict with another writer is
    /// tried again. An object that is gone is no error. No error quotes its content.
    fn update(&self, path: &str, change: impl Fn(&mut Value) -> bool) -> Result<()> {
        let url = format!("{}/api/v1/{path}", self.server);
        for _ in 0..TRIES {
            let found = sent(self.client.get(&url)).with_context(|| path.to_owned())?;
            match found.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND => return Ok(()),
                other => bail!("{path}: the API server answers {other}"),
            }
            let text = Zeroizing::new(found.text().with_context(|| path.to_owned())?);
            let object: Option<Value> = serde_json::from_str(&text).ok();
            let object = object.with_context(|| format!("{path}: the API server sent no object"));
            let mut object = object?;
            if !change(&mut object) {
                return Ok(());
            }
            let body = Zeroizing::new(serde_json::to_vec(&object)?);
            let put = self.client.put(&url);
            let put = put.header("content-type", "application/json");
            let answer = sent(put.body(body.to_vec())).with_context(|| path.to_owned())?;
            match answer.status() {
                StatusCode::OK | StatusCode::NOT_FOUND => return Ok(()),
                StatusCode::CONFLICT => {}
                other => bail!("{path}: the API server answers {other} to a write"),
            }
        }
        bail!("{path} was changed by others {TRIES} times in a row; run this again")
    }
}
