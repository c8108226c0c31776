//! The door of a server on the network: who comes in, how many, and how long a client may take. Slow clients,
//! and many clients of one address, keep nobody else out.

use std::collections::BTreeMap;
use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use axum::Router;
use futures_util::future::{Either, select};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

/// How long a client has at least, however many others wait.
const GRACE: Duration = Duration::from_secs(5);
/// How often to look whether a client has had its time.
const LOOK: Duration = Duration::from_millis(100);
/// How long to wait if no connection can be accepted because file descriptors are used up.
const PAUSE: Duration = Duration::from_millis(100);
/// How often old addresses are dropped.
const HOUSEKEEPING: Duration = Duration::from_secs(60);
/// The longest head of a request, in bytes. hyper's own limit is some 400 KiB for each connection.
const MAX_HEAD: usize = 16 * 1024;

/// The limits of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many connections may be open at a time.
    pub open: usize,
    /// How many of them may be of one address.
    pub of_an_address: usize,
    /// How many connections an address may open at once. Further ones are closed before the handshake.
    pub burst: NonZeroU32,
    /// How many an address may open per second after that.
    pub each_second: NonZeroU32,
    /// How long a client may take in total until it has done its part ([`Place::settle`]).
    pub patience: Duration,
}

/// The door of a server.
pub struct Door {
    limits: Limits,
    rates: DefaultKeyedRateLimiter<IpAddr>,
    cleaned: Mutex<Instant>,
    open: Arc<Open>,
}

/// The connections that are open.
#[derive(Default)]
struct Open {
    list: Mutex<List>,
    left: Notify,
}

#[derive(Default)]
struct List {
    /// The number of the next connection.
    next: u64,
    /// In the order in which they came.
    connections: BTreeMap<u64, Connection>,
    of_addresses: BTreeMap<IpAddr, usize>,
}

struct Connection {
    address: IpAddr,
    since: Instant,
    /// Whether the server still waits for the client.
    is_pending: bool,
    /// When this is dropped, the connection is closed.
    _leave: oneshot::Sender<()>,
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    fn count_of(&self, address: IpAddr) -> usize {
        self.of_addresses.get(&address).copied().unwrap_or(0)
    }

    fn add(&mut self, address: IpAddr) -> (u64, oneshot::Receiver<()>) {
        let (leave, told) = oneshot::channel();
        let number = self.next;
        self.next += 1;
        let connection = Connection {
            address,
            since: Instant::now(),
            is_pending: true,
            _leave: leave,
        };
        self.connections.insert(number, connection);
        *self.of_addresses.entry(address).or_default() += 1;
        (number, told)
    }

    /// Closes this connection, unless that was done before.
    fn remove(&mut self, number: u64) {
        let Some(removed) = self.connections.remove(&number) else {
            return;
        };
        match self.of_addresses.get_mut(&removed.address) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(self.of_addresses.remove(&removed.address)),
        }
    }

    /// The connections that the server waits for, the oldest first.
    fn pending(&self) -> impl Iterator<Item = (u64, &Connection)> {
        let all = self.connections.iter();
        all.filter_map(|(number, one)| one.is_pending.then_some((*number, one)))
    }

    /// Closes the oldest connection of `address` that the server waits for. Returns whether there was one.
    fn close_one_of(&mut self, address: IpAddr) -> bool {
        let oldest = self.pending().find(|(_, one)| one.address == address);
        let oldest = oldest.map(|(number, _)| number);
        oldest.map(|number| self.remove(number)).is_some()
    }

    /// Makes room for one more: closes a connection of the address that makes the server wait for the most,
    /// or else the oldest one, if it has had its time. Returns whether there was one.
    fn make_room(&mut self) -> bool {
        let mut waits: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for (_, one) in self.pending() {
            *waits.entry(one.address).or_default() += 1;
        }
        match waits.iter().max_by_key(|(_, count)| **count) {
            Some((address, 2..)) => return self.close_one_of(*address),
            Some(_) => {}
            None => return false,
        }
        let oldest = self.pending().next();
        let late = oldest.filter(|(_, one)| one.since.elapsed() >= GRACE);
        let late = late.map(|(number, _)| number);
        late.map(|number| self.remove(number)).is_some()
    }
}

impl Door {
    /// A door with these limits.
    pub fn new(limits: Limits) -> Door {
        let quota = Quota::per_second(limits.each_second).allow_burst(limits.burst);
        Door {
            limits,
            rates: RateLimiter::keyed(quota),
            cleaned: Mutex::new(Instant::now()),
            open: Arc::default(),
        }
    }

    /// The next client at `listener` that may come in. All others get no answer.
    pub async fn next(&self, listener: &TcpListener) -> (TcpStream, Guest) {
        loop {
            self.clean();
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Too many open files, or a connection that was closed before it was accepted.
                    log::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let ip = address.ip().to_canonical();
            if self.rates.check_key(&ip).is_err() {
                continue;
            }
            if let Some(guest) = self.enter(SocketAddr::new(ip, address.port())).await {
                return (stream, guest);
            }
        }
    }

    /// Waits for room, and takes it. `None` if this address has too many connections.
    async fn enter(&self, address: SocketAddr) -> Option<Guest> {
        loop {
            {
                let mut list = self.open.lock();
                let own = list.count_of(address.ip());
                if own >= self.limits.of_an_address && !list.close_one_of(address.ip()) {
                    return None;
                }
                if list.connections.len() < self.limits.open || list.make_room() {
                    let (number, told) = list.add(address.ip());
                    let place = Place(Arc::new(Held {
                        number,
                        open: self.open.clone(),
                    }));
                    return Some(Guest {
                        address,
                        patience: self.limits.patience,
                        place,
                        told,
                    });
                }
            }
            // It also has to look without a notice: time passes.
            let _ = timeout(LOOK, self.open.left.notified()).await;
        }
    }

    fn clean(&self) {
        let mut cleaned = self.cleaned.lock().unwrap_or_else(PoisonError::into_inner);
        if cleaned.elapsed() >= HOUSEKEEPING {
            *cleaned = Instant::now();
            self.rates.retain_recent();
        }
    }
}

/// A client that came in.
pub struct Guest {
    /// Its address.
    pub address: SocketAddr,
    /// Its place.
    pub place: Place,
    patience: Duration,
    told: oneshot::Receiver<()>,
}

/// The place of a client among the open connections, until every copy is dropped.
#[derive(Clone)]
pub struct Place(Arc<Held>);

struct Held {
    number: u64,
    open: Arc<Open>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.open.lock().remove(self.number);
        self.open.left.notify_one();
    }
}

impl Place {
    /// The client has done its part: it is not closed for others any more, nor because it is slow.
    pub fn settle(&self) {
        if let Some(own) = self.0.open.lock().connections.get_mut(&self.0.number) {
            own.is_pending = false;
        }
    }

    fn is_pending(&self) -> bool {
        let list = self.0.open.lock();
        let own = list.connections.get(&self.0.number);
        own.is_none_or(|own| own.is_pending)
    }
}

impl Guest {
    /// Does `work` for this client, to the end, or until the client has to go: because it takes too long, or
    /// makes room for others.
    pub async fn serve(self, work: impl Future<Output = Result<()>>) -> Result<()> {
        match select(pin!(work), pin!(self.must_go())).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right((why, _)) => bail!(why),
        }
    }

    /// Does `work` as [`Guest::serve`] does, beside other clients. Why it failed is in the debug log.
    pub fn spawn(self, work: impl Future<Output = Result<()>> + Send + 'static) {
        let address = self.address;
        tokio::spawn(async move {
            if let Err(error) = self.serve(work).await {
                log::debug!("{address}: {error:#}");
            }
        });
    }

    async fn must_go(mut self) -> &'static str {
        match timeout(self.patience, &mut self.told).await {
            Ok(_) => "closed to make room for others",
            Err(_) if self.place.is_pending() => "took too long",
            Err(_) => pending().await,
        }
    }
}

/// Answers the requests in a connection with `router`. `head` is how long the client may take for the head of
/// a request.
pub async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    head: Duration,
    keep_alive: bool,
) -> Result<()> {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_buf_size(MAX_HEAD)
        .keep_alive(keep_alive)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MANY: NonZeroU32 = NonZeroU32::new(1000).unwrap();

    fn door(open: usize, of_an_address: usize, patience: Duration) -> Door {
        Door::new(Limits {
            open,
            of_an_address,
            burst: MANY,
            each_second: MANY,
            patience,
        })
    }

    fn at(last: u8) -> SocketAddr {
        ([127, 0, 0, last], 1).into()
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(work)
    }

    async fn come_in(door: &Door, last: u8) -> Guest {
        door.enter(at(last)).await.unwrap()
    }

    /// Whether the client was told to go.
    fn is_told(guest: &mut Guest) -> bool {
        guest.told.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn the_address_that_makes_the_server_wait_most_makes_room() {
        run(async {
            let door = door(4, 3, Duration::MAX);
            let mut one = come_in(&door, 1).await;
            let mut two = [
                come_in(&door, 2).await,
                come_in(&door, 2).await,
                come_in(&door, 2).await,
            ];
            let mut three = come_in(&door, 3).await;
            assert_eq!(two.each_mut().map(is_told), [true, false, false]);
            let mut four = come_in(&door, 4).await;
            assert_eq!(two.each_mut().map(is_told), [true, true, false]);
            assert!(!is_told(&mut one) && !is_told(&mut three) && !is_told(&mut four));
        });
    }

    #[test]
    fn an_address_at_its_limit_loses_its_oldest_connection_or_gets_no_more() {
        run(async {
            let door = door(9, 2, Duration::MAX);
            let mut both = [come_in(&door, 1).await, come_in(&door, 1).await];
            let third = come_in(&door, 1).await;
            assert_eq!(both.each_mut().map(is_told), [true, false]);
            both[1].place.settle();
            third.place.settle();
            assert!(door.enter(at(1)).await.is_none());
            drop(third);
            come_in(&door, 1).await;
        });
    }

    #[test]
    fn who_has_done_its_part_stays_and_another_waits_for_room() {
        run(async {
            let door = door(2, 2, Duration::MAX);
            let both = [come_in(&door, 1).await, come_in(&door, 1).await];
            both.iter().for_each(|guest| guest.place.settle());
            let next = pin!(door.enter(at(2)));
            let leaves = pin!(async {
                drop(both);
                pending::<()>().await;
            });
            assert!(matches!(
                select(next, leaves).await,
                Either::Left((Some(_), _))
            ));
        });
    }

    #[test]
    fn a_client_that_sends_nothing_has_to_go_and_one_that_settled_has_not() {
        run(async {
            let door = door(2, 2, Duration::from_millis(5));
            let slow = come_in(&door, 1).await;
            let gone = slow.serve(pending()).await.unwrap_err();
            assert_eq!(gone.to_string(), "took too long");
            let (settled, slow) = (come_in(&door, 1).await, come_in(&door, 1).await);
            settled.place.settle();
            let settled = pin!(settled.serve(pending()));
            let slow = pin!(slow.serve(pending()));
            assert!(matches!(select(settled, slow).await, Either::Right(_)));
        });
    }
}
