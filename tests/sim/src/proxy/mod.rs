//! The stand-in for kube-proxy: forwards packets for services' addresses and for nodes' ports to
//! endpoints that are ready, with iptables.

mod rules;
mod services;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::client::Client;
use crate::flags::{Flags, invalid};
use crate::net::{ip, iptables};
use crate::server::{Request, Response, Server, only};
use crate::{lease, lifecycle};
use rules::Options;
use services::Port;

/// How often to read from the API.
const PERIOD: Duration = Duration::from_secs(3);
/// How often the rules are written even if nothing changed, as in v1.9.0.
const SYNC_PERIOD: Duration = Duration::from_secs(30);
/// The bit of the packet mark for masquerading, as in v1.9.0.
const MASQUERADE_BIT: u16 = 14;

/// Runs until it is stopped.
///
/// # Errors Flags or files with which the real program would not run.
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
    let proxy = Proxy {
        options: options(flags)?,
        every: flags.duration("iptables-sync-period", SYNC_PERIOD),
        api,
    };
    lifecycle::run_until_stopped(move || proxy.serve(&node, mode, health, metrics))
}

fn options(flags: &Flags) -> Result<Options> {
    let bit = flags.port("iptables-masquerade-bit", MASQUERADE_BIT)?;
    if bit > 31 {
        bail!("iptables-masquerade-bit must be within the range [0, 31]");
    }
    let mark = 1_u32 << bit;
    Ok(Options {
        pods: flags.network("cluster-cidr")?.map(|pods| pods.to_string()),
        mark: format!("{mark:#x}/{mark:#x}"),
        masquerade_all: flags.boolean("masquerade-all", false),
    })
}

/// The ports in the rules that were written last, and when.
type Written = (Vec<Port>, Option<Instant>);

struct Proxy {
    api: Client,
    options: Options,
    every: Duration,
}

impl Proxy {
    fn serve(
        &self,
        node: &str,
        mode: String,
        health: SocketAddr,
        metrics: SocketAddr,
    ) -> Result<()> {
        // It does not wait for its node to exist.
        let node = self.api.get(&format!("/api/v1/nodes/{node}"));
        if let Err(error) = node.and_then(|node| node.json()) {
            eprintln!("Failed to retrieve node info: {error:#}");
        }
        // With this setting, a node's port also answers at 127.0.0.1.
        let localnet = || ip::set("conf/all/route_localnet", "1");
        let mut written = (Vec::new(), None);
        while let Err(error) = self.synchronize(&mut written).and_then(|()| localnet()) {
            eprintln!("{error:#}; trying again");
            thread::sleep(PERIOD);
        }
        let server = Server::new()?;
        listen(&server, mode, health, metrics)?;
        self.keep(written)
    }

    /// Keeps the rules up to date with the API. While the API does not answer, they stay.
    fn keep(&self, mut written: Written) -> Result<()> {
        loop {
            thread::sleep(PERIOD);
            if let Err(error) = self.synchronize(&mut written) {
                eprintln!("{error:#}; trying again");
            }
        }
    }

    fn synchronize(&self, written: &mut Written) -> Result<()> {
        let services = self.api.list("/api/v1/services")?;
        let endpoints = self.api.list("/api/v1/endpoints")?;
        let ports = services::ports(&services, &endpoints);
        let fresh = written.1.is_some_and(|then| then.elapsed() < self.every);
        if fresh && written.0 == ports {
            return Ok(());
        }
        let old = iptables::chains("nat")?;
        iptables::restore(&rules::tables(&self.options, &ports, &old))?;
        for (table, chain, target) in rules::JUMPS {
            iptables::jump(table, chain, target)?;
        }
        if written.0 != ports || written.1.is_none() {
            eprintln!("wrote the rules of {} service ports", ports.len());
        }
        *written = (ports, Some(Instant::now()));
        Ok(())
    }
}

fn listen(server: &Server, mode: String, health: SocketAddr, metrics: SocketAddr) -> Result<()> {
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
    Ok(())
}
