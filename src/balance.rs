//! The forwarder to several API servers: a port on this machine that forwards connections to a
//! healthy server.
//!
//! If a server is dead and another is healthy, the connections to the dead server are closed.
//! Otherwise a kubelet would wait for an answer for a quarter of an hour. If no server is healthy,
//! it still uses all of them: slow servers are better than none.

use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
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

use crate::language::tr;
use crate::sys::{http, notify};

/// The pause between two health requests to a server.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long a health request may take in total.
pub const HEALTH: Duration = Duration::from_secs(4);
/// A server counts as dead after this many failures in a row: a single request may get lost.
const BAD_ANSWERS: u32 = 2;
/// How long a server may take to accept a connection, before the next one is tried.
const CONNECT: Duration = Duration::from_secs(2);
/// How long to wait if no connection can be accepted because file descriptors are used up.
const PAUSE: Duration = Duration::from_millis(100);
/// How many connections may be open at a time.
const MOST_CONNECTIONS: usize = 8192;

/// The API servers.
struct Servers {
    addresses: Vec<SocketAddr>,
    /// Whether each is healthy, in the same order.
    health: watch::Sender<Vec<bool>>,
}

impl Servers {
    /// All servers count as healthy until the first answer.
    fn new(addresses: &[SocketAddr]) -> Servers {
        Servers {
            addresses: addresses.to_owned(),
            health: watch::Sender::new(vec![true; addresses.len()]),
        }
    }

    /// Records the health of the server with this index. Returns whether it changed.
    fn note(&self, index: usize, healthy: bool) -> bool {
        self.health
            .send_if_modified(|all| std::mem::replace(&mut all[index], healthy) != healthy)
    }

    /// The indexes of all servers, starting with `first`. Servers that are not healthy come last:
    /// they may have recovered.
    fn in_order(&self, first: usize) -> Vec<usize> {
        let count = self.addresses.len();
        let mut ordered: Vec<usize> = (0..count).map(|i| (first + i) % count).collect();
        let health = self.health.borrow();
        ordered.sort_by_key(|&index| !health[index]);
        ordered
    }

    /// Waits until the server with this index is dead and another is healthy.
    async fn better_than(&self, index: usize) {
        let mut health = self.health.subscribe();
        let better = health.wait_for(|all| !all[index] && all.contains(&true));
        // This fails only if the sender is gone, but this struct owns the sender.
        let _ = better.await;
    }
}

/// Forwards connections from `listener` to one of `servers`, without end. It checks their health
/// with `client`.
pub fn run(listener: TcpListener, servers: &[SocketAddr], client: &Client) -> Result<()> {
    let servers = Arc::new(Servers::new(servers));
    for index in 0..servers.addresses.len() {
        let (servers, client) = (servers.clone(), client.clone());
        let watch = move || watch_health(&servers, index, &client);
        let watcher = thread::Builder::new().spawn(watch);
        watcher.context(tr!("cannot watch the health of the API servers"))?;
    }
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(listener, servers))
}

fn watch_health(servers: &Servers, index: usize, client: &Client) {
    let address = servers.addresses[index];
    let url = format!("https://{address}/healthz");
    let mut bad = 0;
    loop {
        match http::get(client, &url) {
            Ok(()) => {
                bad = 0;
                if servers.note(index, true) {
                    log::info!("the API server at {address} is healthy again");
                }
            }
            Err(error) => {
                bad += 1;
                if bad >= BAD_ANSWERS && servers.note(index, false) {
                    log::warn!("the API server at {address} is not healthy: {error:#}");
                }
            }
        }
        thread::sleep(INTERVAL);
    }
}

async fn serve(listener: TcpListener, servers: Arc<Servers>) -> Result<()> {
    let place = listener.local_addr()?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let next = AtomicUsize::new(0);
    log::info!(
        "forwarding connections from {place} to {} API servers",
        servers.addresses.len()
    );
    notify::ready();
    loop {
        let permit = room
            .clone()
            .acquire_owned()
            .await
            .context(tr!("the limit of connections is closed"))?;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::warn!("cannot accept a connection at {place}: {error}");
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

async fn forward(mut stream: TcpStream, servers: Arc<Servers>, first: usize) {
    for index in servers.in_order(first) {
        let address = servers.addresses[index];
        let Ok(Ok(mut other)) = timeout(CONNECT, TcpStream::connect(address)).await else {
            continue;
        };
        // Watches need low latency. This fails only on a closed connection.
        let _ = (stream.set_nodelay(true), other.set_nodelay(true));
        let copied = copy_bidirectional(&mut stream, &mut other);
        let better = servers.better_than(index);
        if let Either::Right(_) = select(pin!(copied), pin!(better)).await {
            log::debug!("a connection to {address} is closed");
        }
        return;
    }
    log::warn!("no API server accepts a connection; run `appliance status` on a master");
}
