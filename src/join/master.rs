//! The signer of a master: what it reads from the disk, and how it follows the other masters.

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
use crate::nodespec::token::TokenId;
use crate::paths;
use crate::pki::key;
use crate::records::names::NodeNames;
use crate::sys::process::System;
use crate::sys::root::Root;

/// How often a master looks what the others noted. A token that one made serves at all after that.
const LOOK: Duration = Duration::from_secs(15);

/// Signs for the nodes that join the master at `root`, at the socket `socket`, which belongs to
/// `user`. Does not return while it can serve.
pub fn sign(socket: &Path, user: &str, root: &Root) -> Result<()> {
    let read = |path: &str| {
        let bytes = root.read(path)?;
        bytes
            .with_context(|| format!("{path} is missing; `appliance install` on a master makes it"))
    };
    let text = |path: &str| String::from_utf8(read(path)?).with_context(|| path.to_owned());
    let key_path = paths::key("ca");
    let master_keys = MasterKeys {
        authority: text(&key_path)?.into(),
        service_account: text(paths::SERVICE_ACCOUNT_PRIVATE)?.into(),
        tokens: text(paths::TOKEN_FILE)?.into(),
    };
    let key = key::read(master_keys.authority.as_bytes()).with_context(|| key_path.clone())?;
    let names: NodeNames =
        serde_json::from_slice(&read(paths::JOIN_NAMES)?).context(paths::JOIN_NAMES)?;
    let masters = names.masters.clone();
    let cluster = Cluster {
        authority: text(paths::CA_CERTIFICATE)?,
        key,
        master_keys,
        names,
    };
    let (tokens, nodes) = registry::open(root)?;
    if masters.len() > 1 {
        let (tokens, nodes) = (tokens.clone(), nodes.clone());
        thread::spawn(move || follow_other_masters(&tokens, &nodes));
    }
    let ask = Ask {
        node: &|name| cluster::presence(root, name),
        master: &|name| {
            let master = masters.iter().find(|master| master.name == name);
            let master = master.with_context(|| format!("{name} is no master"))?;
            cluster::master_presence(root, master.address)
        },
    };
    let mut gate = Gate::new(cluster, tokens, nodes, ask);
    signer::serve(socket, Some(user), &mut gate)
}

/// Takes over what other masters note, for ever, and lets workers in again when one of them has
/// made a token: the service that does so ends when there is none.
fn follow_other_masters(tokens: &Tokens, nodes: &Nodes) {
    let mut served = tokens.live(OffsetDateTime::now_utc()).unwrap_or_default();
    let mut was_told = false;
    loop {
        let outcome = take_over(tokens, nodes, &mut served);
        if let Err(error) = &outcome
            && !was_told
        {
            log::warn!("what the other masters noted is not known here: {error:#}");
        }
        was_told = outcome.is_err();
        thread::sleep(LOOK);
    }
}

fn take_over(tokens: &Tokens, nodes: &Nodes, served: &mut Vec<TokenId>) -> Result<()> {
    tokens.all()?;
    nodes.all()?;
    let live = tokens.live(OffsetDateTime::now_utc())?;
    if live.iter().any(|id| !served.contains(id)) {
        log::info!("another master made a token: workers are let in here too");
        systemd::start_without_waiting(&System, "appliance-join", false)?;
    }
    *served = live;
    Ok(())
}
