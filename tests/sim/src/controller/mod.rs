//! The stand-in for kube-controller-manager. It checks its keys and ranges. While it holds its
//! lease, it approves and signs certificate requests, marks nodes that went silent, makes the pods
//! of workloads, endpoints, service accounts and their tokens, and removes objects without an
//! owner.

mod accounts;
mod api;
mod approve;
mod daemons;
mod endpoints;
mod garbage;
mod nodes;
mod replicas;
mod sign;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::client::Client;
use crate::flags::Flags;
use crate::kinds::Kind;
use crate::{checks, keys, lease, lifecycle};
use accounts::Tokens;
use endpoints::Endpoints;
use nodes::Monitor;
use sign::Signer;

/// How often to read certificate requests: the real program watches them.
const LOOK: Duration = Duration::from_secs(3);
/// The pause between two looks at the requests for certificates: the real program has them at once.
const GLANCE: Duration = Duration::from_millis(500);

/// Runs until it is stopped.
///
/// # Errors Flags or files with which the real program would not run.
pub fn run(flags: &Flags) -> Result<()> {
    flags.check_files(&[])?;
    check_networks(flags)?;
    check_keys(flags)?;
    let api = lease::api_client(flags)?;
    let address = flags.address("address", IpAddr::V4(Ipv4Addr::UNSPECIFIED))?;
    let address = SocketAddr::new(address, flags.port("port", 10252)?);
    let mut controllers = Controllers::read(flags)?;
    lifecycle::run_until_stopped(move || {
        let held = Arc::new(AtomicBool::new(false));
        let (leads, worker) = (held.clone(), api.clone());
        thread::spawn(move || {
            let mut looked: Option<Instant> = None;
            loop {
                if leads.load(Ordering::SeqCst) {
                    controllers.certify(&worker);
                    if looked.is_none_or(|at| at.elapsed() >= LOOK) {
                        controllers.work(&worker);
                        looked = Some(Instant::now());
                    }
                }
                thread::sleep(GLANCE);
            }
        });
        lease::hold("kube-controller-manager", &api, address, &held)
    })
}

/// A controller without any state.
type Plain = (&'static str, fn(&Client) -> Result<()>);

const PLAIN: [Plain; 6] = [
    ("serviceaccount", accounts::defaults),
    ("deployment", replicas::deployments),
    ("replicaset", replicas::sets),
    ("daemonset", daemons::sets),
    ("podgc", garbage::pods_of_gone_nodes),
    ("garbagecollector", garbage::orphans),
];

/// The enabled controllers.
struct Controllers {
    plain: Vec<Plain>,
    tokens: Option<Tokens>,
    endpoints: Option<Endpoints>,
    approves: bool,
    signer: Option<Signer>,
    monitor: Option<Monitor>,
    period: Duration,
    looked: Option<Instant>,
    failures: HashMap<String, String>,
}

impl Controllers {
    fn read(flags: &Flags) -> Result<Self> {
        let grace = flags.duration("node-monitor-grace-period", Duration::from_secs(40));
        let signer = if is_on(flags, "csrsigning") {
            Signer::read(flags)?
        } else {
            None
        };
        let tokens = if is_on(flags, "serviceaccount-token") {
            Tokens::read(flags).context("--service-account-private-key-file")?
        } else {
            None
        };
        let eviction = flags.duration("pod-eviction-timeout", Duration::from_secs(300));
        let plain = PLAIN.into_iter().filter(|(name, _)| is_on(flags, name));
        Ok(Self {
            plain: plain.collect(),
            tokens,
            endpoints: is_on(flags, "endpoint").then(Endpoints::default),
            approves: is_on(flags, "csrapproving"),
            signer,
            monitor: is_on(flags, "node").then(|| Monitor::new(grace, eviction)),
            period: flags.duration("node-monitor-period", Duration::from_secs(5)),
            looked: None,
            failures: HashMap::new(),
        })
    }

    fn certify(&mut self, api: &Client) {
        let requests = self.requests(api);
        self.tell("certificate signing requests", requests);
    }

    fn work(&mut self, api: &Client) {
        if let Some(tokens) = &self.tokens {
            let done = tokens.look(api);
            self.tell("serviceaccount-token", done);
        }
        for (name, run) in self.plain.clone() {
            self.tell(name, run(api));
        }
        if let Some(endpoints) = &mut self.endpoints {
            let done = endpoints.look(api);
            self.tell("endpoint", done);
        }
        let due = self.looked.is_none_or(|at| at.elapsed() >= self.period);
        if let Some(monitor) = self.monitor.as_mut().filter(|_| due) {
            self.looked = Some(Instant::now());
            let looked = monitor.look(api);
            self.tell("nodes", looked);
        }
    }

    fn requests(&mut self, api: &Client) -> Result<()> {
        if !self.approves && self.signer.is_none() {
            return Ok(());
        }
        let kind = Kind::named("csr").context("no kind of signing requests")?;
        for object in api.list(&kind.path(None, None))? {
            let mut done = Ok(());
            if self.approves {
                done = approve::handle(api, &object);
            }
            if let (Ok(()), Some(signer)) = (&done, &self.signer) {
                done = signer.handle(api, &object);
            }
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            self.tell(&format!("certificate signing request {name}"), done);
        }
        Ok(())
    }

    /// Logs a failure once, as long as it stays the same.
    fn tell(&mut self, what: &str, done: Result<()>) {
        let Err(error) = done else {
            self.failures.remove(what);
            return;
        };
        let text = format!("{error:#}");
        if self.failures.get(what) != Some(&text) {
            eprintln!("{what}: {text}");
            self.failures.insert(what.to_owned(), text);
        }
    }
}

/// Whether `--controllers` enables a controller: by name, or with `*` all that are not disabled.
fn is_on(flags: &Flags, name: &str) -> bool {
    let listed = flags.list("controllers");
    if listed.contains(&name) {
        return true;
    }
    let off = format!("-{name}");
    !listed.contains(&off.as_str()) && (listed.is_empty() || listed.contains(&"*"))
}

fn check_networks(flags: &Flags) -> Result<()> {
    let cluster = flags.network("cluster-cidr")?;
    if let Some(service) = flags.network("service-cluster-ip-range")? {
        checks::service_range(&service)?;
    }
    let mask = flags.text("node-cidr-mask-size").unwrap_or("24");
    let mask: u8 = mask.parse().context("--node-cidr-mask-size")?;
    match cluster {
        _ if !flags.boolean("allocate-node-cidrs", false) => Ok(()),
        None => bail!("must specify --cluster-cidr if --allocate-node-cidrs is true"),
        Some(cluster) if cluster.prefix_len() > mask => bail!(
            "invalid --cluster-cidr {cluster}: its mask must be less than --node-cidr-mask-size {mask}"
        ),
        Some(_) => Ok(()),
    }
}

fn check_keys(flags: &Flags) -> Result<()> {
    if let Some(path) = flags.text("root-ca-file") {
        keys::certificates(Path::new(path)).context("--root-ca-file")?;
    }
    if let Some(path) = flags.text("service-account-private-key-file") {
        keys::check_signing_key(Path::new(path)).context("--service-account-private-key-file")?;
    }
    match (
        flags.text("cluster-signing-cert-file"),
        flags.text("cluster-signing-key-file"),
    ) {
        (Some(certificate), Some(key)) => {
            keys::check_pair(Path::new(certificate), Path::new(key)).context("--cluster-signing-*")
        }
        (None, None) => Ok(()),
        _ => bail!("--cluster-signing-cert-file and --cluster-signing-key-file go together"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::flags::Parsed;

    #[test]
    fn controllers_are_turned_on_and_off_by_name() {
        let on = |value: &str| {
            let arguments = [format!("--controllers={value}")];
            let Parsed::Run(flags) =
                Flags::parse("--controllers\n--version\n", &arguments).unwrap()
            else {
                panic!("not run");
            };
            is_on(&flags, "csrsigning")
        };
        assert!(on("") && on("*") && on("csrsigning") && on("*,tokencleaner"));
        assert!(!on("*,-csrsigning") && !on("node"));
    }
}
