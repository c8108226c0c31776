//! Opens a master's records of tokens and nodes, in a file or in etcd.

use core::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result};
use rcgen::KeyPair;

use super::followers::Followers;
use super::nodes::Nodes;
use super::rollout::Rollouts;
use super::shared::Etcd;
use super::store::is_away;
use super::tokens::Tokens;
use crate::formats;
use crate::paths;
use crate::pki::key;
use crate::records::names::NodeNames;
use crate::sys::root::Root;

/// The tokens and nodes of the master at `root`. If there are several masters, they are in etcd. If there were several
/// and this is the only one now, it takes them home first.
///
/// # Errors
/// If a file is not valid, or if the records have to come home and etcd does not answer.
pub fn open(root: &Root) -> Result<(Tokens, Nodes)> {
    let dir = root.resolve(paths::JOIN_DIR)?;
    Ok(match etcd(root)? {
        None => {
            take_home(root, &dir)?;
            (Tokens::new(&dir), Nodes::new(&dir))
        }
        Some(etcd) => (
            Tokens::shared(&dir, etcd.clone()),
            Nodes::shared(&dir, etcd),
        ),
    })
}

fn take_home(root: &Root, dir: &Path) -> Result<()> {
    let Some(names) = names(root)?.filter(|_| is_away(dir)) else {
        return Ok(());
    };
    let etcd = etcd_of(root, vec![names.address])?;
    Tokens::shared(dir, etcd.clone()).take_home()?;
    Nodes::shared(dir, etcd.clone()).take_home()?;
    Followers::shared(dir, etcd.clone()).take_home()?;
    Rollouts::new(dir, Some(etcd)).take_home()
}

/// What nodes of the cluster of the master at `root` report about the authorities that they took.
pub fn followers(root: &Root) -> Result<Followers> {
    let dir = root.resolve(paths::JOIN_DIR)?;
    Ok(match etcd(root)? {
        None => Followers::new(&dir),
        Some(etcd) => Followers::shared(&dir, etcd),
    })
}

/// The plan by which the nodes of the cluster of the master at `root` get another bundle.
pub fn rollouts(root: &Root) -> Result<Rollouts> {
    let dir = root.resolve(paths::JOIN_DIR)?;
    Ok(Rollouts::new(&dir, etcd(root)?))
}

/// The names and addresses that the master at `root` knows; `None` before its installation.
pub fn names(root: &Root) -> Result<Option<NodeNames>> {
    let names = root.read(paths::JOIN_NAMES)?;
    names
        .map(|bytes| formats::NAMES.read(&bytes, || paths::JOIN_NAMES.to_owned()))
        .transpose()
}

/// The records in etcd, if the master at `root` is one of several.
pub fn etcd(root: &Root) -> Result<Option<Etcd>> {
    let Some(names) = names(root)?.filter(|names| names.masters.len() > 1) else {
        return Ok(None);
    };
    let mut members: Vec<_> = names.masters.iter().map(|master| master.address).collect();
    // The member on this machine comes first.
    members.sort_by_key(|address| *address != names.address);
    etcd_of(root, members).map(Some)
}

/// The records in etcd's cluster with these members.
fn etcd_of(root: &Root, members: Vec<Ipv4Addr>) -> Result<Etcd> {
    let own = authority_key(root, &paths::key("ca"))?;
    let own =
        own.with_context(|| format!("{} is missing; run `appliance install`", paths::key("ca")))?;
    let mut keys = vec![own];
    // While a rotation replaces the CA, other masters may have another key.
    for path in [paths::NEXT_AUTHORITY_KEY, paths::PREVIOUS_AUTHORITY_KEY] {
        let key = authority_key(root, path)?;
        let is_new = |key: &KeyPair| {
            let known = |other: &KeyPair| other.serialize_der() == key.serialize_der();
            !keys.iter().any(known)
        };
        if let Some(key) = key.filter(is_new) {
            keys.push(key);
        }
    }
    Etcd::new(root, members, &keys)
}

fn authority_key(root: &Root, path: &str) -> Result<Option<KeyPair>> {
    let pem = root.read(path)?.filter(|pem| !pem.is_empty());
    let key = pem.map(|pem| key::read(&pem)).transpose();
    key.with_context(|| path.to_owned())
}
