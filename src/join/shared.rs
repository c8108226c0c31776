//! The records that masters share in etcd (API v2, which Calico also uses and which every etcd of
//! this age serves).
//!
//! Every holder of a certificate of the cluster can write to etcd, for example Calico on every
//! node. So each record is encrypted with a key that is derived from the CA's key, which only
//! masters have. The encryption covers the record's path: nobody else can read, create or move a
//! record.

use core::net::Ipv4Addr;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::KeyPair;
use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::clients::mtls;
use crate::components::ETCD_CERTIFICATE;
use crate::nodespec::ports::ETCD_CLIENTS;
use crate::nodespec::token::KEY_BYTES;
use crate::sys::http;
use crate::sys::root::Root;

/// The directory of the records in etcd.
const DIRECTORY: &str = "/appliance/join";
/// What is between the parts of a record that is sealed with several keys.
const BETWEEN: &str = ".";
/// How often the records of a kind are read until all are sealed again.
const ROUNDS: usize = 50;
/// The purpose of the encryption key.
const SALT: &[u8] = b"appliance join v1 records";
/// How long a member may take to answer. Without a majority it does not answer at all.
const ANSWER: Duration = Duration::from_secs(2);
/// How long to wait after no member answered, before etcd is asked again: an exchange asks it
/// several times.
const DOWN: Duration = Duration::from_secs(10);
/// The size limit of an answer, in bytes. The records of a thousand nodes take less.
const MOST: u64 = 16 * 1024 * 1024;
/// etcd's error codes: no such key; the condition is not met; the key already exists.
const NOT_FOUND: u32 = 100;
const CONFLICTS: [u32; 2] = [101, 105];

/// No member of etcd answers.
#[derive(Debug)]
pub struct Unreachable(String);

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "etcd does not answer, so the tokens and node names of the masters are not available; \
             run `appliance status` on a master to see which members are down: {}",
            self.0
        )
    }
}

impl std::error::Error for Unreachable {}

/// The records in etcd.
#[derive(Clone)]
pub struct Etcd(Arc<Inner>);

struct Inner {
    root: Root,
    members: Vec<Ipv4Addr>,
    /// The keys that open records. Each record is sealed with each of them.
    keys: Vec<LessSafeKey>,
    down: Mutex<Option<(Instant, String)>>,
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd at {:?}", self.0.members)
    }
}

/// A record in etcd.
#[derive(Clone, Debug)]
pub struct Found {
    /// The number of its last change.
    pub index: u64,
    /// The record's text; `None` if no master wrote it.
    pub text: Option<Vec<u8>>,
    /// Whether it is sealed with the keys that this machine has, and with no others.
    is_current: bool,
}

/// The result of a listing, and the member it came from: later changes go to the same member.
pub struct Listing {
    /// The records by name.
    pub records: BTreeMap<String, Found>,
    member: Ipv4Addr,
}

#[derive(Deserialize)]
struct Answer {
    node: Option<EtcdNode>,
    #[serde(rename = "errorCode")]
    error: Option<u32>,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EtcdNode {
    key: String,
    #[serde(default)]
    value: String,
    modified_index: u64,
    #[serde(default)]
    nodes: Vec<EtcdNode>,
}

impl Etcd {
    /// The etcd with these `members`. It asks them in this order, with the certificates below
    /// `root`, and encrypts with keys derived from those of the CA: while a rotation replaces the CA, with the keys of
    /// the old and of the new one, so that masters read a record which have only one of them.
    pub fn new(root: &Root, members: Vec<Ipv4Addr>, authorities: &[KeyPair]) -> Result<Etcd> {
        let keys = authorities.iter().map(sealing_key);
        Ok(Etcd(Arc::new(Inner {
            root: root.clone(),
            members,
            keys: keys.collect::<Result<Vec<_>>>()?,
            down: Mutex::new(None),
        })))
    }

    /// All records of a kind. Fails with [`Unreachable`] if no member has a majority.
    pub fn list(&self, kind: &str) -> Result<Listing> {
        let mut down = self.0.down.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, why)) = &*down
            && since.elapsed() < DOWN
        {
            bail!(Unreachable(why.clone()));
        }
        let mut failures = Vec::new();
        for &member in &self.0.members {
            match self.list_at(member, kind) {
                Ok(records) => {
                    *down = None;
                    return Ok(Listing { records, member });
                }
                Err(error) => failures.push(format!("{member}: {error:#}")),
            }
        }
        let why = failures.join("; ");
        *down = Some((Instant::now(), why.clone()));
        bail!(Unreachable(why))
    }

    fn list_at(&self, member: Ipv4Addr, kind: &str) -> Result<BTreeMap<String, Found>> {
        let url = format!("{}?recursive=true&quorum=true", url(member, kind, None));
        let answer = send(self.client()?.get(url))?;
        if answer.error == Some(NOT_FOUND) {
            return Ok(BTreeMap::new());
        }
        let directory = answer.node.context("etcd sent an answer without content")?;
        let record = |node: EtcdNode| {
            let name = node.key.rsplit('/').next().unwrap_or_default().to_owned();
            let text = self.open(&node.key, &node.value);
            if text.is_none() {
                log::warn!(
                    "etcd: no master of this cluster wrote the record {}; ignoring it",
                    node.key.escape_debug()
                );
            }
            let found = Found {
                index: node.modified_index,
                is_current: self.is_current(&node.key, &node.value),
                text,
            };
            (name, found)
        };
        Ok(directory.nodes.into_iter().map(record).collect())
    }

    /// Writes a record if it is unchanged since `listing`. Returns whether it was.
    pub fn put(&self, listing: &Listing, kind: &str, name: &str, text: &[u8]) -> Result<bool> {
        let condition = match listing.records.get(name) {
            Some(found) => format!("prevIndex={}", found.index),
            None => "prevExist=false".to_owned(),
        };
        let value = self.seal(&key(kind, Some(name)), text)?;
        let request = self
            .client()?
            .put(url(listing.member, kind, Some(name)))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("value={value}&{condition}"));
        changed(send(request))
    }

    /// Removes a record if it is unchanged since `listing`. Returns whether it was.
    pub fn remove(&self, listing: &Listing, kind: &str, name: &str) -> Result<bool> {
        let found = listing
            .records
            .get(name)
            .with_context(|| format!("there is no record {name} to remove"))?;
        let url = url(listing.member, kind, Some(name));
        let request = self.client()?;
        let request = request.delete(format!("{url}?prevIndex={}", found.index));
        changed(send(request))
    }

    /// A client with the certificate of this machine's member.
    fn client(&self) -> Result<Client> {
        mtls::client(&self.0.root, ETCD_CERTIFICATE, ANSWER)
    }

    fn seal(&self, path: &str, text: &[u8]) -> Result<String> {
        let parts = self.0.keys.iter().map(|key| {
            let mut nonce = [0; NONCE_LEN];
            let sealed = SystemRandom::new().fill(&mut nonce).and_then(|()| {
                let mut sealed = text.to_vec();
                let at = Nonce::assume_unique_for_key(nonce);
                key.seal_in_place_append_tag(at, Aad::from(path), &mut sealed)?;
                Ok(sealed)
            });
            let sealed = sealed.map_err(|_| anyhow!("cannot encrypt the record {path}"))?;
            Ok(URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat()))
        });
        Ok(parts.collect::<Result<Vec<_>>>()?.join(BETWEEN))
    }

    fn open(&self, path: &str, value: &str) -> Option<Vec<u8>> {
        let mut parts = value.split(BETWEEN);
        parts.find_map(|part| {
            let sealed = URL_SAFE_NO_PAD.decode(part).ok()?;
            self.0.keys.iter().find_map(|key| open(key, path, &sealed))
        })
    }

    /// Whether a value is sealed with each key of this one, and with no other.
    fn is_current(&self, path: &str, value: &str) -> bool {
        let parts: Vec<&str> = value.split(BETWEEN).collect();
        let opens = |key: &LessSafeKey, part: &str| {
            let sealed = URL_SAFE_NO_PAD.decode(part).ok()?;
            open(key, path, &sealed)
        };
        let keys = &self.0.keys;
        parts.len() == keys.len()
            && (keys.iter().zip(&parts)).all(|(key, part)| opens(key, part).is_some())
    }

    /// Seals all records of all kinds again, with the keys that this one has and no others. Records that no master wrote
    /// stay.
    pub fn seal_again(&self) -> Result<()> {
        for kind in self.kinds()? {
            self.seal_kind_again(&kind)?;
        }
        Ok(())
    }

    fn seal_kind_again(&self, kind: &str) -> Result<()> {
        for _ in 0..ROUNDS {
            let listing = self.list(kind)?;
            let old = listing
                .records
                .iter()
                .filter(|(_, found)| !found.is_current);
            let old: Vec<_> = old
                .filter_map(|(name, found)| Some((name, found.text.as_ref()?)))
                .collect();
            if old.is_empty() {
                return Ok(());
            }
            for (name, text) in old {
                // If another master changes it at the same time, the next round looks again.
                self.put(&listing, kind, name, text)?;
            }
        }
        bail!(
            "other masters changed the records {kind} in etcd {ROUNDS} times during this run; run this again"
        )
    }

    /// The kinds of records that there are.
    fn kinds(&self) -> Result<Vec<String>> {
        let member = self.list("nodes")?.member;
        let url = format!("https://{member}:{ETCD_CLIENTS}/v2/keys{DIRECTORY}?quorum=true");
        let answer = send(self.client()?.get(url))?;
        let kinds = answer.node.map(|node| node.nodes).unwrap_or_default();
        let name = |node: EtcdNode| node.key.rsplit('/').next().map(str::to_owned);
        let kinds = kinds.into_iter().filter_map(name);
        // They go into a path.
        let is_plain = |kind: &String| kind.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        Ok(kinds.filter(is_plain).collect())
    }
}

/// The text of the record at `path` that is sealed with `key`.
fn open(key: &LessSafeKey, path: &str, sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut sealed = sealed.to_vec();
    let text = key.open_in_place(nonce, Aad::from(path), &mut sealed);
    text.ok().map(|text| text.to_vec())
}

/// The key for records that is derived from the key of an authority.
fn sealing_key(authority: &KeyPair) -> Result<LessSafeKey> {
    let secret = Zeroizing::new(authority.serialize_der());
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    let made = Salt::new(HKDF_SHA256, SALT).extract(&secret);
    let broken = || anyhow!("cannot derive the key for records from the key of the CA");
    made.expand(&[b"seal"], HKDF_SHA256)
        .and_then(|made| made.fill(&mut *key))
        .map_err(|_| broken())?;
    let key = UnboundKey::new(&AES_256_GCM, &*key).map_err(|_| broken())?;
    Ok(LessSafeKey::new(key))
}

fn key(kind: &str, name: Option<&str>) -> String {
    let name = name.map_or(String::new(), |name| format!("/{name}"));
    format!("{DIRECTORY}/{kind}{name}")
}

fn url(member: Ipv4Addr, kind: &str, name: Option<&str>) -> String {
    format!("https://{member}:{ETCD_CLIENTS}/v2/keys{}", key(kind, name))
}

/// Sends a request. Some failures of etcd, such as a missing key, are also answers.
fn send(request: RequestBuilder) -> Result<Answer> {
    let response = request.send().map_err(|error| http::root_cause(&error))?;
    let status = response.status();
    let mut text = Vec::new();
    response.take(MOST + 1).read_to_end(&mut text)?;
    ensure!(
        text.len() as u64 <= MOST,
        "etcd's answer is longer than {MOST} bytes"
    );
    let answer: Option<Answer> = serde_json::from_slice(&text).ok();
    match answer {
        Some(answer) if status.is_success() => Ok(answer),
        Some(answer)
            if matches!(
                status,
                StatusCode::NOT_FOUND | StatusCode::PRECONDITION_FAILED
            ) && answer.error.is_some() =>
        {
            Ok(answer)
        }
        Some(answer) => bail!("etcd answers {status}: {}", answer.message.escape_debug()),
        None => bail!("etcd answers {status}"),
    }
}

fn changed(answer: Result<Answer>) -> Result<bool> {
    match answer?.error {
        None => Ok(true),
        Some(code) if code == NOT_FOUND || CONFLICTS.contains(&code) => Ok(false),
        Some(code) => bail!("etcd answers with error code {code}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn etcd(authority: &KeyPair) -> Etcd {
        let root = Root::open("/".as_ref()).unwrap();
        several(&root, &[authority])
    }

    fn several(root: &Root, authorities: &[&KeyPair]) -> Etcd {
        let copy = |key: &&KeyPair| KeyPair::from_pem(&key.serialize_pem()).unwrap();
        let keys: Vec<KeyPair> = authorities.iter().map(copy).collect();
        Etcd::new(root, vec![], &keys).unwrap()
    }

    #[test]
    fn a_record_of_a_master_with_both_keys_is_read_with_either() {
        let root = Root::open("/".as_ref()).unwrap();
        let (old, new) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let both = several(&root, &[&old, &new]);
        let turned = several(&root, &[&new, &old]);
        let here = key("tokens", Some("abcdef"));
        let value = both.seal(&here, b"a record").unwrap();
        for reader in [&both, &turned, &etcd(&old), &etcd(&new)] {
            assert_eq!(reader.open(&here, &value).unwrap(), b"a record");
        }
        assert_eq!(both.open(&key("nodes", None), &value), None);
        assert!(both.is_current(&here, &value));
        for other in [&turned, &etcd(&old), &etcd(&new)] {
            assert!(!other.is_current(&here, &value));
        }
        let single = etcd(&old).seal(&here, b"a record").unwrap();
        assert_eq!(turned.open(&here, &single).unwrap(), b"a record");
        assert_eq!(etcd(&new).open(&here, &single), None);
    }

    #[test]
    fn masters_read_what_masters_wrote_and_only_where_they_wrote_it() {
        let authority = KeyPair::generate().unwrap();
        let (one, other) = (etcd(&authority), etcd(&authority));
        let here = key("tokens", Some("abcdef"));
        let value = one.seal(&here, b"a record").unwrap();
        assert_eq!(other.open(&here, &value).unwrap(), b"a record");
        assert_eq!(other.open(&key("tokens", Some("ghijkl")), &value), None);
        assert_eq!(other.open(&key("nodes", Some("abcdef")), &value), None);
        assert_ne!(one.seal(&here, b"a record").unwrap(), value);
    }

    #[test]
    fn whoever_has_not_the_authoritys_key_neither_reads_nor_makes_a_record() {
        let (one, stranger) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let (one, stranger) = (etcd(&one), etcd(&stranger));
        let here = key("tokens", Some("abcdef"));
        let value = one.seal(&here, b"a record").unwrap();
        let plain = URL_SAFE_NO_PAD.decode(&value).unwrap();
        assert!(!plain.windows(8).any(|window| window == b"a record"));
        assert_eq!(stranger.open(&here, &value), None);
        assert_eq!(
            one.open(&here, &stranger.seal(&here, b"a record").unwrap()),
            None
        );
        for broken in ["", "!", "AAAA", &value[..value.len() - 4]] {
            assert_eq!(one.open(&here, broken), None, "{broken}");
        }
    }
}
