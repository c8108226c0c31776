//! kube-dns: answers for the names of the cluster, which it reads from the API.

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::client::Client;
use crate::server::{Response, Server, only};
use crate::{keys, kubeconfig, lifecycle, tls};

use super::options::Options;
use super::transport::{self, Handler};
use super::zone::Zone;

const FLAGS: &str = "config-dir config-map config-map-namespace config-period dns-bind-address \
    dns-port domain federations healthz-port initial-sync-timeout kube-master-url kubecfg-file \
    nameservers";

/// How often to read from the API: the real program watches it.
const LOOK: Duration = Duration::from_secs(2);

/// The path of the token of a pod's account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Runs until it is stopped.
///
/// # Errors Flags or files with which the real program would not run.
pub fn run(arguments: &[String]) -> Result<()> {
    let options = Options::parse(FLAGS, arguments)?;
    let domain = options.last("domain").unwrap_or("cluster.local.");
    let domain = format!("{}.", domain.trim_end_matches('.'));
    let port = options.port("dns-port", 53)?;
    let health = options.port("healthz-port", 8081)?;
    let api = api(&options)?;
    lifecycle::run_until_stopped(move || {
        let zone = Arc::new(Mutex::new(Zone::default()));
        let known = zone.clone();
        let handler: Handler =
            Arc::new(move |question, _| known.lock().ok().and_then(|zone| zone.answer(question)));
        transport::listen(port, &handler)?;
        let server = Server::new()?;
        let told = zone.clone();
        let readiness = only("/readiness", move || {
            if told.lock().is_ok_and(|zone| zone.is_complete()) {
                Response::text(200, "ok\n")
            } else {
                Response::text(503, "the services are not known yet\n")
            }
        });
        server.listen(
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, health)),
            None,
            readiness,
        )?;
        loop {
            match look(&api, &domain) {
                Ok(new) => {
                    if let Ok(mut zone) = zone.lock() {
                        *zone = new;
                    }
                }
                Err(error) => eprintln!("services and endpoints: {error:#}"),
            }
            thread::sleep(LOOK);
        }
    })
}

fn api(options: &Options) -> Result<Client> {
    if let Some(path) = options.last("kubecfg-file") {
        return kubeconfig::client(Path::new(path));
    }
    if let Some(master) = options.last("kube-master-url") {
        return Client::plain(master);
    }
    in_cluster().context("unable to load in-cluster configuration")
}

/// The API as a pod reaches it, with the token of its account.
fn in_cluster() -> Result<Client> {
    let variable = |name: &str| env::var(name).with_context(|| format!("{name} is not set"));
    let host = variable("KUBERNETES_SERVICE_HOST")?;
    let port = variable("KUBERNETES_SERVICE_PORT")?;
    // Tests run it without a pod.
    let account = env::var("SIM_SERVICE_ACCOUNT").unwrap_or(ACCOUNT.to_owned());
    let path = Path::new(&account).join("token");
    let token = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    if token.trim().is_empty() {
        bail!("{}: the token is empty", path.display());
    }
    let authority = keys::certificates(&Path::new(&account).join("ca.crt"))?;
    let config = tls::client(Some(tls::authorities(authority)?), None)?;
    Client::new(&format!("https://{host}:{port}"), config, Some(token))
}

fn look(api: &Client, domain: &str) -> Result<Zone> {
    let services = api.list("/api/v1/services")?;
    Ok(Zone::of(domain, &services, &api.list("/api/v1/endpoints")?))
}
