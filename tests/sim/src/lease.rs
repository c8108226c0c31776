//! The leader's lease: an annotation on an Endpoints object, as in v1.9.0, and the health endpoint
//! that reports whether it is held.

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

/// How often to renew the lease, and how long renewing may fail: longer than in the real programs
/// (2 and 10 seconds), for several of them that share a slow machine.
const RETRY_PERIOD: Duration = Duration::from_secs(4);
/// How often to try to take it, as in the real programs.
const ACQUIRE_PERIOD: Duration = Duration::from_secs(2);
const RENEW_DEADLINE: Duration = Duration::from_secs(40);

/// After this time without a renewal, another program may take the lease.
const DURATION: Duration = Duration::from_secs(60);

const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

/// The API client that `--kubeconfig` and `--master` describe.
///
/// # Errors Neither is set (the stand-ins never run in a pod), or the kubeconfig is invalid.
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

/// Serves `/healthz` on `address` and holds the lease `name` through `api`, or waits for it; `held`
/// reports whether it is held.
///
/// # Errors An address that cannot be bound; a lease that was held and could not be renewed.
pub fn hold(
    name: &'static str,
    api: &Client,
    address: SocketAddr,
    held: &Arc<AtomicBool>,
) -> Result<()> {
    let server = Server::new()?;
    // A program that waits for the lease of another is healthy, too.
    let asked = Arc::new(AtomicBool::new(false));
    let told = asked.clone();
    let handler = only("/healthz", move || {
        if told.load(Ordering::SeqCst) {
            Response::text(200, "ok")
        } else {
            Response::text(
                500,
                "the API does not answer requests for the leader's lease\n",
            )
        }
    });
    server.listen(address, None, handler)?;
    let mut lease = Lease {
        name,
        identity: lifecycle::host_name()?,
        other: None,
    };
    let mut renewed: Option<Instant> = None;
    loop {
        match lease.renew(api) {
            Ok(own) => {
                asked.store(true, Ordering::SeqCst);
                if own && !held.load(Ordering::SeqCst) {
                    eprintln!("successfully acquired lease kube-system/{name}");
                }
                if !own && renewed.is_some() {
                    held.store(false, Ordering::SeqCst);
                    bail!("leaderelection lost");
                }
                held.store(own, Ordering::SeqCst);
                renewed = own.then(Instant::now);
            }
            Err(error) => {
                eprintln!("lease kube-system/{name}: {error:#}");
                asked.store(renewed.is_some(), Ordering::SeqCst);
                if renewed.is_some_and(|at| at.elapsed() > RENEW_DEADLINE) {
                    held.store(false, Ordering::SeqCst);
                    bail!("leaderelection lost");
                }
            }
        }
        thread::sleep(match renewed {
            Some(_) => RETRY_PERIOD,
            None => ACQUIRE_PERIOD,
        });
    }
}

/// A lease that one of several programs holds.
struct Lease {
    name: &'static str,
    identity: String,
    /// The last record of another holder, and when it was first seen here: clocks differ.
    other: Option<(String, Instant)>,
}

impl Lease {
    /// Takes or renews the lease. Returns whether it is held now. The component must also be able
    /// to read its objects from the API.
    fn renew(&mut self, api: &Client) -> Result<bool> {
        api.list("/api/v1/nodes")?;
        let directory = "/api/v1/namespaces/kube-system/endpoints";
        let path = format!("{directory}/{}", self.name);
        let reply = api.get(&path)?;
        if reply.status == 404 {
            let made = api.post(directory, &self.record(&Value::Null))?;
            self.check(&made.json()?)?;
            return Ok(true);
        }
        let found = reply.json()?;
        let record = found["metadata"]["annotations"][LEADER].as_str();
        if self.is_anothers(record.unwrap_or_default(), Instant::now()) {
            return Ok(false);
        }
        let written = api.put(&path, &self.record(&found["metadata"]["resourceVersion"]))?;
        // If another program was faster, this fails and is tried again.
        self.check(&written.json()?)?;
        Ok(true)
    }

    fn is_anothers(&mut self, record: &str, now: Instant) -> bool {
        let leader: Value = serde_json::from_str(record).unwrap_or_default();
        let holder = leader["holderIdentity"].as_str().unwrap_or_default();
        if holder.is_empty() || holder == self.identity {
            return false;
        }
        match &self.other {
            Some((known, since)) if known == record => now.duration_since(*since) < DURATION,
            _ => {
                self.other = Some((record.to_owned(), now));
                true
            }
        }
    }

    fn check(&self, written: &Value) -> Result<()> {
        if written["metadata"]["name"] != json!(self.name) {
            bail!("the API returned another object than the one that was written");
        }
        Ok(())
    }

    fn record(&self, version: &Value) -> Value {
        let leader = json!({
            "holderIdentity": self.identity,
            "leaseDurationSeconds": DURATION.as_secs(),
            "renewTime": lifecycle::now(),
        });
        json!({
            "kind": "Endpoints", "apiVersion": "v1",
            "metadata": {
                "name": self.name,
                "namespace": "kube-system",
                "resourceVersion": version,
                "annotations": {LEADER: leader.to_string()},
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anothers_lease_is_waited_for_until_it_is_not_renewed() {
        let mut lease = Lease {
            name: "n",
            identity: "a".to_owned(),
            other: None,
        };
        let start = Instant::now();
        let mut waits = |record: Value, seconds| {
            let now = start + Duration::from_secs(seconds);
            lease.is_anothers(&record.to_string(), now)
        };
        let of = |holder: &str, time: u32| json!({"holderIdentity": holder, "renewTime": time});
        assert!(!waits(of("a", 1), 0));
        assert!(!waits(of("", 1), 0));
        assert!(waits(of("b", 1), 0));
        assert!(waits(of("b", 1), 59));
        assert!(waits(of("b", 2), 60));
        assert!(waits(of("b", 2), 119));
        assert!(!waits(of("b", 2), 120));
    }
}
