//! Talking to etcd about its members and its keys, with a certificate of this node.

use core::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::blocking::{Client, RequestBuilder};
use serde::Deserialize;
use serde_json::json;

use self::gateway::Gateway;
use super::mtls;
use crate::components::ETCD_CERTIFICATE;
use crate::nodespec::Profile;
use crate::nodespec::ports::{ETCD_CLIENTS, ETCD_PEERS};
use crate::sys::http;
use crate::sys::root::Root;

pub mod database;
pub mod gateway;
pub mod keys;
pub mod snapshot;

/// How long a change of the cluster may take. Its members have to agree.
const CHANGE: Duration = Duration::from_secs(30);

/// A member, as etcd lists it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Member {
    /// Its identifier, in hexadecimal.
    #[serde(deserialize_with = "identifier")]
    pub id: String,
    /// Its name. It is empty until a member that was added to a running cluster has started.
    #[serde(default)]
    pub name: String,
    /// The URLs at which other members reach it.
    #[serde(rename = "peerURLs")]
    pub peer_urls: Vec<String>,
    /// The URLs at which clients reach it; none until it has started.
    #[serde(default, rename = "clientURLs")]
    pub client_urls: Vec<String>,
}

/// The members, from the first member that answers. A member that waits for others lists them
/// only at its port for members.
pub fn known_members(client: &Client, others: &[Ipv4Addr]) -> Result<Vec<Member>> {
    let ask = |address| {
        let response = http::send(client.get(format!("{}/members", peer_url(address))))?;
        serde_json::from_str(&response.text()?).context("the member list of etcd is not valid")
    };
    at_any(others, ask)
        .context("none of etcd's other members answers; allow TCP port 2380 between masters")
}

/// Changes the member list through one of the other members.
pub fn change(
    root: &Root,
    others: &[Ipv4Addr],
    request: impl Fn(&Client, &str) -> RequestBuilder,
) -> Result<()> {
    let client = mtls::client(root, ETCD_CERTIFICATE, CHANGE)?;
    let ask = |address| {
        let url = format!("https://{address}:{ETCD_CLIENTS}/v2/members");
        http::send(request(&client, &url)).map(drop)
    };
    at_any(others, ask).context(
        "none of etcd's other members accepts the change of the member list; allow TCP port 2379 \
         between masters; etcd also needs a majority of its members",
    )
}

/// Whether the member at one of these URLs for clients is healthy: it reaches a majority of its cluster.
pub fn is_healthy(client: &Client, urls: &[String]) -> bool {
    let is_healthy = |url: &String| http::get(client, &format!("{url}/health")).is_ok();
    urls.iter().any(is_healthy)
}

/// Removes the member with this identifier through one of the others at the addresses `others`. A member that is
/// gone is no error.
pub fn remove_member(root: &Root, others: &[Ipv4Addr], id: &str) -> Result<()> {
    let client = mtls::client(root, ETCD_CERTIFICATE, CHANGE)?;
    let members = known_members(&client, others)?;
    if !members.iter().any(|member| member.id == id) {
        return Ok(());
    }
    change(root, others, |client, url| {
        client.delete(format!("{url}/{id}"))
    })
}

/// Tells the cluster that the others reach the member called `name` at `address` now, through the first member of the
/// addresses `through` that answers. Changes nothing if the cluster knows it.
///
/// # Errors
/// If no member answers, if there is no such member, or if the cluster has no majority.
pub fn move_member(
    root: &Root,
    profile: Profile,
    (name, address): (&str, Ipv4Addr),
    through: &[Ipv4Addr],
) -> Result<()> {
    #[derive(Deserialize)]
    struct Listed {
        members: Vec<Member>,
    }
    let (scheme, client) = reach(root, profile, CHANGE)?;
    let wanted = format!("{scheme}://{address}:{ETCD_PEERS}");
    at_any(through, |member| {
        let url = format!("{scheme}://{member}:{ETCD_CLIENTS}/v2/members");
        let listed: Listed = serde_json::from_str(&http::send(client.get(&url))?.text()?)
            .context("the member list of etcd is not valid")?;
        let own = listed.members.iter().find(|member| member.name == name);
        let own = own.with_context(|| format!("etcd has no member {name}"))?;
        if own.peer_urls == [wanted.as_str()] {
            return Ok(());
        }
        let change = client
            .put(format!("{url}/{}", own.id))
            .header("content-type", "application/json")
            .body(json!({ "peerURLs": [wanted] }).to_string());
        http::send(change).map(drop)
    })
    .with_context(|| format!("etcd does not know the new address {address} of its member {name}"))
}

/// Asks the members in turn until one answers `ask` with success.
fn at_any<T>(others: &[Ipv4Addr], ask: impl Fn(Ipv4Addr) -> Result<T>) -> Result<T> {
    let mut failures = Vec::new();
    for &address in others {
        match ask(address) {
            Ok(value) => return Ok(value),
            Err(error) => failures.push(format!("{address}: {error:#}")),
        }
    }
    bail!("{}", failures.join("; "))
}

/// How many values one request reads. A value can have a megabyte.
const PAGE: usize = 50;

#[derive(Deserialize)]
struct Range {
    #[serde(default)]
    kvs: Vec<KeyValue>,
    #[serde(default)]
    more: bool,
}

#[derive(Deserialize)]
struct KeyValue {
    key: String,
    #[serde(default)]
    value: String,
}

/// The keys below `prefix` in etcd's API v3 at the URL `server`, each with the first `length` bytes of its value.
/// They are read with a quorum.
///
/// # Errors
/// The member does not answer, or has no API v3 with a JSON gateway (etcd 3.1 and later have).
pub fn heads(
    client: &Client,
    server: &str,
    prefix: &str,
    length: usize,
) -> Result<Vec<(String, Vec<u8>)>> {
    let gateway = Gateway::of(client, server)?;
    let (mut from, mut end) = (prefix.as_bytes().to_vec(), prefix.as_bytes().to_vec());
    let last = end.last_mut().context("a prefix is never empty")?;
    // A prefix is ASCII text, so its last byte is less than 255.
    *last += 1;
    let mut heads = Vec::new();
    loop {
        let range = json!({
            "key": BASE64.encode(&from), "range_end": BASE64.encode(&end), "limit": PAGE,
        });
        let page: Range = gateway.call("kv/range", &range)?;
        for pair in &page.kvs {
            from = BASE64.decode(&pair.key)?;
            let mut value = BASE64.decode(&pair.value)?;
            value.truncate(length);
            heads.push((String::from_utf8_lossy(&from).into_owned(), value));
        }
        from.push(0);
        if !page.more || page.kvs.is_empty() {
            return Ok(heads);
        }
    }
}

/// The versions that a member tells.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Version {
    /// Its own one.
    #[serde(rename = "etcdserver")]
    pub server: String,
    /// That on which the members of the cluster agree.
    #[serde(rename = "etcdcluster")]
    pub cluster: String,
}

/// The versions of the member at the URL `server`.
pub fn version(client: &Client, server: &str) -> Result<Version> {
    let answer = http::send(client.get(format!("{server}/version"))).context("etcd")?;
    serde_json::from_str(&answer.text()?).context("etcd's version is not valid")
}

/// The scheme of etcd's URLs on the master at `root`, and a client for them, which gives up after `timeout`.
pub fn reach(root: &Root, profile: Profile, timeout: Duration) -> Result<(&'static str, Client)> {
    Ok(match profile {
        Profile::WithCa => ("https", mtls::client(root, ETCD_CERTIFICATE, timeout)?),
        Profile::Simple => ("http", http::client(&[], None, timeout)?),
    })
}

/// The revision of the data of API v3: the number of its last change.
///
/// # Errors
/// As [`heads`].
pub fn revision(client: &Client, server: &str) -> Result<u64> {
    #[derive(Deserialize)]
    struct Answer {
        header: Header,
    }
    #[derive(Deserialize)]
    struct Header {
        #[serde(default)]
        revision: String,
    }
    let range = json!({ "key": BASE64.encode([0]), "limit": 1 });
    let answer: Answer = Gateway::of(client, server)?.call("kv/range", &range)?;
    let revision = answer.header.revision.parse();
    revision.context("etcd's revision is not a number")
}

/// Where a member at `address` is reached by the others.
pub fn peer_url(address: Ipv4Addr) -> String {
    format!("https://{address}:{ETCD_PEERS}")
}

/// Reads an identifier. etcd sends it as a number to members, and in hexadecimal to clients.
fn identifier<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Identifier {
        Number(u64),
        Text(String),
    }
    Ok(match Identifier::deserialize(deserializer)? {
        Identifier::Number(number) => format!("{number:x}"),
        Identifier::Text(text) => text,
    })
}
