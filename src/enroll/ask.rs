//! Asks the masters of a cluster in turn: with which token, and how long.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Context;
use crate::join::client::Worker;
use crate::join::turns::in_turn;
use crate::language::tr;
use crate::nodespec::token::Token;
use crate::nodespec::{Ipip, Refused};
use crate::paths;
use crate::pki::Held;
use crate::records::cluster::ClusterRecord;
use crate::sys::change::Change;
use crate::sys::retry::{Failure, Schedule, permanent, retried};
use crate::sys::root::Root;
use crate::sys::waiting::Waiting;

/// The longest pause between two attempts to join.
const PAUSE: Duration = Duration::from_secs(15);

/// The CA certificates (PEM) that this node trusts, if it has joined before.
pub fn authority(root: &Root) -> Result<Option<String>> {
    let pem = root
        .read(paths::CA_CERTIFICATE)?
        .filter(|pem| !pem.is_empty());
    pem.map(String::from_utf8)
        .transpose()
        .context(paths::CA_CERTIFICATE)
}

/// Writes new keys to disk before the request to the master: if this run is interrupted, the next
/// one is still the same node for the master.
pub fn write_keys(context: &Context<'_>, held: &[Held<'_>]) -> Result<()> {
    for held in held.iter().filter(|held| held.key_is_new) {
        let path = paths::key(held.request.name);
        context.root.create(&path, held.key_pem.expose(), 0o600)?;
        log::info!("made the key {path}");
    }
    Ok(())
}

/// Keeps what a master told about its cluster before anything else: if this run is interrupted, the next
/// one does not join again.
pub fn keep_told(context: &Context<'_>, ipip: Option<Ipip>) -> Result<()> {
    let Some(ipip) = ipip else {
        return Ok(());
    };
    let text = ClusterRecord { ipip }.text();
    context.root.write(paths::CLUSTER, text.as_bytes(), 0o644)
}

/// Tries to join until it succeeds, or until `limit` has passed.
pub fn patiently<T>(
    limit: Option<Duration>,
    attempt: impl FnMut() -> Result<T, Failure>,
) -> Result<T> {
    let schedule = match limit {
        Some(limit) => Schedule::until(Instant::now() + limit, PAUSE),
        None => Schedule::endless(PAUSE),
    };
    let _waiting = Waiting::new(&tr!("a master that lets this node join"), limit);
    retried("waiting to join", schedule, attempt).map_err(|failure| match failure {
        Failure::Permanent(error) if error.is::<Refused>() => error,
        Failure::Permanent(error) => Refused::because(error).into(),
        Failure::Transient(error, _) => error,
    })
}

/// The token that this node joins with.
pub fn token<'a>(context: &Context<'a>) -> Result<&'a Token, Failure> {
    let token = context.spec.join.token.as_ref().map(|token| &token.value);
    token.ok_or_else(|| {
        permanent(Refused::new(tr!("this {} has no certificates that a master accepts, and the settings have no token to \
                 join the cluster with; run `appliance token create` on a master, and put the token into {} \
                 here (or under `appliance:` in user-data): `join: {{token: TOKEN}}`", *context.spec.role, paths::CONFIG)))
    })
}

/// Asks whether a master of this node's cluster would let it join with the token of its settings. Nothing is used up.
///
/// # Errors
/// [`Refused`] if the masters that answer do not; another error if none answers.
pub fn knock(context: &Context<'_>) -> Result<()> {
    let trusted = authority(context.root)?;
    let asked = token(context)
        .and_then(|token| at_any_master(context, trusted.as_deref(), |master| master.knock(token)));
    asked.map_err(|failure| match failure {
        Failure::Permanent(error) => Refused::because(error).into(),
        Failure::Transient(error, _) => error,
    })
}

/// Asks the other masters in turn until one answers `ask` with success.
pub fn at_any_master<T>(
    context: &Context<'_>,
    trusted: Option<&str>,
    mut ask: impl FnMut(&Worker<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let spec = context.spec;
    let addresses = spec.master_addresses().into_iter();
    let others = addresses.filter(|master| !spec.role.is_master() || *master != *spec.address);
    in_turn(others, |master| {
        ask(&Worker {
            name: &spec.name,
            address: *spec.address,
            machine: spec.machine.as_deref(),
            master,
            port: *spec.join.port,
            trusted,
        })
    })
}
