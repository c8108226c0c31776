//! The stand-ins that only answer requests: the dashboard, and the example services of the
//! tutorial's last chapter.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lifecycle;
use crate::program::usage;
use crate::server::{Response, Server};
use crate::tls::{self, Identity};

/// The example services, which are also the names of their programs.
pub const SERVICES: [&str; 6] = [
    "message-service",
    "course-service",
    "course-edge-service",
    "user-service",
    "user-edge-service",
    "api-gateway-zuul",
];

/// The dashboard's flags that the stand-in accepts; only the port has an effect.
const DASHBOARD_FLAGS: [&str; 9] = [
    "--apiserver-host",
    "--authentication-mode",
    "--auto-generate-certificates",
    "--bind-address",
    "--default-cert-dir",
    "--heapster-host",
    "--insecure-port",
    "--port",
    "--token-ttl",
];

/// Serves a page over HTTPS, with a certificate made at the start.
///
/// # Errors Arguments that the real dashboard does not know; a port that cannot be bound.
pub fn dashboard(arguments: &[String]) -> Result<()> {
    let mut port = 8443;
    for argument in arguments {
        let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
        if !DASHBOARD_FLAGS.contains(&name) {
            return Err(usage(format!("unknown flag: {name}")));
        }
        if name == "--port" {
            port = value.parse().context("--port")?;
        }
    }
    let made = rcgen::generate_simple_self_signed(["kubernetes-dashboard".to_owned()])?;
    let key = made.signing_key.serialize_pem();
    let identity = Identity::from_pem(made.cert.pem().as_bytes(), key.as_bytes())?;
    let tls = tls::server(identity, None)?;
    let page = "Kubernetes Dashboard: appliance test stand-in\n";
    lifecycle::run_until_stopped(move || {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let server = Server::new()?;
        server.listen(
            address,
            Some(tls),
            Arc::new(move |_| Response::text(200, page)),
        )?;
        wait_forever()
    })
}

/// Answers every request with `name`, on the port that `PORT` names. After it was told to end, it answers for `LINGER`
/// seconds more, until no node sends it requests any longer.
///
/// # Errors A port that is invalid or cannot be bound.
pub fn service(name: &'static str) -> Result<()> {
    let port = std::env::var("PORT").ok().filter(|port| !port.is_empty());
    let port = port.map_or(Ok(8080), |port| {
        port.parse()
            .with_context(|| format!("PORT: {port:?} is not a port"))
    })?;
    let linger = std::env::var("LINGER").map_or(Ok(0), |linger| {
        linger
            .parse()
            .with_context(|| format!("LINGER: {linger:?} is no number of seconds"))
    })?;
    let ended = lifecycle::run_until_stopped(move || {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let server = Server::new()?;
        let answer = Arc::new(move |_| Response::text(200, format!("{name}\n")));
        server.listen(address, None, answer)?;
        wait_forever()
    });
    if ended.is_ok() {
        thread::sleep(Duration::from_secs(linger));
    }
    ended
}

/// Keeps the server alive; a signal ends the program.
fn wait_forever() -> ! {
    loop {
        thread::park();
    }
}
