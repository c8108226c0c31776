//! The probe: this program inside a pod. Over HTTP it runs tests that only a pod can run, and it
//! sends every UDP packet back. It listens in the pod's network, can do only these tests, and has
//! no secrets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use hickory_resolver::TokioResolver;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::{getsockopt, sockopt};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How long any server may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long to wait for one packet.
const PACKET: Duration = Duration::from_secs(1);
/// How often a packet is sent before it counts as lost.
const TRIES: usize = 3;
/// How long a connection may last in total.
const CONNECTION: Duration = Duration::from_secs(90);
/// How many connections may be open at a time.
const MOST_CONNECTIONS: usize = 32;
/// The size of the headers of IPv4 and UDP, in bytes.
const HEADERS: u32 = 28;
/// The smallest MTU to test, in bytes. Every IPv4 network supports it.
const LEAST_MTU: u32 = 576;
/// The biggest packet of IPv4, in bytes.
const MOST_MTU: u32 = 65_535;
/// OpenStack's metadata service.
const METADATA: SocketAddr =
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(169, 254, 169, 254), 80));

/// The answer to a health request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Health {
    /// The node it runs on.
    pub node: String,
}

/// A result, or the reason why it is unknown.
pub type Found<T> = Result<T, String>;

#[derive(Deserialize)]
struct Name {
    name: String,
}

#[derive(Deserialize)]
struct Target {
    to: SocketAddr,
    #[serde(default)]
    mtu: u32,
}

/// Answers at `port`, over HTTP and UDP, until the process ends. `node` is the node's name.
pub fn run(port: u16, node: &str) -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(serve(port, node))
}

async fn serve(port: u16, node: &str) -> Result<()> {
    let place = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let at = || format!("cannot listen at {place}");
    let listener = TcpListener::bind(place).await.with_context(at)?;
    let udp = UdpSocket::bind(place).await.with_context(at)?;
    log::info!("listening at {place}");
    let router = router(node);
    tokio::spawn(echo(udp));
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let permit = room.clone().acquire_owned().await?;
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                log::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(ANSWER)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            if let Ok(Err(error)) = timeout(CONNECTION, connection).await {
                log::debug!("{error}");
            }
            drop(permit);
        });
    }
}

/// The requests that a probe answers.
pub fn router(node: &str) -> Router {
    let health = Health {
        node: node.to_owned(),
    };
    Router::new()
        .route("/healthz", get(healthz))
        .route("/dns", get(dns))
        .route("/connect", get(connect))
        .route("/mtu", get(mtu))
        .route("/metadata", get(metadata))
        .with_state(health)
}

async fn healthz(State(health): State<Health>) -> Json<Health> {
    Json(health)
}

/// The addresses of a name, from the name servers and search domains of the pod.
async fn dns(Query(query): Query<Name>) -> Json<Found<Vec<IpAddr>>> {
    Json(told(look_up(&query.name).await))
}

async fn look_up(name: &str) -> Result<Vec<IpAddr>> {
    let resolver = TokioResolver::builder_tokio()?.build()?;
    let looked_up = timeout(ANSWER, resolver.lookup_ip(name)).await;
    let found = looked_up.context("no name server answers")??;
    Ok(found.iter().collect())
}

async fn connect(Query(target): Query<Target>) -> Json<Found<()>> {
    Json(told(reach(target.to).await))
}

async fn reach(to: SocketAddr) -> Result<()> {
    let connected = timeout(ANSWER, TcpStream::connect(to)).await;
    connected.map_err(|_| anyhow!("no answer from {to}"))??;
    Ok(())
}

/// Whether the metadata service is reachable. A refused connection counts as reachable.
async fn metadata() -> Json<bool> {
    let connected = timeout(PACKET * 3, TcpStream::connect(METADATA)).await;
    Json(match connected {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        Err(_) => false,
    })
}

/// The size of the biggest packet that comes back unfragmented; at most the MTU of the request.
async fn mtu(Query(target): Query<Target>) -> Json<Found<u32>> {
    Json(told(biggest(target.to, target.mtu).await))
}

async fn biggest(to: SocketAddr, wanted: u32) -> Result<u32> {
    let wanted = wanted.clamp(LEAST_MTU, MOST_MTU);
    if passes(to, wanted).await? {
        return Ok(wanted);
    }
    let (mut least, mut most) = (0, wanted);
    // The last bytes do not matter, and each lost packet costs a timeout.
    while most - least > 8 {
        let middle = if least == 0 {
            LEAST_MTU.min(most - 1)
        } else {
            least.midpoint(most)
        };
        if passes(to, middle).await? {
            least = middle;
        } else if least == 0 {
            return Err(anyhow!(
                "no packet comes back from {to}, not even a small one"
            ));
        } else {
            most = middle;
        }
    }
    Ok(least)
}

/// Whether a packet of `size` bytes comes back unfragmented. Linux does not fragment a UDP packet
/// that fits the path MTU it knows, and it learns a smaller path MTU when a router drops the first
/// packet. If the path MTU is then smaller than the packet, the packet does not pass.
async fn passes(to: SocketAddr, size: u32) -> Result<bool> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(to).await?;
    let content = vec![0x5a; (size - HEADERS) as usize];
    let mut answer = vec![0; MOST_MTU as usize];
    for _ in 0..TRIES {
        if path_mtu(&socket)? < size || socket.send(&content).await.is_err() {
            return Ok(false);
        }
        let received = timeout(PACKET, socket.recv(&mut answer)).await;
        let came_back = matches!(received, Ok(Ok(length)) if answer[..length] == content[..]);
        if came_back && path_mtu(&socket)? >= size {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The path MTU to the socket's peer that the kernel knows, in bytes.
fn path_mtu(socket: &UdpSocket) -> Result<u32> {
    Ok(u32::try_from(getsockopt(socket, sockopt::IpMtu)?)?)
}

/// Sends every packet back to where it came from.
async fn echo(socket: UdpSocket) {
    let mut packet = vec![0; MOST_MTU as usize];
    loop {
        match socket.recv_from(&mut packet).await {
            Ok((length, from)) => drop(socket.send_to(&packet[..length], from).await),
            // ICMP errors about earlier answers also arrive here.
            Err(error) => log::debug!("echo: {error}"),
        }
    }
}

fn told<T>(result: Result<T>) -> Found<T> {
    result.map_err(|error| format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn a_packet_that_fits_the_path_comes_back_and_the_size_is_told() {
        block_on(async {
            let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let to = server.local_addr().unwrap();
            tokio::spawn(echo(server));
            assert_eq!(biggest(to, 1480).await.unwrap(), 1480);
        });
    }

    /// Drops bigger packets than this without an ICMP error.
    async fn narrow_echo(socket: UdpSocket, mtu: usize) {
        let mut packet = vec![0; MOST_MTU as usize];
        loop {
            let (length, from) = socket.recv_from(&mut packet).await.unwrap();
            if length + HEADERS as usize <= mtu {
                socket.send_to(&packet[..length], from).await.unwrap();
            }
        }
    }

    #[test]
    fn a_path_that_silently_loses_big_packets_is_measured() {
        block_on(async {
            let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let to = server.local_addr().unwrap();
            tokio::spawn(narrow_echo(server, 1450));
            let found = biggest(to, 1480).await.unwrap();
            assert!((1440..=1450).contains(&found), "{found}");
        });
    }

    #[test]
    fn a_name_no_server_knows_and_a_port_nobody_has_are_told() {
        block_on(async {
            let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let to = free.local_addr().unwrap();
            assert!(reach(to).await.is_ok());
            drop(free);
            assert!(reach(to).await.is_err());
        });
    }
}
