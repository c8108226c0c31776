//! What a master sees of the nodes and pods of its cluster.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::authority::Cluster;
use super::masters::Subject;
use super::pods;
use crate::apply::records::note_tokens;
use crate::clients::api::Api;
use crate::clients::kubectl;
use crate::digest::Sha256;
use crate::formats::ROTATION;
use crate::install::Machine;
use crate::join::registry;
use crate::join::shared::Etcd;
use crate::language::tr;
use crate::paths::ROTATION_SINCE;
use crate::sys::retry::transient;
use crate::sys::root::Root;
use crate::sys::waiting::awaited;

/// How long the controller manager may take to put the authorities into all tokens of service accounts.
const TOKENS: Duration = Duration::from_secs(300);
/// The longest pause between two looks at them.
const PAUSE: Duration = Duration::from_secs(5);
/// How far the clocks of masters may be apart. A later time is that of a wrong clock.
const MOST_APART: Duration = Duration::from_secs(300);
/// The unit of the times in Kubernetes' objects.
const SECOND: Duration = Duration::from_secs(1);
/// Where containers find the token of their service account.
const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The cluster of a master.
pub struct Seen<'a>(pub &'a Machine);

impl Cluster for Seen<'_> {
    fn behind(&self, digest: &str) -> Result<Vec<String>> {
        let root = &self.0.root;
        let records = registry::open(root)?.1.all()?;
        let taken = registry::followers(root)?.all()?;
        let listed = kubectl::get(self.0.runner, &["nodes"])?;
        let listed = names(&listed);
        // Masters tell each other what they have, with the kubelets on them.
        let spec = &self.0.spec;
        let masters = spec.cluster.masters.iter().map(|master| &master.name);
        let masters: Vec<&String> = masters.chain([&spec.name.value]).collect();
        let all: BTreeSet<&str> = (listed.iter().chain(records.keys()))
            .filter(|name| !masters.contains(name))
            .map(String::as_str)
            .collect();
        let follows = |name: &str| {
            let pair = taken.get(name).zip(records.get(name));
            pair.is_some_and(|(taken, record)| taken.digest == digest && taken.key == record.key)
        };
        let behind = all.into_iter().filter(|name| !follows(name));
        Ok(behind.map(str::to_owned).collect())
    }

    fn blind(&self, pem: &str) -> Result<Vec<String>> {
        let api = Api::here(&self.0.root)?;
        let wanted = BASE64.encode(pem);
        awaited("the tokens of service accounts", TOKENS, PAUSE, || {
            let old = api.tokens_without(&wanted).map_err(transient)?;
            match old.first() {
                None => Ok(()),
                Some(name) => Err(transient(anyhow!(tr!(
                    "the controller manager has not put the new authority into {} tokens of service accounts, for \
                     example {name}; see `journalctl -u kube-controller-manager`",
                    old.len(),
                    name
                )))),
            }
        })?;
        let since = since(&self.0.root, pem)?;
        if let Ok(wait) = Duration::try_from(since - OffsetDateTime::now_utc()) {
            // With another master's clock, the time may be far away.
            thread::sleep(wait.min(SECOND));
        }
        let pods = kubectl::get(self.0.runner, &["pods", "--all-namespaces"])?;
        Ok(older(&pods, since))
    }
}

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().into_iter().flatten();
    let names = items.filter_map(|item| item["metadata"]["name"].as_str());
    names.map(str::to_owned).collect()
}

/// Since when all tokens come with the authorities `pem`: the next second, or as an earlier run recorded, on any master of
/// the cluster of the master at `root`. A recorded time in the future counts as now.
pub fn since(root: &Root, pem: &str) -> Result<OffsetDateTime> {
    if let Some(etcd) = registry::etcd(root)? {
        return shared_since(&etcd, &Sha256::of(pem.as_bytes()).to_string());
    }
    if let Some(text) = root.read(ROTATION_SINCE)? {
        let text = String::from_utf8_lossy(&text).into_owned();
        let time = OffsetDateTime::parse(text.trim(), &Rfc3339);
        let time = time.with_context(|| {
            tr!(
                "{ROTATION_SINCE} is no time; remove it, and run this again",
                ROTATION_SINCE
            )
        })?;
        if is_possible(time) {
            return Ok(time);
        }
    }
    let time = next_second();
    note_tokens(root, &time.format(&Rfc3339)?)?;
    Ok(time)
}

/// Whether a clock that is right can have said this time. After a later one, no pod would ever be new enough.
fn is_possible(time: OffsetDateTime) -> bool {
    time <= OffsetDateTime::now_utc() + MOST_APART
}

/// Kubernetes records when a pod was created in whole seconds: in the second that has begun, a pod may be older or newer.
fn next_second() -> OffsetDateTime {
    OffsetDateTime::now_utc().truncate_to_second() + SECOND
}

/// Since when all tokens come with certain authorities.
#[derive(Serialize, Deserialize)]
struct Since {
    /// SHA-256 of their file, in hexadecimal.
    authorities: String,
    #[serde(with = "time::serde::rfc3339")]
    time: OffsetDateTime,
}

/// Since when all tokens come with the authorities of this digest, as the first master that saw it recorded.
fn shared_since(etcd: &Etcd, digest: &str) -> Result<OffsetDateTime> {
    const RECORD: &str = "since";
    let kind = Subject::Authorities.name();
    loop {
        let listing = etcd.list(kind)?;
        let text = listing
            .records
            .get(RECORD)
            .and_then(|found| found.text.as_deref());
        text.map_or(Ok(()), |text| ROTATION.check(text))?;
        let known: Option<Since> = text.and_then(|text| serde_json::from_slice(text).ok());
        let is_it = |known: &Since| known.authorities == digest && is_possible(known.time);
        if let Some(known) = known.filter(is_it) {
            return Ok(known.time);
        }
        let now = Since {
            authorities: digest.to_owned(),
            time: next_second(),
        };
        if etcd.put(&listing, kind, RECORD, &serde_json::to_vec(&now)?)? {
            return Ok(now.time);
        }
    }
}

/// The pods in `list` with a token of a service account that were created before `since`. The API server's clock
/// tells, not the clocks of the nodes.
pub fn older(list: &Value, since: OffsetDateTime) -> Vec<String> {
    pods::running(list, |pod| {
        let created = pod["metadata"]["creationTimestamp"].as_str();
        let created = created.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        has_token(pod) && created.is_none_or(|created| created < since)
    })
}

fn has_token(pod: &Value) -> bool {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mounts = containers.filter_map(|container| container["volumeMounts"].as_array());
    mounts.flatten().any(|mount| mount["mountPath"] == MOUNT)
}
