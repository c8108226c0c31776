//! The stand-in for kube-proxy: asks the API, and is healthy while it answers.
//! It writes no iptables rules and no kernel settings.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::client::Client;
use crate::flags::{Flags, invalid};
use crate::server::{Request, Response, Server, only};
use crate::{lease, lifecycle};

/// Runs until told to stop.
///
/// # Errors
/// Flags or files the real program would not run with.
pub fn run(flags: &Flags) -> Result<()> {
    flags.check_files(&[])?;
    flags.network("cluster-cidr")?;
    flags.address("bind-address", IpAddr::V4(Ipv4Addr::UNSPECIFIED))?;
    match flags.text("proxy-mode") {
        None | Some("iptables" | "userspace") => {}
        Some("ipvs") => bail!("--proxy-mode=ipvs needs the feature gate SupportIPVSProxyMode"),
        Some(other) => return Err(invalid("proxy-mode", other, "unknown mode")),
    }
    let api = lease::api_client(flags)?;
    let node = match flags.text("hostname-override") {
        Some(name) => name.trim().to_lowercase(),
        None => lifecycle::host_name()?,
    };
    let mode = flags.text("proxy-mode").unwrap_or("iptables").to_owned();
    let health = flags.address("healthz-bind-address", IpAddr::V4(Ipv4Addr::UNSPECIFIED))?;
    let health = SocketAddr::new(health, flags.port("healthz-port", 10256)?);
    let metrics = flags.address("metrics-bind-address", IpAddr::V4(Ipv4Addr::LOCALHOST))?;
    let metrics = SocketAddr::new(metrics, 10249);
    lifecycle::run_until_stopped(move || serve(&api, &node, mode, health, metrics))
}

fn serve(
    api: &Client,
    node: &str,
    mode: String,
    health: SocketAddr,
    metrics: SocketAddr,
) -> Result<()> {
    // A node that is not there yet is no reason to wait.
    if let Err(error) = api
        .get(&format!("/api/v1/nodes/{node}"))
        .and_then(|reply| reply.json())
    {
        eprintln!("Failed to retrieve node info: {error:#}");
    }
    while let Err(error) = api.get("/api/v1/services").and_then(|reply| reply.json()) {
        eprintln!("services: {error:#}; trying again");
        thread::sleep(Duration::from_secs(1));
    }
    let server = Server::new()?;
    let answer = || {
        Response::text(
            200,
            format!("{{\"lastUpdated\": \"{}\"}}", lifecycle::now()),
        )
    };
    server.listen(health, None, only("/healthz", answer))?;
    let handler = Arc::new(move |request: Request| match request.path.as_str() {
        "/healthz" => Response::text(200, "ok"),
        "/proxyMode" => Response::text(200, mode.clone()),
        "/metrics" => Response::text(200, "# appliance test stand-in\n"),
        _ => Response::text(404, "404 page not found\n"),
    });
    if let Err(error) = server.listen(metrics, None, handler) {
        eprintln!("starting metrics server failed: {error:#}");
    }
    loop {
        thread::park();
    }
}
