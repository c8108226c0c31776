//! A master among several: it founds the cluster, or gets from another master what all share.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use time::OffsetDateTime;

use super::ask::{at_any_master, authority, patiently, token, write_keys};
use super::{Context, Joining, OnDisk};
use crate::components;
use crate::join::client::JoinedMaster;
use crate::nodespec::Refused;
use crate::nodespec::token::Token;
use crate::paths::{self, ETCD_MEMBER_DATA};
use crate::pki::{self, Held};
use crate::sys::retry::{Failure, transient};

/// How long another master may take to accept a connection.
const KNOCK: Duration = Duration::from_secs(3);

/// What a knock at another master's door tells of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knock {
    /// It serves nodes: there is a cluster.
    Open,
    /// The machine is there, and serves none.
    Closed,
    /// Nobody answers.
    Silent,
}

/// What a founding master does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Founding {
    /// There is a cluster: it joins that.
    Join,
    /// Most of the masters are there, and none has a cluster: it founds one.
    Found,
    /// Too few of the others answer to know.
    Wait,
}

/// What `knocks` at all other masters mean. A cluster with a majority up has at least one member
/// among any majority of its masters: where such a majority says that there is none, there is none.
fn founding(knocks: &[Knock]) -> Founding {
    if knocks.contains(&Knock::Open) {
        return Founding::Join;
    }
    let masters = knocks.len() + 1;
    let closed = knocks
        .iter()
        .filter(|knock| **knock == Knock::Closed)
        .count();
    if (closed + 1) * 2 > masters {
        Founding::Found
    } else {
        Founding::Wait
    }
}

/// Whether this master lacks keys that it shares with others.
pub fn lacks_shared_keys(context: &Context<'_>) -> Result<bool> {
    let spec = context.spec;
    if !(spec.role.is_master() && spec.has_several_masters()) {
        return Ok(false);
    }
    let key = paths::key("ca");
    for path in [
        paths::CA_CERTIFICATE,
        &key,
        paths::SERVICE_ACCOUNT_PRIVATE,
        paths::TOKEN_FILE,
    ] {
        if context
            .root
            .read(path)?
            .is_none_or(|bytes| bytes.is_empty())
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The keys that all masters share, from another one. `None` if this machine has them, or founds
/// the cluster.
pub fn shared_keys(context: &Context<'_>, joining: Joining) -> Result<Option<JoinedMaster>> {
    let Joining::Now(limit) = joining else {
        return Ok(None);
    };
    if !lacks_shared_keys(context)? {
        return Ok(None);
    }
    refuse_foreign_data(context)?;
    let request = [components::etcd_member(
        &context.spec.name,
        *context.spec.address,
    )];
    let held = pki::hold(
        &request,
        &OnDisk(context.root),
        None,
        OffsetDateTime::now_utc(),
    );
    let held = held.map_err(Refused::because)?;
    write_keys(context, &held)?;
    patiently(limit, || attempt(context, &held))
}

/// Data of etcd that came from elsewhere must neither be served to this cluster nor be lost.
fn refuse_foreign_data(context: &Context<'_>) -> Result<()> {
    if !context.root.exists(ETCD_MEMBER_DATA)? || context.root.exists(paths::CA_CERTIFICATE)? {
        return Ok(());
    }
    bail!(Refused {
        problems: vec![format!(
            "{ETCD_MEMBER_DATA} holds data, and this machine has no certificate of its cluster: it \
             is another cluster's. Move it away to join this one"
        )],
    })
}

fn attempt(context: &Context<'_>, held: &[Held<'_>]) -> Result<Option<JoinedMaster>, Failure> {
    if context.spec.is_founder() {
        let others = context.spec.other_masters();
        let port = context.spec.join.renew_port();
        let knocks: Vec<Knock> = others
            .iter()
            .map(|&address| knock(SocketAddr::from((address, port))))
            .collect();
        match founding(&knocks) {
            Founding::Found => {
                log::info!("no other master has a cluster: this one founds it");
                return Ok(None);
            }
            Founding::Wait => {
                let named: Vec<String> = others.iter().map(ToString::to_string).collect();
                return Err(transient(anyhow!(
                    "too few of the other masters ({}) answer to know whether there is a cluster",
                    named.join(", ")
                )));
            }
            Founding::Join => {}
        }
    }
    join(context, held, token(context)?).map(Some)
}

fn join(context: &Context<'_>, held: &[Held<'_>], token: &Token) -> Result<JoinedMaster, Failure> {
    let authority = authority(context.root).map_err(transient)?;
    at_any_master(context, authority.as_deref(), |master| {
        let joined = master.join_as_master(token, held)?;
        log::info!("{master} has let this master in");
        Ok(joined)
    })
}

fn knock(address: SocketAddr) -> Knock {
    match TcpStream::connect_timeout(&address, KNOCK) {
        Ok(_) => Knock::Open,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Knock::Closed,
        Err(_) => Knock::Silent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_founded_only_where_most_masters_know_of_none() {
        use Knock::{Closed, Open, Silent};
        assert_eq!(founding(&[Closed, Closed]), Founding::Found);
        assert_eq!(founding(&[Closed, Silent]), Founding::Found);
        assert_eq!(founding(&[Silent, Silent]), Founding::Wait);
        assert_eq!(founding(&[Closed, Open]), Founding::Join);
        assert_eq!(founding(&[Closed, Silent, Silent, Silent]), Founding::Wait);
        assert_eq!(founding(&[Closed, Closed, Silent, Silent]), Founding::Found);
    }
}
