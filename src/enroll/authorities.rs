//! The authorities that this node trusts, while a cluster replaces its own.

use anyhow::{Context as _, Result, ensure};
use time::{Duration, OffsetDateTime};

use super::ask::{at_any_master, authority};
use super::{Context, OnDisk};
use crate::clients::mtls::OwnCertificate;
use crate::components::{self, AUTHORITY, ETCD_AUTHORITY, KUBELET_CLIENT};
use crate::language::tr;
use crate::nodespec::Refused;
use crate::paths;
use crate::pki::issue::BACKDATED;
use crate::pki::{self, AuthorityRequest, Existing, GivenAuthority, Issued, Secret, inspect};
use crate::sys::change::Change;
use crate::sys::clock::moment;
use crate::sys::retry::Failure;
use crate::sys::root::Root;

/// The authorities (PEM) that the cluster of this worker trusts, as a master says and the newest authority that this node
/// trusts has signed. Tells the master which ones this node has taken: `taken` is SHA-256 of the file.
///
/// # Errors
/// [`Refused`] if no master accepts this node any longer, and the operator has to act first.
pub fn ask_authorities(context: &Context<'_>, taken: Option<&str>) -> Result<String> {
    let own = OwnCertificate::read(context.root, KUBELET_CLIENT)?;
    let trusted = authority(context.root)?;
    let asked = at_any_master(context, trusted.as_deref(), |master| {
        master.trust(&own.identity(), taken)
    });
    asked.map_err(|failure| match failure {
        Failure::Permanent(error) => Refused::because(error).into(),
        Failure::Transient(error, _) => error,
    })
}

/// Writes the authorities `pem`, which [`ask_authorities`] accepted from a master. Nothing else of the node changes here.
pub fn take_authorities(root: &Root, pem: &str) -> Result<()> {
    if authority(root)?.as_deref() == Some(pem) {
        return Ok(());
    }
    root.write(paths::CA_CERTIFICATE, pem.as_bytes(), 0o644)
}

/// New authorities to replace those of the cluster and of etcd: those that an earlier run prepared, the operator's own
/// one that is `given` for the cluster, or new ones. A new one is newer than what it replaces: nodes know them apart by
/// that. Writes nothing.
pub fn next_authorities(
    root: &Root,
    given: Option<&GivenAuthority>,
    now: OffsetDateTime,
) -> Result<Vec<Issued>> {
    let cluster = AuthorityRequest {
        given: given.cloned(),
        ..components::cluster_authority()
    };
    [cluster, components::etcd_authority()]
        .into_iter()
        .map(|request| {
            let current = request.path.clone();
            let request = AuthorityRequest {
                path: paths::next_authority(request.name),
                ..request
            };
            let newest = newest(root, &current)?;
            let now = match &request.given {
                Some(_) => now,
                None => newest.map_or(now, |newest| now.max(newest + BACKDATED + Duration::SECOND)),
            };
            pki::authority_alone(&request, &OnDisk(root), now)
        })
        .collect()
}

/// The operator's own authority in the files at the absolute paths `certificate` and `key`, to replace that of the
/// cluster.
pub fn own_authority(root: &Root, certificate: &str, key: &str) -> Result<GivenAuthority> {
    let read = |path: &str| {
        let found = root.read(path).with_context(|| path.to_owned())?;
        found.with_context(|| tr!("{path}: there is no such file", path))
    };
    let certificates = String::from_utf8(read(certificate)?);
    Ok(GivenAuthority {
        certificates: certificates.with_context(|| certificate.to_owned())?,
        place: certificate.to_owned(),
        key: Secret::new(read(key)?),
        key_place: key.to_owned(),
        may_have_others: false,
    })
}

/// Nothing exists.
struct Nothing;

impl Existing for Nothing {
    fn read(&self, _path: &str) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }
}

/// Checks the operator's own authority as an installation does, and that it can replace that of the cluster.
pub fn check_given(root: &Root, given: &GivenAuthority, now: OffsetDateTime) -> Result<()> {
    let request = AuthorityRequest {
        given: Some(given.clone()),
        ..components::cluster_authority()
    };
    pki::authority_alone(&request, &Nothing, now)?;
    let place = &given.place;
    let chain = inspect::certificates(&given.certificates)?;
    let (_, issuing) = chain.first().context(tr!("no certificate"))?;
    for name in [AUTHORITY, ETCD_AUTHORITY] {
        let path = paths::certificate(name);
        let pem = root.read(&path)?.unwrap_or_default();
        let present = inspect::certificates(&String::from_utf8_lossy(&pem))?;
        ensure!(
            present
                .iter()
                .all(|(_, info)| info.public_key != issuing.public_key),
            tr!(
                "{place} has the key of {path}; an authority is replaced only by one with another key",
                place,
                path
            )
        );
    }
    let newest = newest(root, &paths::certificate(AUTHORITY))?;
    let above = chain.iter().map(|(_, info)| info.not_before).max();
    ensure!(
        newest.is_none_or(|newest| issuing.not_before > newest)
            && above.is_none_or(|above| issuing.not_before >= above),
        tr!(
            "{place}: {} is valid from {}, and nodes know the new authority by its later beginning: the present one in {} is \
         valid from {}; issue the new one again, so that it begins later than that and than those above it",
            issuing.subject,
            moment(issuing.not_before),
            paths::CA_CERTIFICATE,
            newest.map_or_else(String::new, moment),
            place
        )
    );
    Ok(())
}

/// When the validity of the newest authority in the file at `path` begins.
fn newest(root: &Root, path: &str) -> Result<Option<OffsetDateTime>> {
    let pem = root.read(path)?.unwrap_or_default();
    let all = inspect::certificates(&String::from_utf8_lossy(&pem))?;
    Ok(all.iter().map(|(_, info)| info.not_before).max())
}
