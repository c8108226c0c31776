//! One of several masters: it founds the cluster, or fetches the shared keys from another master.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use time::OffsetDateTime;

use super::ask::{at_any_master, authority, keep_told, patiently, token, write_keys};
use super::{Context, Joining, OnDisk, has_content};
use crate::components::{self, AUTHORITY, ETCD_AUTHORITY};
use crate::join::client::JoinedMaster;
use crate::language::tr;
use crate::nodespec::Refused;
use crate::nodespec::token::Token;
use crate::paths::{self, CA_CERTIFICATE, ETCD_MEMBER_DATA};
use crate::pki::{self, Held};
use crate::sys::retry::{Failure, permanent, transient};

/// How long another master may take to accept a connection.
const KNOCK: Duration = Duration::from_secs(3);

/// The result of a connection attempt to another master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knock {
    /// It accepts connections from nodes: there is a cluster.
    Open,
    /// The machine is up, but refuses the connection.
    Closed,
    /// No answer.
    Silent,
}

/// What a founding master does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Founding {
    /// There is a cluster: it joins.
    Join,
    /// Most of the masters are up, and none has a cluster: it founds one.
    Found,
    /// Too few of the others answer to decide.
    Wait,
}

/// Decides from the connection attempts to all other masters. Any majority of the masters includes
/// at least one member of a running cluster: if a majority has no cluster, then none exists.
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

/// Whether this master lacks keys that all masters share.
pub fn lacks_shared_keys(context: &Context<'_>) -> Result<bool> {
    let spec = context.spec;
    if !(spec.role.is_master() && spec.has_several_masters()) {
        return Ok(false);
    }
    for path in [
        paths::certificate(AUTHORITY),
        paths::key(AUTHORITY),
        paths::certificate(ETCD_AUTHORITY),
        paths::key(ETCD_AUTHORITY),
        paths::SERVICE_ACCOUNT_PRIVATE.to_owned(),
        paths::TOKEN_FILE.to_owned(),
        paths::ENCRYPTION.to_owned(),
    ] {
        if !has_content(context.root, &path)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The keys that all masters share, fetched from another master. `None` if this machine has them,
/// or if it founds the cluster.
pub fn shared_keys(context: &Context<'_>, joining: Joining) -> Result<Option<JoinedMaster>> {
    if !lacks_shared_keys(context)? {
        return Ok(None);
    }
    refuse_foreign_data(context)?;
    let Joining::Now(limit) = joining else {
        return Ok(None);
    };
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
    if !context.spec.is_founder() {
        // Only the founder may go on without a token. Nothing is written before.
        token(context).map_err(Failure::into_error)?;
    }
    write_keys(context, &held)?;
    let joined = patiently(limit, || attempt(context, &held))?;
    keep_told(context, joined.as_ref().and_then(|joined| joined.ipip))?;
    Ok(joined)
}

/// Refuses etcd data of another cluster: it must neither be served to this cluster nor be lost.
fn refuse_foreign_data(context: &Context<'_>) -> Result<()> {
    if !context.root.exists(ETCD_MEMBER_DATA)? || context.root.exists(CA_CERTIFICATE)? {
        return Ok(());
    }
    bail!(Refused::new(tr!(
        "{ETCD_MEMBER_DATA} holds etcd data, but this machine has no {CA_CERTIFICATE}: the \
             data belongs to another cluster. To join this cluster, move it away: \
             `mv {ETCD_MEMBER_DATA} {ETCD_MEMBER_DATA}.old`, then run `appliance install`",
        ETCD_MEMBER_DATA,
        CA_CERTIFICATE
    )))
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
                refuse_to_found_again(context)?;
                log::info!("no other master has a cluster; this master creates it");
                return Ok(None);
            }
            Founding::Wait => {
                let named: Vec<String> = others.iter().map(ToString::to_string).collect();
                return Err(transient(anyhow!(tr!(
                    "too few of the other masters ({}) answer at TCP port {port}, so it is unknown \
                     whether a cluster exists; boot them, and allow this port between masters",
                    named.join(", "),
                    port
                ))));
            }
            Founding::Join => {}
        }
    }
    join(context, held, token(context)?).map(Some)
}

/// Refuses new keys beside the data of a cluster.
fn refuse_to_found_again(context: &Context<'_>) -> Result<(), Failure> {
    let has_data = context.root.exists(ETCD_MEMBER_DATA).map_err(transient)?;
    if !has_data {
        return Ok(());
    }
    Err(permanent(Refused::new(tr!(
        "{ETCD_MEMBER_DATA} has the data of a cluster, but this machine lost keys in {} that all masters \
             share, and no other master is up to send them. Start another master, or restore the keys from a \
             backup",
        paths::CA_DIR,
        ETCD_MEMBER_DATA
    ))))
}

fn join(context: &Context<'_>, held: &[Held<'_>], token: &Token) -> Result<JoinedMaster, Failure> {
    let authority = authority(context.root).map_err(transient)?;
    at_any_master(context, authority.as_deref(), |master| {
        let joined = master.join_as_master(token, held)?;
        log::info!("{master} sent the keys that all masters share");
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
