//! `appliance node`.

use anyhow::{Result, bail};

use super::documents::{Guarded, Nodes};
use super::token::master;
use super::{Outcome, not_installed, print, role};
use crate::apply::records as notes;
use crate::cli::{NodeCommand, Output};
use crate::join::registry;
use crate::language::tr;
use crate::nodespec::Role;
use crate::observe::records;
use crate::observe::user::check_user;
use crate::records::machine::Likeness;
use crate::sys::host;
use crate::sys::lock::Lock;
use crate::sys::root::Root;

/// Lists the nodes that joined, removes the record of one, changes the role of this one, or looks whether this machine is a
/// copy.
pub fn run(command: &NodeCommand, required_key: Option<&str>, output: Output) -> Result<Outcome> {
    match command {
        NodeCommand::Promote(new) => return role::run(new, Role::Master, required_key, output),
        NodeCommand::Demote(new) => return role::run(new, Role::Worker, required_key, output),
        NodeCommand::List => {
            let (_, nodes) = registry::open(&master()?)?;
            let all = Nodes(nodes.all()?);
            print::result(output, &all, |all| print::nodes(&all.0))?;
        }
        NodeCommand::Release { name, waiting } => {
            let root = master()?;
            let _lock = Lock::take(&root, waiting.patience())?;
            let (_, nodes) = registry::open(&root)?;
            if !nodes.release(name)? {
                bail!(tr!(
                    "no node {name} joined here; see the names with `appliance node list`",
                    name
                ));
            }
            let released = tr!(
                "another machine may now join with the name {name}; if the cluster still has the \
                 old node, run `kubectl delete node {name}`",
                name
            );
            print::done(released, output)?;
        }
        NodeCommand::Guard => return guard(output),
    }
    Ok(Outcome::Done)
}

fn guard(output: Output) -> Result<Outcome> {
    let root = Root::open("/".as_ref())?;
    check_user(&root)?;
    let Some(recorded) = records::machine(&root)? else {
        return Err(not_installed(&root));
    };
    let uuid = host::product_uuid();
    let addresses = host::addresses()?;
    let likeness = recorded.likeness(uuid.as_deref(), &addresses);
    notes::mark_copy(&root, likeness == Likeness::Copy)?;
    let message = match likeness {
        Likeness::Same => tr!("this is the machine on which the node was installed"),
        Likeness::Replacement => tr!(
            "this machine replaces the one on which the node was installed: it has its address {}, \
             but another UUID",
            recorded.address
        ),
        Likeness::Copy => tr!("{}; no service of the node starts", recorded.copied()),
    };
    let document = Guarded { likeness, message };
    print::result(output, &document, |document| match likeness {
        Likeness::Same => log::info!("{}", document.message),
        Likeness::Replacement => log::warn!("{}", document.message),
        Likeness::Copy => log::error!("{}", document.message),
    })?;
    Ok(match likeness {
        Likeness::Copy => Outcome::Unsound,
        Likeness::Same | Likeness::Replacement => Outcome::Done,
    })
}
