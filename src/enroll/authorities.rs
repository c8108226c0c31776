//! The authorities that this node trusts, while a cluster replaces its own.

use anyhow::{Context as _, Result};
use time::{Duration, OffsetDateTime};

use super::ask::{at_any_master, authority};
use super::{Context, OnDisk};
use crate::components::{self, KUBELET_CLIENT};
use crate::paths;
use crate::pki::issue::BACKDATED;
use crate::pki::{self, AuthorityRequest, Issued, inspect};
use crate::sys::change::Change;
use crate::sys::retry::Failure;
use crate::sys::root::Root;
use crate::sys::tls::Identity;

/// The authorities (PEM) that the cluster of this worker trusts, as a master says and the newest authority that this node
/// trusts has signed. Tells the master which ones this
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

/// Writes the authorities `pem`, which [`ask_authorities`] accepted from a master. Nothing else of the node changes here.
pub fn take_authorities(root: &Root, pem: &str) -> Result<()> {
    if authority(root)?.as_deref() == Some(pem) {
        return Ok(());
    }
    root.write(paths::CA_CERTIFICATE, pem.as_bytes(), 0o644)
}

/// New authorities to replace those of the cluster and of etcd: those that an earlier run prepared, or new ones. A new
/// one is newer than what it replaces: nodes know them apart by that. Writes nothing.
pub fn next_authorities(root: &Root, now: OffsetDateTime) -> Result<Vec<Issued>> {
    [
        components::cluster_authority(),
        components::etcd_authority(),
    ]
    .into_iter()
    .map(|request| {
        let current = request.path.clone();
        let request = AuthorityRequest {
            path: paths::next_authority(request.name),
            ..request
        };
        let newest = newest(root, &current)?;
        let now = newest.map_or(now, |newest| now.max(newest + BACKDATED + Duration::SECOND));
        pki::authority_alone(&request, &OnDisk(root), now)
    })
    .collect()
}

/// When the validity of the newest authority in the file at `path` begins.
fn newest(root: &Root, path: &str) -> Result<Option<OffsetDateTime>> {
    let pem = root.read(path)?.unwrap_or_default();
    let all = inspect::certificates(&String::from_utf8_lossy(&pem))?;
    Ok(all.iter().map(|(_, info)| info.not_before).max())
}
