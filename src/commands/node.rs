//! `appliance node`.

use anyhow::{Result, bail};

use super::token::master;
use super::{Outcome, print};
use crate::cli::{NodeCommand, Output};
use crate::join::registry;
use crate::sys::out::say;

/// Lists the nodes that joined, or removes the record of one.
pub fn run(command: &NodeCommand) -> Result<Outcome> {
    let (_, nodes) = registry::open(&master()?)?;
    match command {
        NodeCommand::List { output } => {
            let all = nodes.all()?;
            match output {
                Output::Text => print::nodes(&all),
                Output::Json => say!("{}", serde_json::to_string_pretty(&all)?),
            }
        }
        NodeCommand::Release { name } => {
            if !nodes.release(name)? {
                bail!("no node {name} joined here; see the names with `appliance node list`");
            }
            log::info!(
                "another machine may now join with the name {name}; if the cluster still has the \
                 old node, run `kubectl delete node {name}`"
            );
        }
    }
    Ok(Outcome::Done)
}
