//! calico/node's entry point: registers the node in etcd, gives it a block of the pool, keeps BIRD
//! and the kernel in the state that etcd describes, and answers Felix's health checks.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;

use super::bird::{Bird, Direct, Peer, Routing};
use super::datastore::{Datastore, variable};
use super::ipam::{self, Pool};
use super::{felix, nodes};
use crate::checks;
use crate::lifecycle;
use crate::net::ip;
use crate::program::usage;
use crate::server::{Request, Response, Server};

/// How many times, a second apart, etcd is tried before giving up.
const ETCD_TRIES: u32 = 20;
/// How often to read changes from etcd.
const PERIOD: Duration = Duration::from_secs(3);
/// The default MTU of the tunnel, as in Felix.
const DEFAULT_TUNNEL_MTU: u32 = 1440;
/// The default pool of Calico.
const DEFAULT_POOL: &str = "192.168.0.0/16";

/// The settings from the environment.
struct Settings {
    name: String,
    address: Ipv4Addr,
    /// The address with the prefix of its subnet; without one in IP, a subnet of its own, as in v2.6.
    network: Ipv4Net,
    pool: Ipv4Net,
    ipip: String,
    masquerade: bool,
    mtu: u32,
    health: Option<u16>,
}

/// Runs until it is stopped, and BIRD with it.
///
/// # Errors An environment with which the real program would not run, or no etcd.
pub fn run(arguments: &[String]) -> Result<()> {
    if let Some(argument) = arguments.first() {
        return Err(usage(format!("unexpected argument {argument:?}")));
    }
    let settings = Settings::read()?;
    let store = Arc::new(Datastore::of_environment()?);
    let bird = Arc::new(Bird::new(super::socket(), super::configuration()));
    let running = bird.clone();
    let ended = lifecycle::run_until_stopped(move || settings.serve(&store, &running));
    bird.stop();
    ended
}

/// A boolean, as the real programs read it from the environment.
fn is_set(name: &str, default: bool) -> bool {
    let value = variable(name).map(|value| value.to_lowercase());
    value.map_or(default, |value| {
        checks::boolean(&value).unwrap_or(matches!(value.as_str(), "yes" | "y"))
    })
}

/// One of the values that a variable may have; by default the first one.
fn one_of(name: &str, values: &[&str]) -> Result<String> {
    let default = values.first().copied().unwrap_or_default();
    let value = variable(name).map_or(default.to_owned(), |value| value.to_lowercase());
    if !values.contains(&value.as_str()) {
        bail!("{name}: {value:?} is not one of {}", values.join(", "));
    }
    Ok(value)
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> Result<T> {
    variable(name).map_or(Ok(default), |value| {
        value
            .parse()
            .map_err(|_| anyhow::anyhow!("{name}: {value:?} is out of range"))
    })
}

impl Settings {
    fn read() -> Result<Self> {
        let name = match variable("NODENAME") {
            Some(name) => name,
            None => lifecycle::host_name()?,
        };
        let address = variable("IP").context("IP is not set: the stand-in detects no address")?;
        let pool = variable("CALICO_IPV4POOL_CIDR").unwrap_or(DEFAULT_POOL.to_owned());
        let network: Ipv4Net = address
            .parse()
            .or_else(|_| address.parse::<Ipv4Addr>().map(Ipv4Net::from))
            .with_context(|| format!("IP: {address:?} is not an IPv4 address"))?;
        let backend = one_of("CALICO_NETWORKING_BACKEND", &["bird", "gobgp", "none"])?;
        if backend != "bird" {
            bail!("CALICO_NETWORKING_BACKEND: the stand-in has only bird, not {backend}");
        }
        let health = is_set("FELIX_HEALTHENABLED", false)
            .then(|| number("FELIX_HEALTHPORT", 9099))
            .transpose()?;
        Ok(Self {
            name,
            address: network.addr(),
            network,
            pool: pool.parse().with_context(|| {
                format!("CALICO_IPV4POOL_CIDR: {pool:?} is not an IPv4 network")
            })?,
            ipip: one_of("CALICO_IPV4POOL_IPIP", &["off", "always", "cross-subnet"])?,
            masquerade: is_set("CALICO_IPV4POOL_NAT_OUTGOING", true),
            mtu: number("FELIX_IPINIPMTU", DEFAULT_TUNNEL_MTU)?,
            health,
        })
    }

    fn serve(&self, store: &Arc<Datastore>, bird: &Arc<Bird>) -> Result<()> {
        felix::check_kernel()?;
        make_directories()?;
        self.validate_address()?;
        lifecycle::retry(ETCD_TRIES, "etcd", || self.register(store))?;
        let mut applied = self.apply(store, bird, None)?;
        let server = Server::new()?;
        if let Some(port) = self.health {
            let (store, bird) = (store.clone(), bird.clone());
            let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            server.listen(address, None, Arc::new(move |r| health(&store, &bird, &r)))?;
        }
        eprintln!("Calico node started successfully");
        loop {
            thread::sleep(PERIOD);
            match self.apply(store, bird, Some(&applied)) {
                Ok(state) => applied = state,
                // While etcd is down, the node keeps its state.
                Err(error) => eprintln!("{error:#}; trying again"),
            }
        }
    }

    fn register(&self, store: &Datastore) -> Result<()> {
        let host = format!("{}/{}", nodes::HOSTS, self.name);
        store.put(&format!("{host}/ip_addr_v4"), &self.address.to_string())?;
        store.put(&format!("{host}/ip_addr_v6"), "")?;
        store.put(&format!("{host}/network_v4"), &self.network.to_string())?;
        ipam::create_pool(store, self.pool, &self.ipip, self.masquerade)?;
        ipam::own_blocks(store, &self.name)?;
        store.put("/calico/v1/Ready", "true")
    }

    /// Only warns, as the real program does.
    fn validate_address(&self) -> Result<()> {
        let listed = ip::ip("-4 -o address show")?;
        let mut networks = listed
            .split_whitespace()
            .filter_map(|word| word.parse::<Ipv4Net>().ok());
        if !networks.any(|network| network.addr() == self.address) {
            eprintln!("IP: no interface has the address {}", self.address);
        }
        Ok(())
    }

    /// Brings BIRD and the kernel into the state that etcd describes, if it differs from the last
    /// one.
    fn apply(&self, store: &Datastore, bird: &Bird, last: Option<&State>) -> Result<State> {
        let state = self.read_state(store)?;
        bird.apply(&state.routing.configuration())?;
        if last != Some(&state) {
            felix::filter(&state.pools)?;
            if state.routing.direct != Direct::All {
                self.tunnel(store, &state)?;
            } else if last.is_some_and(|last| last.routing.direct != Direct::All) {
                felix::route_through_tunnel(&[])?;
            }
        }
        Ok(state)
    }

    fn tunnel(&self, store: &Datastore, state: &State) -> Result<()> {
        let handle = format!("ipip-tunnel-addr-{}", self.name);
        let address = match ipam::address(store, &self.name, &handle)? {
            Some(address) => address,
            None => ipam::assign(store, &self.name, &handle, "")?,
        };
        store.put(
            &format!("/calico/v1/host/{}/config/IpInIpTunnelAddr", self.name),
            &address.to_string(),
        )?;
        felix::set_up_tunnel(address, self.mtu)?;
        felix::route_through_tunnel(&state.tunneled)
    }

    fn read_state(&self, store: &Datastore) -> Result<State> {
        let pools = ipam::pools(store)?;
        let all = nodes::nodes(store)?;
        let global = nodes::global(store)?;
        let system = |node: &nodes::Node| node.system.unwrap_or(global.system);
        let peer = |node: &nodes::Node| {
            Some(Peer {
                address: node.address?,
                system: system(node),
            })
        };
        let direct = self.direct(&pools);
        let blocks = ipam::blocks(store)?;
        let tunneled = blocks.iter().filter_map(|(name, block)| {
            let address = all.get(name)?.address?;
            (name != &self.name && tunnels(direct, address)).then_some((*block, address))
        });
        Ok(State {
            tunneled: tunneled.collect(),
            routing: Routing {
                address: self.address,
                system: all.get(&self.name).map_or(global.system, system),
                blocks: blocks
                    .iter()
                    .filter(|(name, _)| name == &self.name)
                    .map(|(_, block)| *block)
                    .collect(),
                mesh: all
                    .values()
                    .filter_map(peer)
                    .filter(|_| global.mesh)
                    .collect(),
                global: global.peers,
                direct,
                chooses: super::routes().exists(),
            },
            pools,
        })
    }

    fn direct(&self, pools: &[Pool]) -> Direct {
        let has = |mode: &str| pools.iter().any(|pool| pool.ipip_mode == mode);
        if has("always") {
            Direct::None
        } else if has("cross-subnet") {
            Direct::Within(self.network.trunc())
        } else {
            Direct::All
        }
    }
}

/// The node's state that etcd describes.
#[derive(PartialEq)]
struct State {
    pools: Vec<Pool>,
    routing: Routing,
    /// The blocks that are reached through the tunnel, with their nodes.
    tunneled: Vec<(Ipv4Net, Ipv4Addr)>,
}

fn tunnels(direct: Direct, node: Ipv4Addr) -> bool {
    match direct {
        Direct::All => false,
        Direct::Within(network) => !network.contains(&node),
        Direct::None => true,
    }
}

fn make_directories() -> Result<()> {
    for path in [super::socket(), super::configuration()] {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        }
    }
    Ok(())
}

fn health(store: &Datastore, bird: &Bird, request: &Request) -> Response {
    let ready = || {
        let found = store.get("/calico/v1/Ready")?;
        found.context("/calico/v1/Ready is not in etcd")?;
        bird.check()
    };
    match request.path.as_str() {
        // Felix answers without a body.
        "/liveness" => Response::text(204, ""),
        "/readiness" => match ready() {
            Ok(()) => Response::text(204, ""),
            Err(error) => Response::text(503, format!("{error:#}\n")),
        },
        _ => Response::text(404, "404 page not found\n"),
    }
}
