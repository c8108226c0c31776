//! Asking the masters of a cluster: with which token, how long, and one after the other.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Context;
use crate::join::client::{self, Worker};
use crate::nodespec::Refused;
use crate::nodespec::token::Token;
use crate::paths;
use crate::pki::Held;
use crate::sys::change::Change;
use crate::sys::retry::{Failure, Schedule, permanent, retried};
use crate::sys::root::Root;

/// The longest pause between two attempts to join.
const PAUSE: Duration = Duration::from_secs(15);

/// The certificates (PEM) of the authority this node trusts, if it has joined before.
pub fn authority(root: &Root) -> Result<Option<String>> {
    let pem = root
        .read(paths::CA_CERTIFICATE)?
        .filter(|pem| !pem.is_empty());
    pem.map(String::from_utf8)
        .transpose()
        .context(paths::CA_CERTIFICATE)
}

/// New keys are on the disk before the master hears of them: a run that is cut then comes back as
/// the same node.
pub fn write_keys(context: &Context<'_>, held: &[Held<'_>]) -> Result<()> {
    for held in held.iter().filter(|held| held.key_is_new) {
        let path = paths::key(held.request.name);
        context.root.create(&path, held.key_pem.expose(), 0o600)?;
        log::info!("made the key {path}");
    }
    Ok(())
}

/// Tries to join until it is done, or until `limit` has passed.
pub fn patiently<T>(
    limit: Option<Duration>,
    attempt: impl FnMut() -> Result<T, Failure>,
) -> Result<T> {
    let schedule = match limit {
        Some(limit) => Schedule::until(Instant::now() + limit, PAUSE),
        None => Schedule::endless(PAUSE),
    };
    retried("waiting to join", schedule, attempt).map_err(|failure| match failure {
        Failure::Permanent(error) if error.is::<Refused>() => error,
        Failure::Permanent(error) => Refused::because(error).into(),
        Failure::Transient(error, _) => error,
    })
}

/// The token to join with.
pub fn token<'a>(context: &Context<'a>) -> Result<&'a Token, Failure> {
    let token = context.spec.join.token.as_ref().map(|token| &token.value);
    token.ok_or_else(|| {
        permanent(Refused {
            problems: vec![format!(
                "this {} has no certificates of its cluster, and no token to join with; make one \
                 with `appliance token create` on a master and say it in user-data or {} as \
                 `join: {{token: …}}`",
                *context.spec.role,
                paths::CONFIG
            )],
        })
    })
}

/// Asks the masters in turn, but not this machine, until one gives what is wanted.
pub fn at_any_master<T>(
    context: &Context<'_>,
    trusted: Option<&str>,
    mut ask: impl FnMut(&Worker<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let spec = context.spec;
    let addresses = spec.master_addresses().into_iter();
    let others = addresses.filter(|master| !spec.role.is_master() || *master != *spec.address);
    client::in_turn(others, |master| {
        ask(&Worker {
            name: &spec.name,
            address: *spec.address,
            master,
            port: *spec.join.port,
            trusted,
        })
    })
}
