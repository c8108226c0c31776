//! The network between nodes: ports, tunnels, routes, and the largest packets.

use core::net::Ipv4Addr;
use std::collections::BTreeMap;

use super::super::facts::{Answer, Facts, PathOf, Reached, Session, Tunnel};
use super::super::{Fault, Seen, seen};
use super::cause;
use crate::language::{tr, translated};
use crate::nodespec::ports::API_SERVER;
use crate::paths;
use crate::preflight::{DROPS, Level, judge};

/// The port of BGP.
const BGP: u16 = 179;
/// The security group of the nodes, in a command. A shell says what is missing if it is not set.
const GROUP: &str = "\"${GROUP:?name the security group of the nodes}\"";
/// The header of an IP-in-IP packet, in bytes.
const TUNNEL_HEADER: u32 = 20;

#[rustfmt::skip]
pub const FAULTS: &[Fault] = &[
    cause("masters-unreachable", "connections to the API server of each master",
        "No master answers at TCP 6443: they are off, the network between is cut, or the security group drops it.",
        "openstack security group rule create --protocol tcp --dst-port 6443 GROUP", masters).explains(&[
            "node-not-ready", "kubelet-down", "kube-proxy-down", "calico-down", "other-service-down", "node-silent", "bgp-down",
            "port-dropped", "installation-failed", "run-waits", "master-not-reached",
        ]),
    cause("firewall-drops", "the rules of iptables and nftables on this machine",
        "Rules of this machine itself drop what other nodes send to it.",
        "iptables -nvL --line-numbers", firewall).explains(&["bgp-down", "node-not-ready", "etcd-no-leader"]),
    cause("port-dropped", "a connection to each port that this node needs of each other node",
        "The other node answers at some ports and not at this one: the security group or a firewall there drops it.",
        "openstack security group rule create --protocol tcp --dst-port PORT GROUP", dropped).explains(&[
            "bgp-down", "etcd-no-leader", "etcd-down", "calico-down", "node-not-ready",
        ]),
    cause("node-silent", "connections to each other node",
        "Another node answers at no port: it is off, or its security group drops everything from here.",
        "openstack server list", silent).explains(&["bgp-down", "etcd-no-leader"]),
    cause("port-refused", "a connection to each port that this node needs of each other node",
        "The machine is there, but nothing listens at the port: that service is down there. Look on that node.",
        "ssh ADDRESS appliance doctor", refused).explains(&["bgp-down", "etcd-no-leader"]),
    cause("bgp-refused", "the sessions of BIRD",
        "Both sides of a BGP session answer, but do not accept each other's settings, such as the AS number.",
        "calicoctl get nodes -o wide", bgp_refused),
    cause("bgp-down", "the sessions of BIRD",
        "A BGP session is not established, so pods of that node are not reached from here. Allow TCP 179 between nodes; a node that is gone for good has to be deleted.",
        "calicoctl node status", bgp_down),
    cause("tunnel-dropped", "BGP, and what answers behind each tunnel",
        "BGP is established, but nothing answers through the tunnel: the security group drops IP protocol 4 (IP-in-IP).",
        "openstack security group rule create --protocol 4 GROUP", tunnel),
    cause("path-mtu", "the largest packet that reaches each other node",
        "The network between the nodes passes smaller packets than the interface here sends. Large transfers hang, small ones pass. Set `mtu` on all nodes.",
        "echo 'mtu: BYTES' >>/etc/appliance/config.yaml && appliance install", path_mtu).explains(&["node-not-ready", "etcd-no-leader"]),
    cause("pod-mtu", "the MTU of pods, and that of the interface with the node's address",
        "Pods send larger packets than the interface passes with the header of the tunnel. The MTU of the network changed after the installation.",
        "appliance install", pod_mtu),
    cause("name-servers", "the name servers that pods get",
        "The file that pods get names a server on the loopback, which is the pod itself in a pod. Names outside of the cluster are not found.",
        "systemctl enable --now systemd-resolved && appliance install", name_servers).notice(),
    cause("own-name", "the host name, and /etc/hosts",
        "The machine does not find an address for its own name. `sudo` and some programs wait for a name server each time.",
        "echo \"127.0.1.1 $(hostname)\" >>/etc/hosts", own_name).notice(),
];

/// What came of connections to each node.
fn nodes(facts: &Facts) -> BTreeMap<Ipv4Addr, Vec<&Reached>> {
    let mut nodes: BTreeMap<Ipv4Addr, Vec<&Reached>> = BTreeMap::new();
    for one in &facts.reached {
        nodes.entry(one.address).or_default().push(one);
    }
    nodes
}

fn is_answer(one: &Reached) -> bool {
    matches!(one.answer, Answer::Open | Answer::Refused)
}

fn masters(facts: &Facts) -> Option<Seen> {
    let role = facts.node.as_ref()?.shape.role;
    let tried: Vec<&Reached> = facts
        .reached
        .iter()
        .filter(|one| one.master && one.port == API_SERVER)
        .collect();
    let none = !tried.is_empty() && tried.iter().all(|one| one.answer != Answer::Open);
    if role.is_master() || !none {
        return None;
    }
    let found = seen(tried.iter().map(|one| told(one)))?;
    let is_up = tried.iter().all(|one| one.answer == Answer::Refused);
    Some(match is_up {
        // Machines that refuse are up, and nothing has to be allowed.
        true => found.mended_by(
            "ssh MASTER appliance doctor"
                .to_owned()
                .replace("MASTER", &tried[0].address.to_string()),
        ),
        false => found.mended_by(allow(API_SERVER)).likely(),
    })
}

fn told(one: &Reached) -> String {
    let what = match one.answer {
        Answer::Open => tr!("accepts connections"),
        Answer::Refused => tr!("refuses connections"),
        Answer::Silent => tr!("does not answer"),
        Answer::NoWay => tr!("cannot be reached: there is no way to it"),
    };
    format!("{}:{} ({}) {what}", one.address, one.port, one.purpose)
}

fn allow(port: u16) -> String {
    format!("openstack security group rule create --protocol tcp --dst-port {port} {GROUP}")
}

fn firewall(facts: &Facts) -> Option<Seen> {
    facts.node.as_ref()?;
    let judged = judge(facts.machine.as_ref()?, &[]);
    let found = judged.into_iter().find(|one| one.name == "firewall")?;
    let drops = found.level == Level::Warn && found.seen.starts_with(&translated(DROPS));
    drops.then(|| Seen::of(found.seen))
}

fn dropped(facts: &Facts) -> Option<Seen> {
    let nodes = nodes(facts);
    let of_live = nodes
        .values()
        .filter(|all| all.iter().any(|one| is_answer(one)));
    let silent: Vec<&Reached> = of_live
        .flatten()
        .filter(|one| matches!(one.answer, Answer::Silent | Answer::NoWay))
        .copied()
        .collect();
    let first = silent.first()?;
    let command = allow(first.port);
    Some(seen(silent.iter().map(|one| told(one)))?.mended_by(command))
}

fn silent(facts: &Facts) -> Option<Seen> {
    let nodes = nodes(facts);
    let dead = nodes
        .iter()
        .filter(|(_, all)| !all.iter().any(|one| is_answer(one)));
    seen(
        dead.map(|(address, all)| tr!("{address} answers at none of {} ports", all.len(), address)),
    )
    .map(Seen::likely)
}

fn refused(facts: &Facts) -> Option<Seen> {
    let refused: Vec<&Reached> = facts
        .reached
        .iter()
        .filter(|one| one.answer == Answer::Refused)
        .collect();
    let address = refused.first()?.address;
    Some(
        seen(refused.iter().map(|one| told(one)))?
            .mended_by(format!("ssh {address} appliance doctor")),
    )
}

fn bgp_refused(facts: &Facts) -> Option<Seen> {
    let refused = facts.peers.iter().filter(|peer| peer.refused);
    seen(refused.map(|peer| format!("{}: {}", peer.address, peer.info)))
}

fn bgp_down(facts: &Facts) -> Option<Seen> {
    let down = |peer: &&Session| !peer.established && !peer.refused;
    let found = seen(
        facts
            .peers
            .iter()
            .filter(down)
            .map(|peer| format!("{}: {}", peer.address, peer.info)),
    )?;
    let is_silent = |one: &Reached| one.port == BGP && one.answer == Answer::Silent;
    Some(match facts.reached.iter().any(is_silent) {
        true => found.mended_by(allow(BGP)),
        false => found,
    })
}

fn tunnel(facts: &Facts) -> Option<Seen> {
    let node = facts.node.as_ref()?;
    let up = |tunnel: &&Tunnel| {
        let address = tunnel.gateway.to_string();
        facts
            .peers
            .iter()
            .any(|peer| peer.established && peer.address == address)
    };
    // A range in which nothing answers may be empty, unless the same is so for each of them.
    let ready: Vec<&Tunnel> = facts.tunnels.iter().filter(up).collect();
    let dead: Vec<&&Tunnel> = ready.iter().filter(|tunnel| !tunnel.answers).collect();
    let of_live = |gateway: Ipv4Addr| {
        ready
            .iter()
            .any(|one| one.gateway == gateway && one.answers)
    };
    let dead = dead.into_iter().filter(|tunnel| !of_live(tunnel.gateway));
    let found = seen(dead.map(|tunnel| {
        tr!(
            "nothing answers in {} behind {}, although BGP is established",
            tunnel.range,
            tunnel.gateway
        )
    }))?;
    let command = format!("openstack security group rule create --protocol 4 {GROUP}");
    node.tunnelled.then(|| found.mended_by(command).likely())
}

fn path_mtu(facts: &Facts) -> Option<Seen> {
    let narrow: Vec<(&PathOf, u32)> = facts
        .paths
        .iter()
        .filter_map(|path| Some((path, path.passes?)))
        .filter(|(path, passes)| *passes < path.mtu)
        .collect();
    let (_, least) = narrow.iter().min_by_key(|(_, passes)| *passes)?;
    let found = seen(narrow.iter().map(|(path, passes)| {
        tr!(
            "packets of {} bytes do not reach {}, packets of {passes} bytes do",
            path.mtu,
            path.address,
            passes
        )
    }))?;
    Some(found.mended_by(format!(
        "echo 'mtu: {least}' >>{} && appliance install",
        paths::CONFIG
    )))
}

fn pod_mtu(facts: &Facts) -> Option<Seen> {
    let header = if facts.node.as_ref()?.tunnelled {
        TUNNEL_HEADER
    } else {
        0
    };
    let (pods, own) = (facts.pod_mtu?, facts.own_mtu?);
    (pods + header > own).then(|| {
        Seen::of(tr!("pods send packets of {pods} bytes, with {header} bytes for the tunnel, and the interface passes {own}", pods, header, own))
    })
}

fn name_servers(facts: &Facts) -> Option<Seen> {
    facts
        .node
        .as_ref()
        .filter(|node| node.shape.role.is_worker())?;
    let judged = judge(facts.machine.as_ref()?, &[]);
    let found = judged.into_iter().find(|one| one.name == "name-servers")?;
    (found.level == Level::Warn).then(|| Seen::of(found.seen))
}

fn own_name(facts: &Facts) -> Option<Seen> {
    let machine = facts
        .machine
        .as_ref()
        .filter(|_| facts.node.is_some() && facts.live)?;
    let name = &machine.booted.as_ref()?.hostname;
    (!name.is_empty() && !machine.system.knows_own_name)
        .then(|| Seen::of(tr!("{name} is not in /etc/hosts", name)))
}
