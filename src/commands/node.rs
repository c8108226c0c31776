//! `appliance node`.

use anyhow::{Result, bail};

use super::token::master;
use super::{Outcome, not_installed, print};
use crate::apply::records as notes;
use crate::cli::{NodeCommand, Output};
use crate::join::registry;
use crate::observe::records;
use crate::observe::user::check_user;
use crate::records::machine::Likeness;
use crate::sys::host;
use crate::sys::lock::Lock;
use crate::sys::out::say;
use crate::sys::root::Root;

/// Lists the nodes that joined, removes the record of one, or looks whether this machine is a copy.
pub fn run(command: &NodeCommand) -> Result<Outcome> {
    match command {
        NodeCommand::List { output } => {
            let (_, nodes) = registry::open(&master()?)?;
            let all = nodes.all()?;
            match output {
                Output::Text => print::nodes(&all),
                Output::Json => say!("{}", serde_json::to_string_pretty(&all)?),
            }
        }
        NodeCommand::Release { name, waiting } => {
            let root = master()?;
            let _lock = Lock::take(&root, waiting.patience())?;
            let (_, nodes) = registry::open(&root)?;
            if !nodes.release(name)? {
                bail!("no node {name} joined here; see the names with `appliance node list`");
            }
            log::info!(
                "another machine may now join with the name {name}; if the cluster still has the \
                 old node, run `kubectl delete node {name}`"
            );
        }
        NodeCommand::Guard => return guard(),
    }
    Ok(Outcome::Done)
}

fn guard() -> Result<Outcome> {
    let root = Root::open("/".as_ref())?;
    check_user(&root)?;
    let Some(recorded) = records::machine(&root)? else {
        return Ok(not_installed());
    };
    let uuid = host::product_uuid();
    let addresses = host::addresses()?;
    let likeness = recorded.likeness(uuid.as_deref(), &addresses);
    notes::mark_copy(&root, likeness == Likeness::Copy)?;
    match likeness {
        Likeness::Same => log::info!("this is the machine on which the node was installed"),
        Likeness::Replacement => log::warn!(
            "this machine replaces the one on which the node was installed: it has its address {}, \
             but another UUID",
            recorded.address
        ),
        Likeness::Copy => {
            log::error!("{}; no service of the node starts", recorded.copied());
            return Ok(Outcome::Unsound);
        }
    }
    Ok(Outcome::Done)
}
