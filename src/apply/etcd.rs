//! How a member joins etcd's cluster: together with the others when the cluster starts for the
//! first time, or as the replacement of a member that lost its data.

use core::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use reqwest::blocking::{Client, RequestBuilder};
use serde::Deserialize;
use serde_json::json;

use crate::access;
use crate::components::ETCD_CERTIFICATE;
use crate::desired::EtcdMember;
use crate::sys::http;
use crate::sys::retry::{Failure, Schedule, retried, transient};
use crate::sys::root::Root;

/// How long a member may take to answer. A member that waits for others does not answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a change of the cluster may take. Its members have to agree.
const CHANGE: Duration = Duration::from_secs(30);
/// How long to wait for the other members.
const PATIENCE: Duration = Duration::from_secs(900);
/// The longest pause between two attempts.
const PAUSE: Duration = Duration::from_secs(5);
/// How long the founding master looks for others before it starts alone.
const ALONE: Duration = Duration::from_secs(30);

/// How a member starts (etcd's `--initial-cluster-state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Together with all others: none of them has run before.
    New,
    /// As a member that was added to a running cluster.
    Existing,
}

impl Beginning {
    /// The value of etcd's flag.
    pub fn as_str(self) -> &'static str {
        match self {
            Beginning::New => "new",
            Beginning::Existing => "existing",
        }
    }
}

/// How a member joins its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// How it starts.
    pub beginning: Beginning,
    /// The members it starts with. For a running cluster these are exactly its present members;
    /// otherwise etcd exits.
    pub cluster: String,
}

impl Entry {
    /// The environment of etcd's unit.
    pub fn environment(&self) -> String {
        format!(
            "ETCD_INITIAL_CLUSTER_STATE={}\nETCD_INITIAL_CLUSTER={}\n",
            self.beginning.as_str(),
            self.cluster
        )
    }
}

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

/// The next step before a member without data starts.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Next {
    /// Start it this way.
    Begin(Beginning),
    /// Add it first.
    Add,
    /// It lost its data: remove the old member of this identifier, then add it again.
    Replace(String),
}

/// The next step for the member at `peer_url`, from the list of `members` of another member.
fn next(members: &[Member], peer_url: &str) -> Next {
    let own = members
        .iter()
        .find(|member| member.peer_urls.iter().any(|url| url == peer_url));
    match own {
        None => Next::Add,
        Some(own) if !own.client_urls.is_empty() => Next::Replace(own.id.clone()),
        Some(own) if own.name.is_empty() => Next::Begin(Beginning::Existing),
        Some(_) => Next::Begin(Beginning::New),
    }
}

/// Finds out how `member`, which has no data, has to start, and adds it to the running cluster
/// if necessary.
pub fn prepare(root: &Root, member: &EtcdMember) -> Result<Entry> {
    let began = Instant::now();
    let schedule = Schedule::until(began + PATIENCE, PAUSE);
    let new = || Entry {
        beginning: Beginning::New,
        cluster: member.cluster.clone(),
    };
    let prepared = retried(
        "waiting for etcd's other members",
        schedule,
        || match attempt(root, member) {
            Ok(Some(members)) => Ok(Entry {
                beginning: Beginning::Existing,
                cluster: cluster_of(&members, member).map_err(transient)?,
            }),
            Ok(None) => Ok(new()),
            Err(_) if member.founds && began.elapsed() > ALONE => Ok(new()),
            Err(error) => Err(transient(error)),
        },
    );
    prepared.map_err(Failure::into_error)
}

/// The members of the running cluster, including `member`; `None` if the cluster has not started
/// yet.
fn attempt(root: &Root, member: &EtcdMember) -> Result<Option<Vec<Member>>> {
    let client = access::client(root, ETCD_CERTIFICATE, ANSWER)?;
    let members = known_members(&client, &member.others)?;
    let peer_url = peer_url(member.address);
    match next(&members, &peer_url) {
        Next::Begin(Beginning::New) => return Ok(None),
        Next::Begin(Beginning::Existing) => return Ok(Some(members)),
        Next::Add => {}
        Next::Replace(id) => {
            log::warn!(
                "etcd's member {} lost its data; replacing it by a new member, which copies the \
                 data from the others",
                member.name
            );
            change(root, &member.others, |client, url| {
                client.delete(format!("{url}/{id}"))
            })?;
        }
    }
    change(root, &member.others, |client, url| {
        let body = json!({ "peerURLs": [peer_url] }).to_string();
        client
            .post(url)
            .header("content-type", "application/json")
            .body(body)
    })?;
    known_members(&client, &member.others).map(Some)
}

/// The members in the form of `--initial-cluster`. Members that have not started have no name yet.
/// Any name does, because etcd identifies them by their URLs.
fn cluster_of(members: &[Member], own: &EtcdMember) -> Result<String> {
    let own_url = peer_url(own.address);
    let is_own = |member: &Member| member.peer_urls.contains(&own_url);
    ensure!(
        members.iter().any(is_own),
        "the member list of etcd's other members does not include {} yet",
        own.name
    );
    let mut listed = Vec::new();
    for member in members {
        let name = match member.name.as_str() {
            _ if is_own(member) => &own.name,
            "" => &member.id,
            name => name,
        };
        for url in &member.peer_urls {
            // They go into a file that systemd reads.
            let plain = |c: char| c.is_ascii_alphanumeric() || "-._:/[]".contains(c);
            ensure!(
                name.chars().all(plain) && url.chars().all(plain),
                "etcd lists a member with an invalid name or URL: {name:?} at {url:?}; find its ID \
                 with `etcdctl member list` on a master, and remove it: `etcdctl member remove ID`"
            );
            listed.push(format!("{name}={url}"));
        }
    }
    Ok(listed.join(","))
}

/// The members, from the first member that answers. A member that waits for others lists them
/// only at its port for members.
fn known_members(client: &Client, others: &[Ipv4Addr]) -> Result<Vec<Member>> {
    let ask = |address| {
        let response = http::send(client.get(format!("{}/members", peer_url(address))))?;
        serde_json::from_str(&response.text()?).context("the member list of etcd is not valid")
    };
    at_any(others, ask)
        .context("none of etcd's other members answers; TCP port 2380 has to pass between masters")
}

/// Changes the member list through one of the other members.
fn change(
    root: &Root,
    others: &[Ipv4Addr],
    request: impl Fn(&Client, &str) -> RequestBuilder,
) -> Result<()> {
    let client = access::client(root, ETCD_CERTIFICATE, CHANGE)?;
    let ask = |address| {
        let url = format!("https://{address}:2379/v2/members");
        http::send(request(&client, &url)).map(drop)
    };
    at_any(others, ask).context(
        "none of etcd's other members accepts the change of the member list; TCP port 2379 has to \
         pass between masters, and etcd needs a majority of its members",
    )
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

fn peer_url(address: Ipv4Addr) -> String {
    format!("https://{address}:2380")
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OWN: &str = "https://192.168.1.104:2380";

    fn listed(own: &str) -> Next {
        let text = format!(
            r#"[{{"id": 10276657743932975437, "peerURLs": ["https://192.168.1.102:2380"],
            "name": "server02", "clientURLs": ["https://192.168.1.102:2379"]}}{own}]"#
        );
        next(&serde_json::from_str::<Vec<Member>>(&text).unwrap(), OWN)
    }

    #[test]
    fn a_member_begins_with_the_others_that_never_ran() {
        let own = format!(r#", {{"id": 2, "peerURLs": ["{OWN}"], "name": "server04"}}"#);
        assert_eq!(listed(&own), Next::Begin(Beginning::New));
    }

    #[test]
    fn a_member_comes_into_a_cluster_that_runs_with_exactly_its_members() {
        let member = |id: &str, name: &str, url: &str| Member {
            id: id.to_owned(),
            name: name.to_owned(),
            peer_urls: vec![url.to_owned()],
            client_urls: vec![],
        };
        let own = EtcdMember {
            name: "server04".to_owned(),
            address: Ipv4Addr::new(192, 168, 1, 104),
            others: vec![],
            cluster: "not looked at".to_owned(),
            founds: false,
        };
        let first = member("1", "server02", "https://192.168.1.102:2380");
        let (added, third) = (
            member("2", "", OWN),
            member("3", "", "https://192.168.1.105:2380"),
        );
        let all = [first.clone(), added, third.clone()];
        assert_eq!(
            cluster_of(&all, &own).unwrap(),
            "server02=https://192.168.1.102:2380,server04=https://192.168.1.104:2380,\
             3=https://192.168.1.105:2380"
        );
        assert!(cluster_of(&[first, third], &own).is_err());
        let hostile = member("4", "x\nETCD_LISTEN_CLIENT_URLS=http://0.0.0.0:2379", OWN);
        let hostile = Member {
            peer_urls: vec![OWN.to_owned(), "y z".to_owned()],
            ..hostile
        };
        assert!(cluster_of(&[hostile], &own).is_err());
    }

    #[test]
    fn a_member_that_lost_its_data_is_replaced_and_one_that_was_added_begins() {
        let lost = format!(
            r#", {{"id": 255, "peerURLs": ["{OWN}"], "name": "server04",
            "clientURLs": ["https://192.168.1.104:2379"]}}"#
        );
        assert_eq!(listed(&lost), Next::Replace("ff".to_owned()));
        let added = format!(r#", {{"id": "2f", "peerURLs": ["{OWN}"], "name": ""}}"#);
        assert_eq!(listed(&added), Next::Begin(Beginning::Existing));
        assert_eq!(listed(""), Next::Add);
    }
}
