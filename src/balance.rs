//! The way to the API servers where there are several: a port of this machine, from which
//! connections go on to a server that is healthy.
//!
//! Of a server that is found dead, its connections are closed: a kubelet would otherwise wait for
//! an answer on a connection that is still open, as far as it knows, for a quarter of an hour.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::future::{Either, select};
use reqwest::blocking::Client;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::sys::http;

/// Between two looks at a server.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long a server may take to say that it is healthy, in all.
pub const HEALTH: Duration = Duration::from_secs(4);
/// After so many bad answers in a row a server counts as dead: one may be lost on the way.
const BAD_ANSWERS: u32 = 2;
/// How long a server may take to accept a connection, before the next one is tried.
const CONNECT: Duration = Duration::from_secs(2);
/// How long to wait where no more connections can be taken, for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// How many connections may be open.
const MOST_CONNECTIONS: usize = 8192;

/// One API server.
struct Server {
    address: SocketAddr,
    healthy: watch::Sender<bool>,
}

/// Forwards what comes to `listener` to one of `servers`, whose health it asks with `client`, for
/// ever.
pub fn run(listener: TcpListener, servers: &[SocketAddr], client: &Client) -> Result<()> {
    let servers: Arc<[Arc<Server>]> = servers
        .iter()
        .map(|&address| {
            Arc::new(Server {
                address,
                // Until the first answer, as good as any.
                healthy: watch::Sender::new(true),
            })
        })
        .collect();
    for server in &*servers {
        let (server, client) = (server.clone(), client.clone());
        thread::spawn(move || watch_health(&server, &client));
    }
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(listener, servers))
}

fn watch_health(server: &Server, client: &Client) {
    let url = format!("https://{}/healthz", server.address);
    let mut bad = 0;
    loop {
        match http::get(client, &url) {
            Ok(()) => {
                bad = 0;
                if !server.healthy.send_replace(true) {
                    log::info!("the API server at {} is healthy again", server.address);
                }
            }
            Err(error) => {
                bad += 1;
                if bad >= BAD_ANSWERS && server.healthy.send_replace(false) {
                    log::warn!(
                        "the API server at {} is not healthy: {error:#}",
                        server.address
                    );
                }
            }
        }
        thread::sleep(INTERVAL);
    }
}

async fn serve(listener: TcpListener, servers: Arc<[Arc<Server>]>) -> Result<()> {
    let place = listener.local_addr()?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let next = AtomicUsize::new(0);
    log::info!("{place} leads to {} API servers", servers.len());
    loop {
        let permit = room.clone().acquire_owned().await.context("no room")?;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::warn!("{place}: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let first = next.fetch_add(1, Ordering::Relaxed);
        let forwarded = forward(stream, servers.clone(), first);
        tokio::spawn(async move {
            forwarded.await;
            drop(permit);
        });
    }
}

/// Every server once, from the one of number `first` on; those that are not healthy come last,
/// for they may be by now.
fn in_order(servers: &[Arc<Server>], first: usize) -> Vec<Arc<Server>> {
    let turned = (0..servers.len()).map(|i| servers[(first + i) % servers.len()].clone());
    let mut ordered: Vec<_> = turned.collect();
    ordered.sort_by_key(|server| !*server.healthy.borrow());
    ordered
}

async fn forward(mut stream: TcpStream, servers: Arc<[Arc<Server>]>, first: usize) {
    for server in in_order(&servers, first) {
        let connecting = TcpStream::connect(server.address);
        let Ok(Ok(mut other)) = timeout(CONNECT, connecting).await else {
            continue;
        };
        // Latency counts for watches; it fails only on a connection that is gone.
        let _ = (stream.set_nodelay(true), other.set_nodelay(true));
        let copied = copy_bidirectional(&mut stream, &mut other);
        until_dead(&server, copied).await;
        return;
    }
    log::warn!("no API server takes a connection");
}

/// Lets `work` go on until it ends or the server is found dead.
async fn until_dead<T>(server: &Server, work: impl Future<Output = T>) {
    let mut healthy = server.healthy.subscribe();
    let dead = healthy.wait_for(|healthy| !healthy);
    match select(std::pin::pin!(work), std::pin::pin!(dead)).await {
        Either::Left(_) => {}
        Either::Right(_) => log::debug!("a connection to {} is closed", server.address),
    }
}
