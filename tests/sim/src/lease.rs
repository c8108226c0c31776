//! The leader's lease: an annotation on an Endpoints object, as in v1.9.0, and
//! the health endpoint that tells whether it is held.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::client::Client;
use crate::flags::Flags;
use crate::kubeconfig;
use crate::lifecycle;
use crate::server::{Response, Server, only};

/// How often the lease is renewed, and how long renewing may fail: the real
/// programs' defaults.
const RETRY_PERIOD: Duration = Duration::from_secs(2);
const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// The API client that `--kubeconfig` and `--master` describe.
///
/// # Errors
/// Neither is given (the stand-ins are never in a pod), or the kubeconfig is broken.
pub fn api_client(flags: &Flags) -> Result<Client> {
    match (flags.text("kubeconfig"), flags.text("master")) {
        (Some(path), _) => kubeconfig::client(path.as_ref()).context("--kubeconfig"),
        (None, Some(master)) => Client::plain(master).context("--master"),
        (None, None) => bail!(
            "neither --kubeconfig nor --master was specified, and this is no pod: \
             unable to load in-cluster configuration"
        ),
    }
}

/// Serves `/healthz` on `address` and keeps the lease `name` through `api`; `held` tells
/// whether it is held.
///
/// # Errors
/// An address that cannot be bound; a lease that was held and could not be renewed.
pub fn hold(
    name: &'static str,
    api: &Client,
    address: SocketAddr,
    held: &Arc<AtomicBool>,
) -> Result<()> {
    let server = Server::new()?;
    let told = held.clone();
    let handler = only("/healthz", move || {
        if told.load(Ordering::SeqCst) {
            Response::text(200, "ok")
        } else {
            Response::text(500, "the leader's lease is not held\n")
        }
    });
    server.listen(address, None, handler)?;
    let identity = lifecycle::host_name()?;
    let mut renewed: Option<Instant> = None;
    loop {
        match renew(name, &identity, api) {
            Ok(()) => {
                if !held.swap(true, Ordering::SeqCst) {
                    eprintln!("successfully acquired lease kube-system/{name}");
                }
                renewed = Some(Instant::now());
            }
            Err(error) => {
                eprintln!("lease kube-system/{name}: {error:#}");
                if renewed.is_some_and(|at| at.elapsed() > RENEW_DEADLINE) {
                    bail!("leaderelection lost");
                }
            }
        }
        thread::sleep(RETRY_PERIOD);
    }
}

/// The API must also let the component read what it works on.
fn renew(name: &str, identity: &str, api: &Client) -> Result<()> {
    api.get("/api/v1/nodes")?.json().context("nodes")?;
    let path = format!("/api/v1/namespaces/kube-system/endpoints/{name}");
    let written = api.put(&path, &record(name, identity))?.json()?;
    if written["metadata"]["name"] != json!(name) {
        bail!("the API answered something else than what was written");
    }
    Ok(())
}

fn record(name: &str, identity: &str) -> Value {
    let leader = json!({
        "holderIdentity": identity,
        "leaseDurationSeconds": 15,
        "renewTime": lifecycle::now(),
    });
    json!({
        "kind": "Endpoints", "apiVersion": "v1",
        "metadata": {
            "name": name,
            "namespace": "kube-system",
            "annotations": {"control-plane.alpha.kubernetes.io/leader": leader.to_string()},
        },
    })
}
