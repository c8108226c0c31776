//! The keys and certificates of this node. A master makes them; a worker joins and gets them from
//! its master.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use time::OffsetDateTime;

use super::{Node, masters};
use crate::apply::state::State;
use crate::components::{self, CA_CERTIFICATE, KUBELET_CLIENT};
use crate::desired::JoinToken;
use crate::join::client::{self, Joined, JoinedMaster, Worker};
use crate::join::token::Token;
use crate::join::tokens::TokenRecord;
use crate::pki::{self, CertificateRequest, Existing, GivenAuthority, Held, Issued, Pki, Secret};
use crate::plan::{Plan, Step};
use crate::spec::Refused;
use crate::sys::http;
use crate::sys::retry::{Failure, Schedule, permanent, retried, transient};
use crate::sys::root::Root;

/// The longest pause between two attempts to join.
const PAUSE: Duration = Duration::from_secs(15);

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

/// The keys, certificates and tokens of a node.
#[derive(Default)]
pub struct Identity {
    /// Keys and certificates, if the profile uses them.
    pub pki: Option<Pki>,
    /// The tokens that kube-apiserver accepts, on a master.
    pub tokens: Option<Secret>,
    /// The token that workers join with, on a master.
    pub join_token: Option<JoinToken>,
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
pub fn resolve(node: &Node<'_>, joining: Joining) -> Result<Identity> {
    if !node.spec.tls() {
        return Ok(Identity::default());
    }
    let now = OffsetDateTime::now_utc();
    if !node.spec.role.is_master() {
        return Ok(Identity {
            pki: Some(worker(node, joining, now)?),
            ..Identity::default()
        });
    }
    let shared = masters::shared_keys(node, joining)?;
    let mut request = components::pki_request(node.spec);
    if let Some(request) = &mut request {
        request.authority.given = given_authority(node).map_err(Refused::because)?;
        if let Some(shared) = &shared {
            request.authority.given = Some(authority_of(shared));
            let key = shared.keys.service_account.as_bytes().to_vec();
            request.service_account.given = Some(Secret::new(key));
        }
    }
    let pki = request
        .map(|request| pki::resolve(&request, node.root, now))
        .transpose();
    let mut file = node.root.read(components::TOKEN_FILE)?;
    if let Some(shared) = &shared {
        file = Some(shared.keys.tokens.as_bytes().to_vec());
    }
    let tokens = pki::token::resolve_token_csv(file.as_deref())
        .context(components::TOKEN_FILE)
        .map_err(Refused::because)?;
    Ok(Identity {
        pki: pki.map_err(Refused::because)?,
        tokens: Some(tokens),
        join_token: join_token(node, now),
    })
}

/// The certificate authority that another master sent.
fn authority_of(shared: &JoinedMaster) -> GivenAuthority {
    let place = "the certificate authority that another master sent".to_owned();
    GivenAuthority {
        certificates: shared.authority.clone(),
        key: Secret::new(shared.keys.authority.as_bytes().to_vec()),
        key_place: place.clone(),
        place,
    }
}

/// The certificate authority that the settings name.
fn given_authority(node: &Node<'_>) -> Result<Option<GivenAuthority>> {
    let Some(ca) = &node.spec.ca else {
        return Ok(None);
    };
    let place = |field: &str, path: &str| format!("{}: {field} {path}", ca.origin);
    let read = |field: &str, path: &str| {
        let bytes = node.root.read(path).with_context(|| place(field, path))?;
        bytes.with_context(|| format!("{}: there is no such file", place(field, path)))
    };
    let certificates = String::from_utf8(read("certificate", &ca.certificate)?);
    let place_of_certificate = place("certificate", &ca.certificate);
    Ok(Some(GivenAuthority {
        certificates: certificates.with_context(|| place_of_certificate.clone())?,
        place: place_of_certificate,
        key: Secret::new(read("key", &ca.key)?),
        key_place: place("key", &ca.key),
    }))
}

/// The certificates of this node that are due for renewal.
pub fn due(root: &Root, state: &State) -> Result<Vec<&'static str>> {
    let role = state.role.parse().map_err(anyhow::Error::msg)?;
    let now = OffsetDateTime::now_utc();
    let authority = root.read(CA_CERTIFICATE)?.context(CA_CERTIFICATE)?;
    let mut due = Vec::new();
    for name in components::certificate_names(role) {
        let path = components::certificate_path(name);
        let Some(pem) = root.read(&path)? else {
            due.push(name);
            continue;
        };
        if pki::is_due(&pem, &authority, now).with_context(|| path.clone())? {
            due.push(name);
        }
    }
    Ok(due)
}

/// The token from user-data, in the form in which a master stores it.
fn join_token(node: &Node<'_>, now: OffsetDateTime) -> Option<JoinToken> {
    let join = &node.spec.join;
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

/// A worker's keys and certificates: those on the machine, or else new ones from its master.
fn worker(node: &Node<'_>, joining: Joining, now: OffsetDateTime) -> Result<Pki> {
    let spec = node.spec;
    let requests = components::worker(&spec.name, *spec.address);
    let authority = authority(node.root).map_err(Refused::because)?;
    let held = pki::hold(&requests, node.root, authority.as_deref(), now);
    let held = held.map_err(Refused::because)?;
    if let Some(authority) = &authority
        && held.iter().all(|held| held.certificate.is_ok())
    {
        return Ok(kept(authority.clone(), held));
    }
    match joining {
        Joining::Pretended => pretended(node, requests, now),
        Joining::Now(limit) => {
            write_keys(node, &held)?;
            let joined = join(node, authority.as_deref(), &held, limit)?;
            Ok(given(joined, held))
        }
    }
}

/// The CA certificates (PEM) that this node trusts, if it has joined before.
pub(super) fn authority(root: &Root) -> Result<Option<String>> {
    let pem = root.read(CA_CERTIFICATE)?.filter(|pem| !pem.is_empty());
    pem.map(String::from_utf8)
        .transpose()
        .context(CA_CERTIFICATE)
}

fn kept(authority: String, held: Vec<Held<'_>>) -> Pki {
    Pki {
        authority: foreign_authority(authority),
        certificates: held.into_iter().filter_map(Held::kept).collect(),
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
        service_account: None,
    }
}

/// A certificate authority without its key: the master holds the key.
fn foreign_authority(pem: String) -> Issued {
    Issued {
        name: "ca".to_owned(),
        certificate_path: components::certificate_path("ca"),
        certificate_pem: pem,
        key_path: components::key_path("ca"),
        key_pem: None,
        reason: None,
    }
}

/// Placeholder certificates that stand for those that the master would issue.
fn pretended(
    node: &Node<'_>,
    certificates: Vec<CertificateRequest>,
    now: OffsetDateTime,
) -> Result<Pki> {
    let masters: Vec<String> = (node.spec.master_addresses().iter())
        .map(ToString::to_string)
        .collect();
    log::info!(
        "this worker would join the master at {}; the contents of its certificates are not known \
         until then",
        masters.join(" or ")
    );
    let request = pki::PkiRequest {
        authority: pki::AuthorityRequest {
            common_name: "kubernetes".to_owned(),
            path: CA_CERTIFICATE.to_owned(),
            given: None,
        },
        certificates,
        service_account: components::service_account(),
    };
    let made = pki::resolve(&request, &KeysOnly(node.root), now)?;
    Ok(Pki {
        authority: foreign_authority(made.authority.certificate_pem),
        service_account: None,
        ..made
    })
}

/// Writes new keys to disk before the request to the master: if this run is interrupted, the next
/// one is still the same node for the master.
pub(super) fn write_keys(node: &Node<'_>, held: &[Held<'_>]) -> Result<()> {
    let write = |held: &Held<'_>| Step::WriteFile {
        path: components::key_path(held.request.name),
        mode: 0o600,
        content: crate::desired::Content::Secret(held.key_pem.clone()),
        replaces: None,
        new: true,
    };
    let steps: Vec<Step> = held.iter().filter(|h| h.key_is_new).map(write).collect();
    node.carry_out(&Plan { steps })
}

fn join(
    node: &Node<'_>,
    authority: Option<&str>,
    held: &[Held<'_>],
    limit: Option<Duration>,
) -> Result<Joined> {
    if let Some(joined) = renewed(node, authority, held)? {
        return Ok(joined);
    }
    let token = token(node).map_err(Failure::into_error)?;
    log::info!(
        "joining the cluster as {} with token {}",
        *node.spec.name,
        token.id()
    );
    patiently(limit, || {
        at_any_master(node, authority, |master| {
            let joined = master.join(token, held)?;
            log::info!("{master} issued certificates for this node");
            Ok(joined)
        })
    })
}

/// Tries to join until it succeeds, or until `limit` has passed.
pub(super) fn patiently<T>(
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

/// The token that this node joins with.
pub(super) fn token<'a>(node: &Node<'a>) -> Result<&'a Token, Failure> {
    let token = node.spec.join.token.as_ref().map(|token| &token.value);
    token.ok_or_else(|| {
        permanent(Refused {
            problems: vec![format!(
                "this {} has no certificates yet, and the settings have no token to join the \
                 cluster with; run `appliance token create` on a master, and put the token into {} \
                 here (or under `appliance:` in user-data): `join: {{token: TOKEN}}`",
                *node.spec.role,
                super::super::inputs::CONFIG_FILE
            )],
        })
    })
}

/// Asks the other masters in turn until one answers `ask` with success.
pub(super) fn at_any_master<T>(
    node: &Node<'_>,
    trusted: Option<&str>,
    mut ask: impl FnMut(&Worker<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let spec = node.spec;
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

/// New certificates that the node gets by showing its present one; `None` if it has none or if no
/// master accepts it.
fn renewed(node: &Node<'_>, trusted: Option<&str>, held: &[Held<'_>]) -> Result<Option<Joined>> {
    let path = components::certificate_path(KUBELET_CLIENT);
    let certificate = node.root.read(&path)?.unwrap_or_default();
    let Some(own) = held.iter().find(|held| held.request.name == KUBELET_CLIENT) else {
        return Ok(None);
    };
    if trusted.is_none() || certificate.is_empty() {
        return Ok(None);
    }
    let identity = http::Identity {
        certificate: &certificate,
        key: own.key_pem.expose(),
    };
    // Only the master where the node joined may know it: after a refusal, ask the next master.
    let renew = |master: &Worker<'_>| {
        let renewed = master.renew(&identity, held);
        renewed.map_err(|failure| transient(failure.into_error()))
    };
    match at_any_master(node, trusted, renew) {
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
