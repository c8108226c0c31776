//! Brings a node into the state that its authorities ask for.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::here::until_up;
use crate::apply::records::note_taken;
use crate::clients::systemd;
use crate::digest::Sha256;
use crate::enroll::{Joining, ask_authorities, take_authorities};
use crate::install::Machine;
use crate::language::tr;
use crate::paths::{
    CA_CERTIFICATE, CALICO_KUBECONFIG, KUBELET_KUBECONFIG, KUBELET_PKI_DIR, PROXY_KUBECONFIG, TAKEN,
};
use crate::pki::inspect::is_signed_by;
use crate::plan::{Plan, Step};
use crate::records::run::RENEW;
use crate::sys::retry::transient;
use crate::sys::root::Root;
use crate::sys::waiting::awaited;

/// How long a kubelet may take to get its certificate.
const KUBELET: Duration = Duration::from_secs(600);
/// The longest pause between two looks at it.
const PAUSE: Duration = Duration::from_secs(5);
/// What [`TAKEN`] has while a worker takes other authorities.
const TAKING: &str = "taking others";

fn digest_of(pem: &[u8]) -> String {
    Sha256::of(pem).to_string()
}

/// SHA-256 of the authorities that the node at `root` trusts, in hexadecimal.
pub fn digest(root: &Root) -> Result<String> {
    let pem = root.read(CA_CERTIFICATE)?;
    let pem = pem.with_context(|| {
        tr!(
            "{CA_CERTIFICATE} is missing; run `appliance install`",
            CA_CERTIFICATE
        )
    })?;
    Ok(digest_of(&pem))
}

/// Gives all certificates, kubeconfigs and services of this node what its authorities ask for. Returns when its API
/// server, or its kubelet, works with them.
pub fn settle(machine: &Machine, joining: Joining) -> Result<()> {
    let role = *machine.spec.role;
    let planned = machine.plan(&machine.identity(joining)?)?;
    let planned = match role.is_master() {
        // The unit of the controller manager changes too.
        true => planned,
        false => planned.only(Plan::of_renewal),
    };
    machine.apply(&planned, RENEW)?;
    if !machine.root.is_live() {
        return Ok(());
    }
    if role.is_master() {
        until_up(machine.runner)?;
    }
    match role.is_worker() {
        true => renew_kubelet(machine),
        false => Ok(()),
    }
}

/// Whether the kubelet's own kubeconfig has the authorities of this node, and its certificate is of the first one.
pub fn kubelet_follows(root: &Root) -> Result<bool> {
    let authorities = root.read(CA_CERTIFICATE)?.unwrap_or_default();
    let kubeconfig = root.read(KUBELET_KUBECONFIG)?.unwrap_or_default();
    // The first certificate that it gets is in a file of another name; the later ones, in this one.
    let rotated = root.read(&format!("{KUBELET_PKI_DIR}/kubelet-client-current.pem"))?;
    let certificate = match rotated {
        Some(pem) => Some(pem),
        None => root.read(&format!("{KUBELET_PKI_DIR}/kubelet-client.crt"))?,
    };
    let trusts = has_authorities(&kubeconfig, &authorities);
    let is_signed =
        certificate.is_some_and(|pem| is_signed_by(&pem, &authorities).unwrap_or(false));
    Ok(trusts && is_signed)
}

/// Whether the `kubeconfig` trusts `authorities` (PEM).
fn has_authorities(kubeconfig: &[u8], authorities: &[u8]) -> bool {
    String::from_utf8_lossy(kubeconfig).contains(&BASE64.encode(authorities))
}

/// The digest of the authorities that the worker at `root` has taken whole, as its files say; `None` if it has not taken
/// them, or if a file is another one since then, as after a restore of `/etc`.
pub fn taken(root: &Root) -> Result<Option<String>> {
    let Some(noted) = root.read(TAKEN)? else {
        return Ok(None);
    };
    let authorities = root.read(CA_CERTIFICATE)?.unwrap_or_default();
    let digest = digest_of(&authorities);
    if String::from_utf8_lossy(&noted) != digest {
        return Ok(None);
    }
    for path in [PROXY_KUBECONFIG, CALICO_KUBECONFIG, KUBELET_KUBECONFIG] {
        let kubeconfig = root.read(path)?;
        if kubeconfig.is_some_and(|text| !has_authorities(&text, &authorities)) {
            return Ok(None);
        }
    }
    Ok(Some(digest))
}

/// Makes the kubelet request its certificate again. It copies the authorities into a kubeconfig of its own when it
/// gets its certificate, and reads them from nowhere else later.
fn renew_kubelet(machine: &Machine) -> Result<()> {
    if kubelet_follows(&machine.root)? {
        return Ok(());
    }
    log::info!("the kubelet requests its certificate again");
    let steps = vec![
        Step::RemoveFile(KUBELET_KUBECONFIG),
        Step::RemoveContent(KUBELET_PKI_DIR),
    ];
    machine.take_down(&Plan { steps }, None)?;
    systemd::start(machine.runner, "kubelet", true)?;
    awaited(
        "the kubelet's certificate",
        KUBELET,
        PAUSE,
        || match kubelet_follows(&machine.root) {
            Ok(true) => Ok(()),
            Ok(false) => Err(transient(anyhow!(tr!(
                "the kubelet has no certificate of the new authority yet; see `journalctl -u kubelet`"
            )))),
            Err(error) => Err(transient(error)),
        },
    )
}

/// Takes the authorities that the master of this worker trusts, and tells the master. Returns whether anything
/// changed. It can be cut anywhere and run again.
pub fn follow(machine: &Machine, limit: Duration) -> Result<bool> {
    let (root, context) = (&machine.root, machine.context());
    let known = taken(root)?;
    let pem = ask_authorities(&context, known.as_deref())?;
    let wanted = digest_of(pem.as_bytes());
    if known.as_ref() == Some(&wanted) {
        return Ok(false);
    }
    let is_new = root.read(CA_CERTIFICATE)?.as_deref() != Some(pem.as_bytes());
    // Without any record, a node has what it got when it joined.
    let is_settled = !is_new && root.read(TAKEN)?.is_none();
    if !is_settled {
        log::info!("the master trusts other authorities; this node takes them");
        note_taken(root, TAKING)?;
        take_authorities(root, &pem)?;
        settle(machine, Joining::Now(Some(limit)))?;
    }
    note_taken(root, &digest(root)?)?;
    ask_authorities(&context, taken(root)?.as_deref())?;
    Ok(!is_settled)
}
