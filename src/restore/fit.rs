//! Whether a backup can be restored to a machine.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, bail};

use super::{files, identifier, old_addresses, record};
use crate::language::tr;
use crate::nodespec::ports::ETCD_PEERS;
use crate::nodespec::{NodeSpec, Refused};
use crate::observe::records;
use crate::paths::STATE;
use crate::records::backup::Manifest;
use crate::records::restored::Phase;
use crate::sys::clock::moment;
use crate::sys::root::Root;

/// How long a master may take to accept a connection.
const KNOCK: Duration = Duration::from_secs(3);

/// What is to be done on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Todo {
    /// Place the files, then install.
    Place,
    /// An earlier run has placed them: install.
    Install,
}

/// What is to be done at `root` to restore the backup of `manifest`.
///
/// # Errors
/// [`Refused`] if the machine has data or keys, unless `replace`; or if another restoration was interrupted.
pub fn todo(root: &Root, manifest: &Manifest, replace: bool) -> Result<Todo> {
    let is_node = records::state(root)?.is_some();
    if let Some(before) = record(root)?.filter(|_| !is_node && !replace) {
        let is_same = before.backup == identifier(manifest)?;
        match before.phase {
            Phase::Placed if is_same => return Ok(Todo::Install),
            Phase::Begun | Phase::Placing if is_same => return Ok(Todo::Place),
            Phase::Begun | Phase::Placing => {
                bail!(Refused::new(tr!(
                    "another restoration was interrupted here, of a backup that was made at {}; run it again, or use \
                     `--replace`, which moves aside what it has written",
                    moment(before.created)
                )));
            }
            Phase::Placed => {}
        }
    }
    let mut found = files::occupied(root)?;
    if is_node {
        found.push(STATE);
    }
    if found.is_empty() || replace {
        return Ok(Todo::Place);
    }
    bail!(Refused::new(tr!(
        "this machine has a cluster already ({}); restore to a new machine, or use `--replace`, which moves its data and \
         keys aside",
        found.join(", ")
    )))
}

/// Whether the master has the name and the address of the one that made the backup. Then it gets its settings, too.
pub fn is_same_master(spec: &NodeSpec, manifest: &Manifest) -> bool {
    let old = &manifest.master;
    *spec.name == old.node && spec.address.to_string() == old.address
}

/// Refuses a specification that does not fit the cluster of the backup: its data would be of no use.
pub fn check_spec(spec: &NodeSpec, manifest: &Manifest) -> Result<(), Refused> {
    let old = &manifest.master;
    let mut problems = Vec::new();
    if !spec.role.is_master() {
        problems.push(tr!("{} says that this machine is a {}, and a backup is restored to a master; add `--role {}`", spec.role.origin, *spec.role, old.role));
    }
    let cluster = &spec.cluster;
    let facts = [
        (
            "profile",
            Some(&old.profile),
            spec.profile.to_string(),
            &spec.profile.origin,
        ),
        (
            "podCIDR",
            old.pod_cidr.as_ref(),
            cluster.pod_cidr.to_string(),
            &cluster.pod_cidr.origin,
        ),
        (
            "serviceCIDR",
            old.service_cidr.as_ref(),
            cluster.service_cidr.to_string(),
            &cluster.service_cidr.origin,
        ),
    ];
    for (name, was, now, origin) in facts {
        if let Some(was) = was.filter(|was| **was != now) {
            problems.push(tr!("the cluster of the backup has {name} {was}, and {origin} says {now}; set it to {was}", name, was, origin, now));
        }
    }
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Refused { problems }),
    }
}

/// Refuses to bring back a cluster beside one that still runs: both would have the same keys.
pub fn refuse_beside(spec: &NodeSpec, manifest: &Manifest) -> Result<(), Refused> {
    let mut masters = old_addresses(spec, manifest);
    masters.extend(spec.other_masters());
    let answers = |address: &core::net::Ipv4Addr| {
        let port = SocketAddr::from((*address, ETCD_PEERS));
        TcpStream::connect_timeout(&port, KNOCK).is_ok()
    };
    let alive: Vec<String> = masters
        .iter()
        .filter(|address| answers(address))
        .map(ToString::to_string)
        .collect();
    if alive.is_empty() {
        return Ok(());
    }
    Err(Refused::new(tr!(
        "etcd still answers at {} (TCP {ETCD_PEERS}): the cluster of the backup is not lost, and two clusters with \
             the same keys would take nodes from each other. To replace one of its masters, boot a new VM in its place \
             (`appliance help high-availability`). To restore anyway, switch these machines off first",
        alive.join(", "),
        ETCD_PEERS
    )))
}
