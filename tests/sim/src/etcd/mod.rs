//! A client of the real etcd, over the JSON gateway of its v3 API.

mod recent;
mod watch;

pub use watch::Change;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::client::{Client, Reply};
use crate::keys;
use crate::tls::{self, Identity};
use recent::Recent;

/// The files for a client of etcd.
#[derive(Clone, Copy, Default)]
pub struct Files<'a> {
    /// The CA of etcd's certificate.
    pub authority: Option<&'a Path>,
    /// The client's certificate.
    pub certificate: Option<&'a Path>,
    /// The client's key.
    pub key: Option<&'a Path>,
}

/// Clients of each of etcd's members.
///
/// # Errors An invalid URL, an https URL without a CA, or invalid files.
pub fn members(servers: &[&str], files: Files<'_>) -> Result<Vec<Client>> {
    if servers.is_empty() {
        bail!("no etcd server is given");
    }
    let mut members = Vec::new();
    for server in servers {
        let authorities = files
            .authority
            .map(|path| keys::certificates(path).and_then(tls::authorities))
            .transpose()?;
        let identity = match (files.certificate, files.key) {
            (Some(certificate), Some(key)) => Some(Identity::from_files(certificate, key)?),
            (None, None) => None,
            _ => bail!("etcd's client certificate and key must be given together"),
        };
        let config = tls::client(authorities, identity)?;
        members.push(Client::new(server, config, None)?);
    }
    Ok(members)
}

/// etcd's members, any of which can answer: the one that answered last is asked first.
pub struct Members {
    clients: Vec<Client>,
    current: AtomicUsize,
}

impl Members {
    /// With clients from [`members`].
    pub fn new(clients: Vec<Client>) -> Self {
        Self {
            clients,
            current: AtomicUsize::new(0),
        }
    }

    /// The answer of the first member that answers.
    ///
    /// # Errors The last one's failure, if all fail.
    pub fn ask<T>(&self, ask: impl Fn(&Client) -> Result<T>) -> Result<T> {
        let start = self.current.load(Ordering::Relaxed);
        let mut failure = anyhow::anyhow!("no etcd server is given");
        for step in 0..self.clients.len() {
            let index = (start + step) % self.clients.len();
            let member = &self.clients[index];
            match ask(member) {
                Ok(answer) => {
                    self.current.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) => failure = error.context(format!("etcd {}", member.place())),
            }
        }
        Err(failure)
    }
}

/// A value in etcd.
pub struct Entry {
    /// The value.
    pub value: Vec<u8>,
    /// The revision that wrote it.
    pub revision: i64,
}

/// A store of keys in etcd.
pub struct Store {
    members: Members,
    gateway: &'static str,
    prefix: String,
    recent: Recent,
}

impl Store {
    /// Connects, and finds the path of the gateway in this version of etcd.
    ///
    /// # Errors No member answers.
    pub fn connect(members: &[Client], prefix: &str) -> Result<Self> {
        let members = Members::new(members.to_vec());
        let version = members.ask(|member| member.get("/version")?.json())?;
        let version = version["etcdserver"].as_str().unwrap_or_default();
        let gateway = match version.split('.').take(2).collect::<Vec<_>>()[..] {
            ["3", "1" | "2"] => "/v3alpha",
            ["3", "3"] => "/v3beta",
            ["3", _] => "/v3",
            _ => bail!("etcd {version:?} has no v3 API"),
        };
        Ok(Self {
            members,
            gateway,
            prefix: prefix.trim_end_matches('/').to_owned(),
            recent: Recent::default(),
        })
    }

    /// Writes a value.
    ///
    /// # Errors No member accepts it.
    pub fn put(&self, key: &str, value: &[u8]) -> Result<()> {
        let body = json!({"key": self.encode(key), "value": STANDARD.encode(value)});
        self.call("put", &body)?;
        self.recent.forget(key);
        Ok(())
    }

    /// Reads a value.
    ///
    /// # Errors
    /// No member answers.
    pub fn get(&self, key: &str) -> Result<Option<Entry>> {
        let found = self.range(&json!({"key": self.encode(key)}))?;
        Ok(found.into_iter().next())
    }

    /// Reads every value whose key starts with `start`, in the keys' order.
    ///
    /// # Errors
    /// No member answers.
    pub fn list(&self, start: &str) -> Result<Vec<Entry>> {
        self.range(&self.below(start))
    }

    /// Like [`Store::list`], with the revision at which it was read.
    ///
    /// # Errors
    /// No member answers.
    pub fn list_at(&self, start: &str) -> Result<(Vec<Entry>, i64)> {
        let found = self.call("range", &self.below(start))?;
        Ok((entries(&found)?, number(&found["header"]["revision"])?))
    }

    /// Like [`Store::list`], but may miss recent writes of others: for as long as [`Store::watch`]
    /// takes to report them, or for some seconds without a watch.
    ///
    /// # Errors No member answers.
    pub fn recent(&self, start: &str) -> Result<Arc<Vec<Entry>>> {
        self.recent.get(start, || self.list(start))
    }

    /// Writes a value if the key does not exist. Returns the revision, or `None` if it exists.
    ///
    /// # Errors No member answers.
    pub fn create(&self, key: &str, value: &[u8]) -> Result<Option<i64>> {
        self.replace(key, value, 0)
    }

    /// Writes a value if the key's revision is still `revision`; 0 means that the key does not
    /// exist. Returns the new revision, or `None` if the revision differs.
    ///
    /// # Errors No member answers.
    pub fn replace(&self, key: &str, value: &[u8], revision: i64) -> Result<Option<i64>> {
        let encoded = self.encode(key);
        let answer = self.call(
            "txn",
            &json!({
                "compare": [{
                    "key": encoded, "target": "MOD", "result": "EQUAL",
                    "modRevision": revision.to_string(),
                }],
                "success": [{"requestPut": {"key": encoded, "value": STANDARD.encode(value)}}],
            }),
        )?;
        self.recent.forget(key);
        if answer["succeeded"] != json!(true) {
            return Ok(None);
        }
        number(&answer["header"]["revision"]).map(Some)
    }

    /// Removes a key. Returns whether it existed.
    ///
    /// # Errors No member answers.
    pub fn delete(&self, key: &str) -> Result<bool> {
        let answer = self.call("deleterange", &json!({"key": self.encode(key)}))?;
        self.recent.forget(key);
        Ok(answer["deleted"].is_string())
    }

    /// The answer of each member's health endpoint.
    pub fn health(&self) -> Vec<Result<Reply>> {
        let members = self.members.clients.iter();
        members.map(|member| member.get("/health")).collect()
    }

    /// Checks whether a member accepts connections.
    ///
    /// # Errors None does.
    pub fn reach(&self) -> Result<()> {
        self.members.ask(Client::connect)
    }

    /// Writes a value and reads it back.
    ///
    /// # Errors etcd does not return it.
    pub fn check(&self) -> Result<()> {
        let stamp = crate::lifecycle::now();
        self.put("/stand-in/check", stamp.as_bytes())?;
        if self.get("/stand-in/check")?.is_none() {
            bail!("etcd lost a key that was just written");
        }
        Ok(())
    }

    /// The range of all keys that start with `start`, in the form for requests.
    fn below(&self, start: &str) -> Value {
        let mut end = format!("{}{start}", self.prefix).into_bytes();
        // The keys are ASCII, so the last byte can be incremented.
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        json!({"key": self.encode(start), "range_end": STANDARD.encode(end)})
    }

    fn encode(&self, key: &str) -> String {
        STANDARD.encode(format!("{}{key}", self.prefix))
    }

    fn range(&self, body: &Value) -> Result<Vec<Entry>> {
        entries(&self.call("range", body)?)
    }

    fn call(&self, verb: &str, body: &Value) -> Result<Value> {
        let path = format!("{}/kv/{verb}", self.gateway);
        self.members.ask(|member| member.post(&path, body)?.json())
    }
}

/// The values in etcd's answer.
fn entries(found: &Value) -> Result<Vec<Entry>> {
    let pairs = found["kvs"].as_array().map_or(&[][..], Vec::as_slice);
    pairs.iter().map(entry).collect()
}

fn entry(pair: &Value) -> Result<Entry> {
    let value = pair["value"].as_str().unwrap_or_default();
    Ok(Entry {
        value: STANDARD.decode(value).context("etcd's value")?,
        revision: number(&pair["mod_revision"])?,
    })
}

/// The gateway writes 64-bit numbers as text.
fn number(value: &Value) -> Result<i64> {
    let text = value.as_str().context("etcd returned no revision")?;
    text.parse().context("etcd's revision")
}
