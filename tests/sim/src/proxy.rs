//! The stand-in for kube-proxy: asks the API, and is healthy while it answers.
//! It writes no iptables rules.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::flags::{Flags, invalid};
use crate::server::{Response, Server, only};
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
    let address = flags.address("healthz-bind-address", IpAddr::V4(Ipv4Addr::UNSPECIFIED))?;
    let address = SocketAddr::new(address, flags.port("healthz-port", 10256)?);
    lifecycle::run_until_stopped(move || {
        while let Err(error) = api.get("/api/v1/nodes").and_then(|reply| reply.json()) {
            eprintln!("nodes: {error:#}; trying again");
            thread::sleep(Duration::from_secs(1));
        }
        let server = Server::new()?;
        let answer = || {
            Response::text(
                200,
                format!("{{\"lastUpdated\": \"{}\"}}", lifecycle::now()),
            )
        };
        server.listen(address, None, only("/healthz", answer))?;
        loop {
            thread::park();
        }
    })
}
