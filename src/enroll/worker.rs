//! A worker's keys and certificates: those it has, else those a master issues.

use std::time::Duration;

use anyhow::Result;
use time::OffsetDateTime;

use super::ask::{at_any_master, authority, keep_told, patiently, token, write_keys};
use super::{Context, Joining, OnDisk};
use crate::components::{self, AUTHORITY, KUBELET_CLIENT};
use crate::join::client::{Joined, Worker};
use crate::nodespec::{Ipip, Refused};
use crate::paths;
use crate::pki::{self, CertificateRequest, Existing, Held, Issued, Pki};
use crate::sys::retry::{Failure, transient};
use crate::sys::root::Root;
use crate::sys::tls::Identity;

/// Reads the keys on the machine, but not its certificates.
struct KeysOnly<'a>(&'a Root);

impl Existing for KeysOnly<'_> {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        if path.ends_with("-key.pem") {
            return self.0.read(path);
        }
        Ok(None)
    }
}

/// A worker's keys and certificates: those on the machine, or else new ones from its master, with what the
/// master tells about its cluster.
pub fn certificates(
    context: &Context<'_>,
    joining: Joining,
    now: OffsetDateTime,
) -> Result<(Pki, Option<Ipip>)> {
    let spec = context.spec;
    let requests = components::worker(&spec.name, *spec.address);
    let authority = authority(context.root).map_err(Refused::because)?;
    let held = pki::hold(&requests, &OnDisk(context.root), authority.as_deref(), now);
    let held = held.map_err(Refused::because)?;
    if let Some(authority) = &authority
        && held.iter().all(|held| held.certificate.is_ok())
    {
        return Ok((kept(authority.clone(), held), None));
    }
    match joining {
        Joining::Pretended => Ok((pretended(context, requests, now)?, None)),
        Joining::Now(limit) => {
            if authority.is_none() || !has_joined(context)? {
                // Only a node that has joined can go on without a token. Nothing is written before.
                token(context).map_err(Failure::into_error)?;
            }
            write_keys(context, &held)?;
            let joined = join(context, authority.as_deref(), &held, limit)?;
            keep_told(context, joined.ipip)?;
            let ipip = joined.ipip;
            Ok((given(joined, held), ipip))
        }
    }
}

/// Whether there is a certificate that a master may renew.
fn has_joined(context: &Context<'_>) -> Result<bool> {
    let certificate = context.root.read(&paths::certificate(KUBELET_CLIENT))?;
    Ok(certificate.is_some_and(|pem| !pem.is_empty()))
}

fn kept(authority: String, held: Vec<Held<'_>>) -> Pki {
    Pki {
        authority: foreign_authority(authority),
        certificates: held.into_iter().filter_map(Held::kept).collect(),
        etcd: None,
        service_account: None,
    }
}

fn given(joined: Joined, held: Vec<Held<'_>>) -> Pki {
    let certificates = held.into_iter().zip(joined.certificates);
    Pki {
        authority: foreign_authority(joined.authority),
        certificates: certificates
            .map(|(held, pem)| held.issued(pem, Some("the master issued it")))
            .collect(),
        etcd: None,
        service_account: None,
    }
}

/// A certificate authority without its key: the master holds the key.
fn foreign_authority(pem: String) -> Issued {
    Issued {
        name: AUTHORITY.to_owned(),
        certificate_path: paths::CA_CERTIFICATE.to_owned(),
        certificate_pem: pem,
        key_path: paths::key(AUTHORITY),
        key_pem: None,
        reason: None,
    }
}

/// Placeholder certificates instead of those that the master would issue.
fn pretended(
    context: &Context<'_>,
    certificates: Vec<CertificateRequest>,
    now: OffsetDateTime,
) -> Result<Pki> {
    let masters: Vec<String> = (context.spec.master_addresses().iter())
        .map(ToString::to_string)
        .collect();
    log::info!(
        "this worker joins the master at {}; the plan shows placeholders for its certificates",
        masters.join(" or ")
    );
    let request = pki::PkiRequest {
        authority: components::cluster_authority(),
        etcd: None,
        certificates,
        service_account: components::service_account(),
    };
    let made = pki::resolve(&request, &KeysOnly(context.root), now)?;
    Ok(Pki {
        authority: foreign_authority(made.authority.certificate_pem),
        service_account: None,
        ..made
    })
}

fn join(
    context: &Context<'_>,
    authority: Option<&str>,
    held: &[Held<'_>],
    limit: Option<Duration>,
) -> Result<Joined> {
    if let Some(joined) = renewed(context, authority, held)? {
        return Ok(joined);
    }
    let token = token(context).map_err(Failure::into_error)?;
    log::info!(
        "joining as {} with token {}",
        *context.spec.name,
        token.id()
    );
    patiently(limit, || {
        at_any_master(context, authority, |master| {
            let joined = master.join(token, held)?;
            log::info!("{master} issued certificates for this node");
            Ok(joined)
        })
    })
}

/// New certificates that the node gets by showing its present one; `None` if it has none or if no
/// master accepts it.
fn renewed(
    context: &Context<'_>,
    trusted: Option<&str>,
    held: &[Held<'_>],
) -> Result<Option<Joined>> {
    let path = paths::certificate(KUBELET_CLIENT);
    let certificate = context.root.read(&path)?.unwrap_or_default();
    let Some(own) = held.iter().find(|held| held.request.name == KUBELET_CLIENT) else {
        return Ok(None);
    };
    if trusted.is_none() || certificate.is_empty() {
        return Ok(None);
    }
    let identity = Identity {
        certificate: &certificate,
        key: own.key_pem.expose(),
    };
    // Only the master where the node joined may know it: after a refusal, ask the next master.
    let renew = |master: &Worker<'_>| {
        let renewed = master.renew(&identity, held);
        renewed.map_err(|failure| transient(failure.into_error()))
    };
    match at_any_master(context, trusted, renew) {
        Ok(joined) => Ok(Some(joined)),
        Err(failure) => {
            let error = failure.into_error();
            log::warn!(
                "no master renewed the certificates of this node; it joins again with its token: \
                 {error:#}"
            );
            Ok(None)
        }
    }
}
