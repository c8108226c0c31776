//! The keys of etcd's API v2, which a snapshot of API v3 does not have: Calico's data, and what several masters share.

use std::collections::BTreeMap;
use std::io::Read;

use anyhow::{Context, Result, ensure};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::blocking::Client;
use serde::{Deserialize, Serialize};

use crate::sys::http;

/// The most that is read, in bytes. etcd keeps all of it in memory, too.
const MOST: u64 = 256 * 1024 * 1024;
/// What a path in a URL may have as it is. etcd decodes the path once.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
/// The header with the number of the last change.
const INDEX: &str = "x-etcd-index";

/// The keys of API v2 with their values, as they were at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The number of the last change.
    pub index: u64,
    /// The values by their keys.
    pub values: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Answer {
    node: EtcdNode,
}

#[derive(Deserialize)]
struct EtcdNode {
    #[serde(default)]
    key: String,
    #[serde(default)]
    dir: bool,
    value: Option<String>,
    ttl: Option<i64>,
    #[serde(default)]
    nodes: Vec<EtcdNode>,
}

/// All keys of the member at the URL `server`. etcd answers with one state of all of them, with a quorum. A key that
/// expires by itself is left out: whoever wrote it writes it again.
///
/// # Errors
/// The member does not answer, or has more than 256 MiB of such data.
pub fn all(client: &Client, server: &str) -> Result<Keys> {
    let url = format!("{server}/v2/keys/?recursive=true&quorum=true");
    let answer = http::send(client.get(url)).context("etcd, API v2")?;
    let index = answer
        .headers()
        .get(INDEX)
        .and_then(|index| index.to_str().ok());
    let index = index.and_then(|index| index.parse().ok());
    let index = index.context("etcd does not say the number of its last change")?;
    let mut text = Vec::new();
    answer
        .take(MOST + 1)
        .read_to_end(&mut text)
        .context("etcd, API v2")?;
    ensure!(
        text.len() as u64 <= MOST,
        "etcd has more than {MOST} bytes in keys of API v2"
    );
    let answer: Answer = serde_json::from_slice(&text).context("etcd's keys are not valid")?;
    let mut values = BTreeMap::new();
    let mut nodes = vec![answer.node];
    while let Some(node) = nodes.pop() {
        if node.ttl.is_some() {
            continue;
        }
        match node.value {
            Some(value) if !node.dir => drop(values.insert(node.key, value)),
            _ => nodes.extend(node.nodes),
        }
    }
    Ok(Keys { index, values })
}

/// Sets one key at the member at the URL `server`.
pub fn set(client: &Client, server: &str, key: &str, value: &str) -> Result<()> {
    ensure!(
        key.starts_with('/'),
        "etcd's key {key:?} does not begin with /"
    );
    let url = format!("{server}/v2/keys{}", utf8_percent_encode(key, IN_PATH));
    let body = format!("value={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
    let request = client.put(url);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    http::send(request.body(body))
        .map(drop)
        .with_context(|| format!("etcd's key {key}"))
}
