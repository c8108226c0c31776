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
    let names = root.read(paths::JOIN_NAMES)?;
    let names: Option<NodeNames> = names
        .map(|bytes| serde_json::from_slice(&bytes))
        .transpose()
        .context(paths::JOIN_NAMES)?;
    let Some(names) = names.filter(|names| names.masters.len() > 1) else {
        return Ok((Tokens::new(&dir), Nodes::new(&dir)));
    };
    let path = paths::key("ca");
    let pem = root.read(&path)?;
    let pem = pem.with_context(|| format!("{path} is missing; run `appliance install`"))?;
    let authority = key::read(&pem).with_context(|| path.clone())?;
    let mut members: Vec<_> = names.masters.iter().map(|master| master.address).collect();
    // The member on this machine comes first.
    members.sort_by_key(|address| *address != names.address);
    let etcd = Etcd::new(root, members, &authority)?;
    Ok((
        Tokens::shared(&dir, etcd.clone()),
        Nodes::shared(&dir, etcd),
    ))
}
