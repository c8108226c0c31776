//! This node's keys and certificates: found on its disk, made, or fetched from a master.

use std::time::Duration;

use anyhow::{Context as _, Result};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::components;
use crate::desired::JoinToken;
use crate::language::tr;
use crate::nodespec::{Ipip, NodeSpec, Refused};
use crate::paths;
use crate::pki::{self, Existing, GivenAuthority, GivenPair, Pki, Secret};
use crate::records::tokens::TokenRecord;
use crate::sys::root::Root;

mod admin;
mod ask;
mod authorities;
pub mod by_hand;
mod due;
mod foreign;
mod lost;
mod masters;
#[cfg(test)]
mod tests;
mod worker;

pub use admin::admin;
pub use ask::knock;
pub use authorities::{
    ask_authorities, check_given, next_authorities, own_authority, take_authorities,
};
pub use due::due;
pub use foreign::refuse_foreign;
pub use lost::refuse_lost;

/// The node whose keys and certificates these are.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Where its files are.
    pub root: &'a Root,
    /// The specification of the node.
    pub spec: &'a NodeSpec,
}

/// The keys and certificates on a disk.
struct OnDisk<'a>(&'a Root);

impl Existing for OnDisk<'_> {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        self.0.read(path)
    }
}

/// The keys, certificates and tokens of a node.
#[derive(Default)]
pub struct Identity {
    /// Keys and certificates, if the profile uses them.
    pub pki: Option<Pki>,
    /// The tokens that kube-apiserver accepts, on a master.
    pub tokens: Option<Secret>,
    /// The key with which kube-apiserver encrypts secrets, on a master.
    pub encryption: Option<Secret>,
    /// The token that workers join with, on a master.
    pub join_token: Option<JoinToken>,
    /// When the cluster that the node joins uses tunnels, if a master told it in this run.
    pub ipip: Option<Ipip>,
}

/// Whether a worker that has not joined yet joins now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joining {
    /// It joins. It waits for its master without limit, or gives up after the given time.
    Now(Option<Duration>),
    /// It does not join. It makes placeholder certificates, only to show what would change.
    Pretended,
}

/// Finds, makes or fetches the keys and certificates of the node.
pub fn resolve(context: &Context<'_>, joining: Joining) -> Result<Identity> {
    if !context.spec.tls() {
        return Ok(Identity::default());
    }
    let now = OffsetDateTime::now_utc();
    if !context.spec.role.is_master() {
        let (pki, ipip) = worker::certificates(context, joining, now)?;
        return Ok(Identity {
            pki: Some(pki),
            ipip,
            ..Identity::default()
        });
    }
    let shared = masters::shared_keys(context, joining)?;
    let mut request = components::pki_request(context.spec);
    if let Some(request) = &mut request {
        request.authority.given = given_authority(context).map_err(Refused::because)?;
        if let Some(shared) = &shared {
            request.authority.given = Some(sent(&shared.authority, &shared.keys.authority));
            if let Some(etcd) = &mut request.etcd {
                etcd.given = Some(sent(&shared.keys.etcd_authority, &shared.keys.etcd_key));
            }
            let key = shared.keys.service_account.as_bytes().to_vec();
            request.service_account.given = Some(GivenPair {
                private: Secret::new(key),
                public: shared.keys.verifying.clone(),
            });
        }
    }
    let pki = request
        .map(|request| pki::resolve(&request, &OnDisk(context.root), now))
        .transpose();
    let keys = shared.as_ref().map(|shared| &shared.keys);
    let file = shared_or_own(context, paths::TOKEN_FILE, keys.map(|keys| &keys.tokens))?;
    let tokens = pki::token::resolve_token_csv(file.as_ref().map(Secret::expose))
        .context(paths::TOKEN_FILE)
        .map_err(Refused::because)?;
    let file = shared_or_own(
        context,
        paths::ENCRYPTION,
        keys.map(|keys| &keys.encryption),
    )?;
    let encryption = pki::encryption::resolve_encryption(file.as_ref().map(Secret::expose))
        .context(paths::ENCRYPTION)
        .map_err(Refused::because)?;
    Ok(Identity {
        pki: pki.map_err(Refused::because)?,
        tokens: Some(tokens),
        encryption: Some(encryption),
        join_token: join_token(context, now),
        ipip: shared.as_ref().and_then(|shared| shared.ipip),
    })
}

/// Whether there is a file with something in it: an empty one is what a power cut can leave.
fn has_content(root: &Root, path: &str) -> Result<bool> {
    Ok(root.read(path)?.is_some_and(|bytes| !bytes.is_empty()))
}

/// What another master sent or, without that, the file at `path`.
fn shared_or_own(
    context: &Context<'_>,
    path: &str,
    sent: Option<&Zeroizing<String>>,
) -> Result<Option<Secret>> {
    let bytes = match sent {
        Some(sent) => Some(sent.as_bytes().to_vec()),
        None => context.root.read(path)?,
    };
    Ok(bytes.map(Secret::new))
}

/// Whether this machine needs certificates or keys of a master, for which it may have to wait.
pub fn has_to_join(context: &Context<'_>) -> Result<bool> {
    let is_worker = context.spec.tls() && !context.spec.role.is_master();
    let has_to = is_worker && ask::authority(context.root)?.is_none();
    Ok(has_to || masters::lacks_shared_keys(context)?)
}

/// A certificate authority that another master sent.
fn sent(certificates: &str, key: &str) -> GivenAuthority {
    let place = tr!("the certificate authority that another master sent");
    GivenAuthority {
        certificates: certificates.to_owned(),
        key: Secret::new(key.as_bytes().to_vec()),
        key_place: place.clone(),
        place,
        may_have_others: true,
    }
}

/// The certificate authority that the settings name.
fn given_authority(context: &Context<'_>) -> Result<Option<GivenAuthority>> {
    let Some(ca) = &context.spec.ca else {
        return Ok(None);
    };
    let place = |field: &str, path: &str| format!("{}: {field} {path}", ca.origin);
    let read = |field: &str, path: &str| {
        let bytes = context
            .root
            .read(path)
            .with_context(|| place(field, path))?;
        bytes.with_context(|| tr!("{}: there is no such file", place(field, path)))
    };
    let certificates = String::from_utf8(read("certificate", &ca.certificate)?);
    let place_of_certificate = place("certificate", &ca.certificate);
    Ok(Some(GivenAuthority {
        certificates: certificates.with_context(|| place_of_certificate.clone())?,
        place: place_of_certificate,
        key: Secret::new(read("key", &ca.key)?),
        key_place: place("key", &ca.key),
        may_have_others: false,
    }))
}

/// The token from user-data, in the form in which a master stores it.
fn join_token(context: &Context<'_>, now: OffsetDateTime) -> Option<JoinToken> {
    let join = &context.spec.join;
    let token = join.token.as_ref()?;
    Some(JoinToken {
        id: token.id().clone(),
        record: TokenRecord {
            verifier: token.verifier(),
            created: now,
            expires: join.ttl.0.map(|ttl| now + ttl),
            uses: join.uses.as_ref().map(|uses| uses.value),
            used: 0,
            revoked: None,
            from: token.origin.to_string(),
        },
    })
}
