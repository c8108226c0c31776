//! `appliance node`.

use anyhow::{Result, bail};

use super::token::master;
use super::{Outcome, print};
use crate::cli::{Node as Command, Output};
use crate::join::registry;
use crate::sys::out::say;

/// Lists the nodes that joined, or forgets one.
pub fn run(command: &Command) -> Result<Outcome> {
    let (_, nodes) = registry::open(&master()?)?;
    match command {
        Command::List { output } => {
            let all = nodes.all()?;
            match output {
                Output::Text => print::nodes(&all),
                Output::Json => say!("{}", serde_json::to_string_pretty(&all)?),
            }
        }
        Command::Release { name } => {
            if !nodes.release(name)? {
                bail!("no node {name} joined here; `appliance node list` shows those that did");
            }
            log::info!("another machine may join as {name}, once the cluster has no such node");
        }
    }
    Ok(Outcome::Done)
}
