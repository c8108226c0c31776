//! The network: name servers, proxies, ports, firewalls.

use std::collections::{BTreeMap, BTreeSet};

use super::{booted, of_workers, shown};
use crate::language::{message, tr, translated};
use crate::nodespec::ports::{OPENINGS, OWN, Traffic};
use crate::paths;
use crate::preflight::Finding;
use crate::preflight::facts::{Facts, Listener, Wanted};
use crate::preflight::firewall::{Answer, Packet, answer};

pub fn name_servers(facts: &Facts) -> Finding {
    of_workers(facts, || {
        let file = facts
            .wanted
            .resolv_conf
            .as_deref()
            .unwrap_or("/etc/resolv.conf");
        let servers = &facts.system.name_servers;
        let is_loopback = |server: &&String| server.starts_with("127.") || *server == "::1";
        let own: Vec<&str> = servers
            .iter()
            .filter(is_loopback)
            .map(String::as_str)
            .collect();
        if servers.is_empty() {
            return Finding::pass(tr!("none: pods find the names of the cluster only"));
        }
        let listed = shown(&servers.join(", "));
        if own.is_empty() {
            return Finding::pass(format!("{listed} ({file})"));
        }
        Finding::warn(
            tr!(
                "{file} names {}, which is the pod itself in a pod: names outside the cluster are not found",
                own.join(", "),
                file
            ),
            tr!(
                "write the name servers of the network into /etc/resolv.conf, or switch on systemd-resolved: \
             `systemctl enable --now systemd-resolved`"
            ),
        )
    })
}

pub fn proxies(facts: &Facts) -> Finding {
    let system = &facts.system;
    if let Some((unit, path)) = system.unit_proxies.first() {
        return Finding::warn(
            tr!(
                "{} gives {unit} a proxy for the traffic within the cluster",
                shown(path),
                unit
            ),
            tr!("`rm {}`, then `systemctl daemon-reload`", shown(path)),
        );
    }
    if system.proxies.is_empty() {
        return Finding::pass(tr!("none is set"));
    }
    let listed = system.proxies.iter();
    let listed: Vec<String> = listed
        .map(|(name, place)| tr!("{} in {place}", shown(name), place))
        .collect();
    Finding::pass(tr!("{}; the node's units do not use it", listed.join(", ")))
}

/// The TCP ports at which the services of the node listen.
fn own_ports(wanted: &Wanted) -> BTreeSet<u16> {
    let mut ports: BTreeSet<u16> = OPENINGS
        .iter()
        .filter(|one| one.on.include(wanted.role) && one.when.holds(wanted.profile, wanted.ipip))
        .filter_map(|one| match one.traffic {
            Traffic::Tcp(first, last) if first == last => Some(first),
            _ => None,
        })
        .collect();
    // The join service can have other ports.
    if wanted.role.is_master() {
        ports.remove(&crate::nodespec::ports::JOIN);
        ports.remove(&(crate::nodespec::ports::JOIN + 1));
        ports.extend([wanted.join, wanted.join + 1]);
    }
    let of_role = OWN.iter().filter(|(on, _)| on.include(wanted.role));
    ports.extend(of_role.map(|(_, port)| *port));
    ports.extend(wanted.balancer);
    ports
}

pub fn ports(facts: &Facts) -> Finding {
    booted(facts, |booted| {
        let own = own_ports(&facts.wanted);
        let taken = |one: &&Listener| own.contains(&one.port) && !one.is_ours;
        let mut taken: Vec<&Listener> = booted.listeners.iter().filter(taken).collect();
        taken.sort_by_key(|one| one.port);
        taken.dedup_by_key(|one| one.port);
        let Some(first) = taken.first() else {
            return Finding::pass(tr!(
                "all ports of this role are free, or used by its services"
            ));
        };
        let named: Vec<String> = taken
            .iter()
            .map(|one| match one.program.is_empty() {
                true => tr!("port {}", one.port),
                false => tr!("port {} ({})", one.port, shown(&one.program)),
            })
            .collect();
        let balancer = match facts.wanted.balancer {
            Some(port) if taken.iter().any(|one| one.port == port) => {
                tr!(", or set `balancerPort` to another port on all nodes")
            }
            _ => String::new(),
        };
        Finding::fail(
            tr!("other programs use {}", named.join(", ")),
            tr!(
                "`ss -ltnp sport = :{}` shows it; stop that program{balancer}",
                first.port,
                balancer
            ),
        )
    })
}

/// The traffic that a node of this kind accepts, as a sentence.
fn openings(wanted: &Wanted) -> String {
    let ours = OPENINGS.iter();
    let ours = ours
        .filter(|one| one.on.include(wanted.role) && one.when.holds(wanted.profile, wanted.ipip));
    let all: Vec<String> = ours
        .map(|one| tr!("{} from {}", one.traffic, one.from))
        .collect();
    all.join(", ")
}

/// How a finding begins that says what the machine's own rules drop.
pub const DROPS: &str = message!("rules of this machine drop");

pub fn firewall(facts: &Facts) -> Finding {
    let active = &facts.system.firewalls;
    let accept = || tr!("let it accept {}", openings(&facts.wanted));
    let is_active = || tr!("{} is active", active.join(", "));
    let Some(firewall) = &facts.firewall else {
        return match active.is_empty() {
            true => Finding::pass(tr!("none is switched on")),
            false => Finding::warn(is_active(), accept()),
        };
    };
    let (mut dropped, mut unclear): (Told, Told) = Default::default();
    for traffic in needed(&facts.wanted) {
        let to = facts.wanted.address;
        match answer(&firewall.hooks, &Packet { traffic, to }) {
            Answer::Accepted => {}
            Answer::Dropped(rule) => dropped.entry(rule).or_default().push(traffic.to_string()),
            Answer::Unclear(rule) => unclear.entry(rule).or_default().push(traffic.to_string()),
        }
    }
    let unread = ["firewalld", "nftables"];
    let is_unread =
        !firewall.reads_nftables && active.iter().any(|name| unread.contains(&name.as_str()));
    if !dropped.is_empty() {
        Finding::warn(
            format!("{} {}", translated(DROPS), told(&dropped)),
            accept(),
        )
    } else if !unclear.is_empty() {
        let why = &tr!(
            "rules of this machine may drop packets of other nodes; this program cannot tell whether they drop"
        );
        Finding::warn(format!("{why} {}", told(&unclear)), accept())
    } else if is_unread {
        let why = &tr!("its rules cannot be read without the program nft");
        Finding::warn(tr!("{}, and {why}", is_active(), why), accept())
    } else if active.is_empty() && firewall.hooks.is_empty() {
        Finding::pass(tr!("none is switched on"))
    } else {
        Finding::pass(tr!("the rules of this machine accept what this node needs"))
    }
}

/// The traffic that each rule drops, or may drop.
type Told = BTreeMap<String, Vec<String>>;

fn told(rules: &Told) -> String {
    let each: Vec<String> = rules
        .iter()
        .map(|(rule, traffic)| format!("{} ({})", traffic.join(", "), shown(rule)))
        .collect();
    each.join("; ")
}

/// The traffic to the services of a node of this kind, in order. What goes on to pods is not among it.
fn needed(wanted: &Wanted) -> BTreeSet<Traffic> {
    let ports = own_ports(wanted).into_iter();
    let own: BTreeSet<u16> = OWN
        .iter()
        .map(|(_, port)| *port)
        .chain(wanted.balancer)
        .collect();
    let ports = ports.filter(|port| !own.contains(port));
    let openings = OPENINGS
        .iter()
        .filter(|one| one.on.include(wanted.role) && one.when.holds(wanted.profile, wanted.ipip))
        .map(|one| one.traffic)
        .filter(|traffic| match traffic {
            Traffic::Tcp(first, last) => first != last,
            Traffic::Udp(..) | Traffic::Tunnel => true,
            Traffic::Anything => false,
        });
    let ports = ports.map(|port| Traffic::Tcp(port, port));
    ports.chain(openings).collect()
}

pub fn backends(facts: &Facts) -> Finding {
    let Some(firewall) = &facts.firewall else {
        return Finding::elsewhere(tr!("this is not the running system"));
    };
    let (Some(legacy), Some(nft)) = (&firewall.legacy, &firewall.nft) else {
        return Finding::pass(tr!("iptables has one backend"));
    };
    let both = legacy.own > 0 && nft.own > 0;
    let drops = legacy.drops + nft.drops > 0 || legacy.drops_input || nft.drops_input;
    match both && drops {
        true => Finding::warn(
            tr!(
                "{} rules of yours are in iptables-legacy and {} in iptables-nft; a packet must pass both, and \
                 each command shows only its own",
                legacy.own,
                nft.own
            ),
            tr!(
                "`iptables-legacy-save` and `iptables-nft-save` show them; keep them in one: \
             `update-alternatives --config iptables`"
            ),
        ),
        false => Finding::pass(tr!("the rules do not contradict each other")),
    }
}

pub fn networks(facts: &Facts) -> Finding {
    of_workers(facts, || {
        let own = paths::CNI_CONFIG.rsplit('/').next().unwrap_or_default();
        let before = facts
            .system
            .networks
            .iter()
            .find(|name| name.as_str() < own);
        match before {
            Some(name) => Finding::fail(
                tr!(
                    "{}/{} is sorted before {own}, so pods get its network, not Calico's",
                    paths::CNI_DIR,
                    shown(name),
                    own
                ),
                format!("`mv {}/{} /root/`", paths::CNI_DIR, shown(name)),
            ),
            None => Finding::pass(tr!("none comes before Calico's")),
        }
    })
}
