//! The authorities that this node trusts, while a cluster replaces its own.

use anyhow::{Context as _, Result, ensure};
use time::OffsetDateTime;

use super::ask::{at_any_master, authority};
use super::{Context, OnDisk};
use crate::components::{self, KUBELET_CLIENT};
use crate::join::client::shares_authority;
use crate::paths;
use crate::pki::{self, AuthorityRequest, Issued};
use crate::sys::change::Change;
use crate::sys::retry::Failure;
use crate::sys::root::Root;
use crate::sys::tls::Identity;

/// The authorities (PEM) that the cluster of this worker trusts, as a master says. Tells the master which ones this
/// node has taken: `taken` is SHA-256 of the file.
pub fn ask_authorities(context: &Context<'_>, taken: Option<&str>) -> Result<String> {
    let read = |path: &str| {
        let found = context.root.read(path)?;
        found.with_context(|| format!("{path} is missing; run `appliance install`"))
    };
    let certificate = read(&paths::certificate(KUBELET_CLIENT))?;
    let key = read(&paths::key(KUBELET_CLIENT))?;
    let identity = Identity {
        certificate: &certificate,
        key: &key,
    };
    let trusted = authority(context.root)?;
    let asked = at_any_master(context, trusted.as_deref(), |master| {
        master.trust(&identity, taken)
    });
    asked.map_err(Failure::into_error)
}

/// Writes the authorities `pem` that a master sent. Nothing else of the node changes here. Refuses authorities of which
/// this node knows none.
pub fn take_authorities(root: &Root, pem: &str) -> Result<()> {
    let own = authority(root)?.unwrap_or_default();
    ensure!(
        shares_authority(&own, pem),
        "the master sent authorities of which this node knows none; see `appliance certs show` here and on the \
         master"
    );
    if own == pem {
        return Ok(());
    }
    root.write(paths::CA_CERTIFICATE, pem.as_bytes(), 0o644)
}

/// New authorities to replace those of the cluster and of etcd: those that an earlier run prepared, or new ones. Writes
/// nothing.
pub fn next_authorities(root: &Root, now: OffsetDateTime) -> Result<Vec<Issued>> {
    [
        components::cluster_authority(),
        components::etcd_authority(),
    ]
    .into_iter()
    .map(|request| {
        let request = AuthorityRequest {
            path: paths::next_authority(request.name),
            ..request
        };
        pki::authority_alone(&request, &OnDisk(root), now)
    })
    .collect()
}
