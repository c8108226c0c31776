//! How a member joins etcd's cluster: together with the others when the cluster starts for the
//! first time, or as the replacement of a member that lost its data.

use core::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::clients::etcd::{Member, change, known_members, move_member, peer_url};
use crate::clients::mtls;
use crate::components::ETCD_CERTIFICATE;
use crate::desired::EtcdMember;
use crate::nodespec::Profile;
use crate::sys::retry::transient;
use crate::sys::root::Root;
use crate::sys::waiting::awaited;

/// How long a member may take to answer. A member that waits for others does not answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long to wait for the other members.
const PATIENCE: Duration = Duration::from_secs(900);
/// How long to wait until etcd takes a new address.
const MOVED: Duration = Duration::from_secs(300);
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
    let new = || Entry {
        beginning: Beginning::New,
        cluster: member.cluster.clone(),
    };
    awaited("etcd's other members", PATIENCE, PAUSE, || {
        match attempt(root, member) {
            Ok(Some(members)) => Ok(Entry {
                beginning: Beginning::Existing,
                cluster: cluster_of(&members, member).map_err(transient)?,
            }),
            Ok(None) => Ok(new()),
            Err(_) if member.founds && began.elapsed() > ALONE => Ok(new()),
            Err(error) => Err(transient(error)),
        }
    })
}

/// Tells etcd's cluster the new address of the master called `name`, as soon as a member answers: one of the `others`, or
/// itself. Until then the others look for it where it was.
pub fn announce(
    root: &Root,
    profile: Profile,
    (name, address): (&str, Ipv4Addr),
    others: &[Ipv4Addr],
) -> Result<()> {
    let through: Vec<Ipv4Addr> = others.iter().copied().chain([address]).collect();
    log::info!("tell etcd the new address of its member {name}: {address}");
    awaited("etcd", MOVED, PAUSE, || {
        move_member(root, profile, (name, address), &through).map_err(transient)
    })
}

/// The members of the running cluster, including `member`; `None` if the cluster has not started
/// yet.
fn attempt(root: &Root, member: &EtcdMember) -> Result<Option<Vec<Member>>> {
    let client = mtls::client(root, ETCD_CERTIFICATE, ANSWER)?;
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
                 with `appliance etcdctl member list` on a master, and remove it: `appliance etcdctl member remove ID`"
            );
            listed.push(format!("{name}={url}"));
        }
    }
    Ok(listed.join(","))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use core::net::Ipv4Addr;

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
