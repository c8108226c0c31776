//! A client of the real etcd, over the JSON gateway of its v3 API.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::client::{Client, Reply};
use crate::keys;
use crate::tls::{self, Identity};

/// The files a client of etcd is given.
#[derive(Clone, Copy, Default)]
pub struct Files<'a> {
    /// The authority of etcd's certificate.
    pub authority: Option<&'a Path>,
    /// The client's certificate.
    pub certificate: Option<&'a Path>,
    /// The client's key.
    pub key: Option<&'a Path>,
}

/// Clients of each of etcd's members.
///
/// # Errors
/// A server that is no URL, an https one without an authority, or broken files.
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

/// etcd's members, of which any will do: the one that answered last is asked first.
pub struct Members {
    clients: Vec<Client>,
    current: AtomicUsize,
}

impl Members {
    /// Of clients as [`members`] makes them.
    pub fn new(clients: Vec<Client>) -> Self {
        Self {
            clients,
            current: AtomicUsize::new(0),
        }
    }

    /// What the first member says that answers.
    ///
    /// # Errors
    /// The last one's failure, if all fail.
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

/// How old what [`Store::recent`] gives may be: the real API server hears of changes about as late.
const RECENT: Duration = Duration::from_secs(3);

/// What was read lately.
#[derive(Default)]
struct Recent {
    /// By the start of its keys.
    lists: HashMap<String, (Instant, Arc<Vec<Entry>>)>,
    /// How many writes there were: what was read before one is not kept after it.
    writes: u64,
}

/// A store of keys in etcd.
pub struct Store {
    members: Members,
    gateway: &'static str,
    prefix: String,
    recent: Mutex<Recent>,
}

impl Store {
    /// Connects, and finds out under which path this etcd serves its gateway.
    ///
    /// # Errors
    /// No member answers.
    pub fn connect(members: &[Client], prefix: &str) -> Result<Self> {
        let members = Members::new(members.to_vec());
        let version = members.ask(|member| member.get("/version")?.json())?;
        let version = version["etcdserver"].as_str().unwrap_or_default();
        let gateway = match version.split('.').take(2).collect::<Vec<_>>()[..] {
            ["3", "1" | "2"] => "/v3alpha/kv",
            ["3", "3"] => "/v3beta/kv",
            ["3", _] => "/v3/kv",
            _ => bail!("etcd {version:?} has no v3 API"),
        };
        Ok(Self {
            members,
            gateway,
            prefix: prefix.trim_end_matches('/').to_owned(),
            recent: Mutex::default(),
        })
    }

    /// Writes a value.
    ///
    /// # Errors
    /// No member takes it.
    pub fn put(&self, key: &str, value: &[u8]) -> Result<()> {
        let body = json!({"key": self.encode(key), "value": STANDARD.encode(value)});
        self.call("put", &body)?;
        self.forget(key);
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
        let mut end = format!("{}{start}", self.prefix).into_bytes();
        // The keys are ASCII: the last byte can be counted up.
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        self.range(&json!({"key": self.encode(start), "range_end": STANDARD.encode(end)}))
    }

    /// As [`Store::list`], but what others wrote just now may be missing.
    ///
    /// # Errors
    /// No member answers.
    pub fn recent(&self, start: &str) -> Result<Arc<Vec<Entry>>> {
        let writes = {
            let known = self.known();
            if let Some((read, entries)) = known.lists.get(start)
                && read.elapsed() < RECENT
            {
                return Ok(entries.clone());
            }
            known.writes
        };
        let now = Instant::now();
        let entries = Arc::new(self.list(start)?);
        let mut known = self.known();
        if known.writes == writes {
            let kept = (now, entries.clone());
            known.lists.insert(start.to_owned(), kept);
        }
        Ok(entries)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this process writes, it has at once.
    fn forget(&self, key: &str) {
        let mut known = self.known();
        known.writes += 1;
        known
            .lists
            .retain(|start, _| !key.starts_with(start.as_str()));
    }

    /// Writes a value where none is. Returns the revision, or none if one is there.
    ///
    /// # Errors
    /// No member answers.
    pub fn create(&self, key: &str, value: &[u8]) -> Result<Option<i64>> {
        self.replace(key, value, 0)
    }

    /// Writes a value if the key's revision is still `revision`; 0 is that of a key
    /// that is not there. Returns the new revision, or none if it is another.
    ///
    /// # Errors
    /// No member answers.
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
        self.forget(key);
        if answer["succeeded"] != json!(true) {
            return Ok(None);
        }
        number(&answer["header"]["revision"]).map(Some)
    }

    /// Removes a key; whether it was there.
    ///
    /// # Errors
    /// No member answers.
    pub fn delete(&self, key: &str) -> Result<bool> {
        let answer = self.call("deleterange", &json!({"key": self.encode(key)}))?;
        self.forget(key);
        Ok(answer["deleted"].is_string())
    }

    /// What each member's health endpoint answers.
    pub fn health(&self) -> Vec<Result<Reply>> {
        let members = self.members.clients.iter();
        members.map(|member| member.get("/health")).collect()
    }

    /// Writes a value and reads it back.
    ///
    /// # Errors
    /// etcd does not keep it.
    pub fn check(&self) -> Result<()> {
        let stamp = crate::lifecycle::now();
        self.put("/stand-in/check", stamp.as_bytes())?;
        if self.get("/stand-in/check")?.is_none() {
            bail!("etcd lost a key that was just written");
        }
        Ok(())
    }

    fn encode(&self, key: &str) -> String {
        STANDARD.encode(format!("{}{key}", self.prefix))
    }

    fn range(&self, body: &Value) -> Result<Vec<Entry>> {
        let found = self.call("range", body)?;
        let pairs = found["kvs"].as_array().map_or(&[][..], Vec::as_slice);
        pairs
            .iter()
            .map(|pair| {
                let value = pair["value"].as_str().unwrap_or_default();
                Ok(Entry {
                    value: STANDARD.decode(value).context("etcd's value")?,
                    revision: number(&pair["mod_revision"])?,
                })
            })
            .collect()
    }

    fn call(&self, verb: &str, body: &Value) -> Result<Value> {
        let path = format!("{}/{verb}", self.gateway);
        self.members.ask(|member| member.post(&path, body)?.json())
    }
}

/// The gateway writes 64-bit numbers as texts.
fn number(value: &Value) -> Result<i64> {
    let text = value.as_str().context("etcd told no revision")?;
    text.parse().context("etcd's revision")
}
