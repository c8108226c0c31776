//! The signer of a master: the files it reads, and how it follows the records of tokens and nodes.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use time::OffsetDateTime;

use super::gate::{Ask, Cluster, Gate};
use super::nodes::Nodes;
use super::sealed::MasterKeys;
use super::tokens::Tokens;
use super::{cluster, registry, signer};
use crate::clients::systemd;
use crate::components::{AUTHORITY, ETCD_AUTHORITY};
use crate::formats;
use crate::nodespec::token::TokenId;
use crate::paths;
use crate::pki::{account, key};
use crate::records::names::NodeNames;
use crate::sys::process::System;
use crate::sys::root::Root;

/// How often a master reads the records. Within this time, all masters accept a token
/// that one of them made.
const LOOK: Duration = Duration::from_secs(15);

/// Signs for the nodes that join the master at `root`, at the socket `socket`, which belongs to
/// `user`. Does not return while it can serve.
pub fn sign(socket: &Path, user: &str, root: &Root) -> Result<()> {
    let read = |path: &str| {
        let bytes = root.read(path)?;
        bytes.with_context(|| format!("{path} is missing; run `appliance install` on this master"))
    };
    let text = |path: &str| String::from_utf8(read(path)?).with_context(|| path.to_owned());
    let key_path = paths::key(AUTHORITY);
    let master_keys = MasterKeys {
        authority: text(&key_path)?.into(),
        etcd_authority: text(&paths::certificate(ETCD_AUTHORITY))?,
        etcd_key: text(&paths::key(ETCD_AUTHORITY))?.into(),
        service_account: text(paths::SERVICE_ACCOUNT_PRIVATE)?.into(),
        verifying: Some(text(paths::SERVICE_ACCOUNT_PUBLIC)?)
            .filter(|text| account::verifying(text).is_ok_and(|keys| keys.len() > 1)),
        tokens: text(paths::TOKEN_FILE)?.into(),
        encryption: text(paths::ENCRYPTION)?.into(),
    };
    let key = key::read(master_keys.authority.as_bytes()).with_context(|| key_path.clone())?;
    let names: NodeNames =
        formats::NAMES.read(&read(paths::JOIN_NAMES)?, || paths::JOIN_NAMES.to_owned())?;
    let masters = names.masters.clone();
    let cluster = Cluster {
        authority: text(paths::CA_CERTIFICATE)?,
        key,
        master_keys,
        names,
    };
    let (tokens, nodes) = registry::open(root)?;
    let records = (tokens.clone(), nodes.clone());
    let follower = thread::Builder::new().spawn(move || follow_records(&records.0, &records.1));
    follower.context("cannot follow the records of tokens and nodes")?;
    let ask = Ask {
        node: &|name| cluster::presence(root, name),
        master: &|name| {
            let master = masters.iter().find(|master| master.name == name);
            let master = master.with_context(|| format!("the settings name no master {name}"))?;
            cluster::master_presence(root, master.address)
        },
    };
    let followers = registry::followers(root)?;
    let gate = Gate::new(cluster, tokens, nodes, ask).keeping(followers);
    let mut gate = gate.offering(registry::rollouts(root)?);
    signer::serve(socket, Some(user), &mut gate)
}

/// Reads the records of all masters, without end. When a token has become valid, it starts the join service here again,
/// which ends when no token is valid: another master made the token, or the clock was set back.
fn follow_records(tokens: &Tokens, nodes: &Nodes) {
    let mut served = tokens.live(OffsetDateTime::now_utc()).unwrap_or_default();
    let mut was_told = false;
    loop {
        let outcome = take_over(tokens, nodes, &mut served);
        if let Err(error) = &outcome
            && !was_told
        {
            log::warn!("cannot read the records of tokens and nodes: {error:#}");
        }
        was_told = outcome.is_err();
        thread::sleep(LOOK);
    }
}

fn take_over(tokens: &Tokens, nodes: &Nodes, served: &mut Vec<TokenId>) -> Result<()> {
    tokens.all()?;
    nodes.all()?;
    let live = tokens.live(OffsetDateTime::now_utc())?;
    for id in live.iter().filter(|id| !served.contains(id)) {
        log::info!("token {id} is valid: nodes can join at this master");
        systemd::start_without_waiting(&System, "appliance-join", false)?;
    }
    *served = live;
    Ok(())
}
