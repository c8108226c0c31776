//! The network between this node and the others.

use core::net::Ipv4Addr;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::Result;
use ipnet::Ipv4Net;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::IpMtu;

use super::{Place, Put, said};
use crate::clients::{bird, kubectl, links};
use crate::doctor::facts::{Answer, Node, PathOf, Reached, Session, Tunnel};
use crate::nodespec::ports::{JOIN, NODE_PORTS, OPENINGS, Opening, Peer, Traffic};
use crate::nodespec::{Ipip, Role};
use crate::paths::BIRD_SOCKET;
use crate::sys::process::Runner;
use crate::sys::{host, parallel};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How many connections are made at once.
const AT_ONCE: usize = 32;
/// How many other nodes are looked at: the masters, and some of the others. One fault shows at any of them.
const MOST_NODES: usize = 24;
/// To how many the largest packets are sent.
const MOST_PATHS: usize = 6;
/// How many addresses of a range of pods are tried. Calico gives the first one to the tunnel of the node.
const ADDRESSES: usize = 4;
/// Where nothing listens: the answer of the other side is that it refuses.
const DISCARD: u16 = 9;
/// The headers of a UDP packet in IPv4, in bytes.
const HEADERS: u32 = 28;
/// How long an answer may take. Linux answers one packet in a second at least.
const ECHO: Duration = Duration::from_secs(1);
/// What every network passes, in bytes (RFC 791).
const LEAST: u32 = 576;
/// The MTU of usual networks, in bytes: large frames, Ethernet, Geneve, VXLAN, GRE, tunnels in them, and the least of IPv6.
const USUAL: &[u32] = &[
    8950, 8942, 1500, 1480, 1476, 1458, 1450, 1442, 1430, 1422, 1400, 1350, 1300, 1280,
];

/// The sessions of BIRD, connections to other nodes, the largest packets, and the tunnels.
pub fn all<R: Runner + Sync>(place: &Place<R>) -> Result<Put> {
    let Some(node) = &place.node else {
        return Ok(Box::new(|_| {}));
    };
    let peers = peers(place)?;
    let others = others(place, node, &peers);
    let connections: Vec<(Ipv4Addr, bool, &Opening, u16)> = others
        .iter()
        .flat_map(|(address, master)| wanted(node, *address, *master))
        .collect();
    let reached = parallel::map(&connections, AT_ONCE, |(address, master, opening, port)| {
        Reached {
            address: *address,
            master: *master,
            port: *port,
            purpose: opening.purpose,
            answer: connect(*address, *port),
        }
    });
    let paths = paths(node, &others)?;
    let tunnels = tunnels(place, &peers);
    Ok(Box::new(|facts| {
        facts.peers = peers;
        facts.reached = reached;
        facts.paths = paths;
        facts.tunnels = tunnels;
    }))
}

fn peers<R>(place: &Place<R>) -> Result<Vec<Session>> {
    let socket = place.root.resolve(BIRD_SOCKET)?;
    // Whether Calico runs is told of its unit.
    let bird = bird::ask(&socket).unwrap_or(None);
    let peers = bird.map(|bird| bird.peers).unwrap_or_default().into_iter();
    let session = |peer: bird::Peer| Session {
        established: peer.is_established(),
        refused: peer.is_refused(),
        address: said(&peer.address),
        info: said(&peer.info),
    };
    Ok(peers.map(session).collect())
}

/// The other nodes, masters first: from the records, from BIRD, and on a master from the cluster.
fn others<R: Runner>(place: &Place<R>, node: &Node, peers: &[Session]) -> Vec<(Ipv4Addr, bool)> {
    let masters = place.masters();
    let of_bird = peers.iter().filter_map(|peer| peer.address.parse().ok());
    let is_master = node.shape.role.is_master();
    let listed = is_master
        .then(|| kubectl::get(&place.runner, &["nodes"]).ok())
        .flatten();
    let listed = listed.map(|list| addresses(&list)).unwrap_or_default();
    let rest: BTreeSet<Ipv4Addr> = of_bird.chain(listed).collect();
    let rest = rest
        .into_iter()
        .filter(|one| !masters.contains(one) && Some(*one) != node.address);
    let all = masters.iter().map(|one| (*one, true));
    all.chain(rest.map(|one| (one, false)))
        .take(MOST_NODES)
        .collect()
}

/// The addresses in a list of nodes.
fn addresses(list: &serde_json::Value) -> Vec<Ipv4Addr> {
    let nodes = list["items"].as_array().into_iter().flatten();
    let all = nodes.flat_map(|node| node["status"]["addresses"].as_array().into_iter().flatten());
    let internal = all.filter(|one| one["type"] == "InternalIP");
    internal
        .filter_map(|one| one["address"].as_str()?.parse().ok())
        .collect()
}

/// The ports of another node that this node has to reach. The join service listens only while a token can be used, and may
/// have other ports.
fn wanted(
    node: &Node,
    address: Ipv4Addr,
    master: bool,
) -> Vec<(Ipv4Addr, bool, &'static Opening, u16)> {
    let theirs = if master { Role::Master } else { Role::Worker };
    let ipip = if node.tunnelled {
        Ipip::Always
    } else {
        Ipip::Off
    };
    let profile = node.shape.profile;
    let is_wanted = |one: &&Opening| {
        let from_here = matches!(one.from, Peer::Nodes(from) if from.include(node.shape.role));
        from_here && one.on.include(theirs) && one.when.holds(profile, ipip)
    };
    let openings = OPENINGS.iter().filter(is_wanted);
    let ports = openings.filter_map(|one| match one.traffic {
        Traffic::Tcp(first, last) if first == last => Some((one, first)),
        _ => None,
    });
    let mut seen = BTreeSet::new();
    ports
        .filter(|(_, port)| !(JOIN..=JOIN + 1).contains(port) && seen.insert(*port))
        .map(|(one, port)| (address, master, one, port))
        .collect()
}

fn connect(address: Ipv4Addr, port: u16) -> Answer {
    match TcpStream::connect_timeout(&SocketAddr::from((address, port)), CONNECT) {
        Ok(_) => Answer::Open,
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Answer::Refused,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Answer::Silent,
            _ => Answer::NoWay,
        },
    }
}

/// The largest packets that reach some other nodes.
fn paths(node: &Node, others: &[(Ipv4Addr, bool)]) -> Result<Vec<PathOf>> {
    let own = node.address.map(core::net::IpAddr::from);
    let interfaces = host::interfaces()?.into_iter();
    let mut with_own =
        interfaces.filter(|one| one.addresses.iter().any(|net| Some(net.addr()) == own));
    let Some(mtu) = with_own.next().and_then(|one| one.mtu) else {
        return Ok(Vec::new());
    };
    let some: Vec<Ipv4Addr> = others
        .iter()
        .map(|(address, _)| *address)
        .take(MOST_PATHS)
        .collect();
    Ok(parallel::map(&some, MOST_PATHS, |address| PathOf {
        address: *address,
        mtu,
        passes: largest(*address, mtu),
    }))
}

/// The largest packet that is answered; `None` if none is: many networks drop UDP.
fn largest(address: Ipv4Addr, mtu: u32) -> Option<u32> {
    let passes = |size: u32| passes(address, size).unwrap_or(Passed::Lost);
    // One may be lost.
    for _ in 0..2 {
        match passes(mtu) {
            Passed::Answered => return Some(mtu),
            Passed::AtMost(least) if least < mtu => return Some(least),
            Passed::AtMost(_) | Passed::Lost => {}
        }
    }
    if passes(LEAST) != Passed::Answered {
        return None;
    }
    let mut smaller = USUAL.iter().filter(|size| **size < mtu);
    let found = smaller.find(|size| passes(**size) == Passed::Answered);
    Some(*found.unwrap_or(&LEAST))
}

/// What came of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passed {
    /// The other side answered: nothing listens there.
    Answered,
    /// The kernel knows that the way passes packets of at most this size.
    AtMost(u32),
    /// Nothing came back.
    Lost,
}

/// Sends a packet of that size, which no router may cut: that is how Linux sends UDP, unless somebody set
/// `net.ipv4.ip_no_pmtu_disc`.
fn passes(address: Ipv4Addr, size: u32) -> Result<Passed> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((address, NODE_PORTS.1))?;
    socket.set_read_timeout(Some(ECHO))?;
    let known = || -> Result<u32> { Ok(u32::try_from(getsockopt(&socket, IpMtu)?)?) };
    if known()? < size {
        return Ok(Passed::AtMost(known()?));
    }
    socket.send(&vec![0; (size - HEADERS) as usize])?;
    let answered = match socket.recv(&mut [0]) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionRefused,
    };
    Ok(match (answered, known()?) {
        (true, _) => Passed::Answered,
        (false, least) if least < size => Passed::AtMost(least),
        (false, _) => Passed::Lost,
    })
}

/// The routes through Calico's tunnel to nodes with BGP, and whether anything answers behind them.
fn tunnels<R: Runner>(place: &Place<R>, peers: &[Session]) -> Vec<Tunnel> {
    let up = |gateway: &Ipv4Addr| {
        let address = gateway.to_string();
        peers
            .iter()
            .any(|peer| peer.established && peer.address == address)
    };
    let routes: Vec<(Ipv4Net, Ipv4Addr)> = links::tunnelled(&place.runner)
        .into_iter()
        .filter(|(_, gateway)| up(gateway))
        .take(MOST_NODES)
        .collect();
    let tries: Vec<(usize, Ipv4Addr)> = routes
        .iter()
        .enumerate()
        .flat_map(|(index, (range, _))| range_start(*range).map(move |address| (index, address)))
        .collect();
    let answers = parallel::map(&tries, AT_ONCE, |(index, address)| {
        // Also that nobody has this address is an answer from behind the tunnel.
        (*index, connect(*address, DISCARD) != Answer::Silent)
    });
    let answered: BTreeSet<usize> = answers
        .into_iter()
        .filter(|(_, answers)| *answers)
        .map(|(index, _)| index)
        .collect();
    routes
        .into_iter()
        .enumerate()
        .map(|(index, (range, gateway))| Tunnel {
            gateway,
            range: range.to_string(),
            answers: answered.contains(&index),
        })
        .collect()
}

fn range_start(range: Ipv4Net) -> impl Iterator<Item = Ipv4Addr> {
    let first = u32::from(range.network());
    let last = u32::from(range.broadcast());
    (first..=last).take(ADDRESSES).map(Ipv4Addr::from)
}
