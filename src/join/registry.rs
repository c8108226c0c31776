//! Opens a master's records of tokens and nodes, in a file or in etcd.

use anyhow::{Context, Result};

use super::nodes::Nodes;
use super::shared::Etcd;
use super::tokens::Tokens;
use crate::paths;
use crate::pki::key;
use crate::records::names::NodeNames;
use crate::sys::root::Root;

/// The tokens and nodes of the master at `root`. If there are several masters, they are in etcd.
pub fn open(root: &Root) -> Result<(Tokens, Nodes)> {
    let dir = root.resolve(paths::JOIN_DIR)?;
    Ok(match etcd(root)? {
        None => (Tokens::new(&dir), Nodes::new(&dir)),
        Some(etcd) => (
            Tokens::shared(&dir, etcd.clone()),
            Nodes::shared(&dir, etcd),
        ),
    })
}

/// The names and addresses that the master at `root` knows; `None` before its installation.
pub fn names(root: &Root) -> Result<Option<NodeNames>> {
    let names = root.read(paths::JOIN_NAMES)?;
    names
        .map(|bytes| serde_json::from_slice(&bytes))
        .transpose()
        .context(paths::JOIN_NAMES)
}

/// The records in etcd, if the master at `root` is one of several.
pub fn etcd(root: &Root) -> Result<Option<Etcd>> {
    let Some(names) = names(root)?.filter(|names| names.masters.len() > 1) else {
        return Ok(None);
    };
    let path = paths::key("ca");
    let pem = root.read(&path)?;
    let pem = pem.with_context(|| format!("{path} is missing; run `appliance install`"))?;
    let authority = key::read(&pem).with_context(|| path.clone())?;
    let mut members: Vec<_> = names.masters.iter().map(|master| master.address).collect();
    // The member on this machine comes first.
    members.sort_by_key(|address| *address != names.address);
    Etcd::new(root, members, &authority).map(Some)
}
