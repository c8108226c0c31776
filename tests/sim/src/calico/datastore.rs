//! Calico's data: text values under paths, in etcd's v2 API.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::client::{Client, Reply};
use crate::etcd::{self, Files, Members};

/// etcd's error code for a missing key.
const KEY_NOT_FOUND: u64 = 100;

/// The store that all parts of Calico share.
pub struct Datastore {
    members: Members,
}

/// A value and its key.
pub struct Leaf {
    /// The whole path.
    pub key: String,
    /// The value.
    pub value: String,
    /// The index of the write.
    index: u64,
}

impl Leaf {
    fn of(node: &Value) -> Option<Self> {
        Some(Self {
            key: node["key"].as_str()?.to_owned(),
            value: node["value"].as_str()?.to_owned(),
            index: node["modifiedIndex"].as_u64()?,
        })
    }
}

/// A variable that is set and not empty.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Datastore {
    /// The store with the members in `endpoints`, URLs separated by commas.
    ///
    /// # Errors An invalid URL, an https URL without its three files, or invalid files.
    pub fn new(endpoints: &str, files: Files<'_>) -> Result<Self> {
        let servers: Vec<&str> = endpoints.split(',').map(str::trim).collect();
        let secure = servers.iter().any(|url| url.starts_with("https://"));
        let complete = [files.authority, files.certificate, files.key]
            .iter()
            .all(Option::is_some);
        if secure && !complete {
            bail!(
                "an https etcd needs the files of an authority, a certificate and its key \
                 (ETCD_CA_CERT_FILE, ETCD_CERT_FILE, ETCD_KEY_FILE, or the configuration's)"
            );
        }
        let members = Members::new(etcd::members(&servers, files)?);
        Ok(Self { members })
    }

    /// The store that the variables of all Calico containers name.
    ///
    /// # Errors As for [`Datastore::new`], and no endpoints.
    pub fn of_environment() -> Result<Self> {
        let endpoints = variable("ETCD_ENDPOINTS").context("ETCD_ENDPOINTS is not set")?;
        let files = ["ETCD_CA_CERT_FILE", "ETCD_CERT_FILE", "ETCD_KEY_FILE"].map(variable);
        let [authority, certificate, key] = &files;
        let files = Files {
            authority: authority.as_deref().map(Path::new),
            certificate: certificate.as_deref().map(Path::new),
            key: key.as_deref().map(Path::new),
        };
        Self::new(&endpoints, files)
    }

    /// The value at `key`.
    ///
    /// # Errors
    /// No member answers.
    pub fn get(&self, key: &str) -> Result<Option<Leaf>> {
        let found = self.ask(|member| member.get(&format!("/v2/keys{key}?quorum=true")))?;
        Ok(found.and_then(|answer| Leaf::of(&answer["node"])))
    }

    /// Every value below `key`, in no particular order.
    ///
    /// # Errors No member answers.
    pub fn tree(&self, key: &str) -> Result<Vec<Leaf>> {
        let path = format!("/v2/keys{key}?recursive=true&quorum=true");
        let Some(answer) = self.ask(|member| member.get(&path))? else {
            return Ok(Vec::new());
        };
        let mut leaves = Vec::new();
        let mut rest = vec![&answer["node"]];
        while let Some(node) = rest.pop() {
            rest.extend(node["nodes"].as_array().into_iter().flatten());
            leaves.extend(Leaf::of(node));
        }
        Ok(leaves)
    }

    /// Writes a value.
    ///
    /// # Errors No member accepts it.
    pub fn put(&self, key: &str, value: &str) -> Result<()> {
        self.write(key, "", value).map(|_| ())
    }

    /// Writes a value if the key does not exist. Returns whether it did.
    ///
    /// # Errors No member answers.
    pub fn create(&self, key: &str, value: &str) -> Result<bool> {
        self.write(key, "?prevExist=false", value)
    }

    /// Writes a value if the current one is `old`. Returns whether it did.
    ///
    /// # Errors No member answers.
    pub fn replace(&self, old: &Leaf, value: &str) -> Result<bool> {
        self.write(&old.key, &format!("?prevIndex={}", old.index), value)
    }

    /// Removes a value, if it exists.
    ///
    /// # Errors No member answers.
    pub fn delete(&self, key: &str) -> Result<()> {
        self.ask(|member| member.delete(&format!("/v2/keys{key}")))
            .map(|_| ())
    }

    /// Whether etcd accepted the value; false if its condition was not met.
    fn write(&self, key: &str, condition: &str, value: &str) -> Result<bool> {
        let encoded: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("/v2/keys{key}{condition}");
        let form = format!("value={encoded}");
        let answer = self.ask(|member| member.put_form(&path, form.clone()))?;
        Ok(answer.is_some())
    }

    /// An answer; `None` if the key does not exist, or the condition is not met.
    fn ask(&self, ask: impl Fn(&Client) -> Result<Reply>) -> Result<Option<Value>> {
        self.members.ask(|member| {
            let reply = ask(member)?;
            let body: Option<Value> = serde_json::from_slice(&reply.body).ok();
            match (reply.status, body) {
                (404, Some(error)) if error["errorCode"] == KEY_NOT_FOUND => Ok(None),
                (404, _) => {
                    bail!("etcd serves no v2 API, which Calico 2.6 needs (etcd 3.4: --enable-v2)")
                }
                (412, _) => Ok(None),
                _ => reply.json().map(Some),
            }
        })
    }
}
