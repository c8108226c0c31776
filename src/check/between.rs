//! The checks of packets between nodes: which ones are lost, and the cause.

use std::collections::BTreeSet;

use ipnet::Ipv4Net;

use super::Verdict;
use super::facts::{CheckedNode, Facts, Pair, Probes, Unprobed};
use crate::language::tr;
use crate::nodespec::Ipip;
use crate::records::expected::Expected;

/// The results of the probes, or a skipped verdict if there are none.
pub(super) fn probes(facts: &Facts) -> Result<&Probes, Verdict> {
    facts.probes.as_ref().map_err(|unprobed| match unprobed {
        Unprobed::NotWanted => not_wanted(),
        Unprobed::Failed(why) => Verdict::skipped(tr!("the probes do not run: {why}", why)),
    })
}

/// The verdict of a check that needs pods, if the user wants none.
pub(super) fn not_wanted() -> Verdict {
    Verdict::skipped(tr!("it needs pods, and --no-pods is given"))
}

/// How packets of pods go from one node to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// With the addresses of the pods.
    Direct,
    /// Inside packets with the addresses of the nodes.
    Tunnel,
}

/// When the cluster uses tunnels: what Calico's pool says, else what is expected.
fn mode(expected: &Expected, facts: &Facts) -> Ipip {
    let pools = facts.pools.as_ref().ok().into_iter().flatten();
    let mut own = pools.filter(|pool| pool.cidr == expected.pod_cidr);
    own.next().map_or(expected.ipip, |pool| pool.ipip)
}

/// The subnet of a node, as Calico knows it.
fn subnet(facts: &Facts, node: &CheckedNode) -> Option<Ipv4Net> {
    let subnets = facts.subnets.as_ref().ok()?;
    subnets.get(&node.name).map(Ipv4Net::trunc)
}

fn way(expected: &Expected, facts: &Facts, pair: &Pair) -> Way {
    let subnets = [&pair.from, &pair.to].map(|node| subnet(facts, node));
    match (mode(expected, facts), subnets) {
        (Ipip::Always, _) => Way::Tunnel,
        (Ipip::CrossSubnet, [Some(from), Some(to)]) if from != to => Way::Tunnel,
        (Ipip::CrossSubnet | Ipip::Off, _) => Way::Direct,
    }
}

/// How to allow packets that go this way.
fn remedy(expected: &Expected, way: Way, pairs: &[&Pair]) -> String {
    if way == Way::Tunnel {
        return tr!(
            "the nodes reach each other, so the network drops IP protocol 4, which the tunnels of \
                pods use. Allow it between nodes: `openstack security group rule create --protocol 4 \
                --remote-group GROUP GROUP`"
        );
    }
    let nodes = pairs.iter().flat_map(|pair| [&pair.from, &pair.to]);
    let addresses: BTreeSet<&str> = nodes.map(|node| node.address.as_str()).collect();
    let addresses: Vec<&str> = addresses.into_iter().collect();
    tr!(
        "the nodes reach each other, so the network drops packets with the addresses of pods: the \
         ports lack address pairs. `openstack port set PORT --allowed-address ip-address={pods} \
         --allowed-address ip-address={services}` (`openstack port list --fixed-ip \
         ip-address={first}` shows PORT; do this for {all}). Or use tunnels, which need no address \
         pairs: set `ipip: always` on all nodes, run `appliance install` on each, and here \
         `{command}`",
        pods = expected.pod_cidr,
        services = expected.service_cidr,
        first = addresses.first().unwrap_or(&"ADDRESS"),
        all = addresses.join(", "),
        command = set_mode(&expected.pod_cidr, Ipip::Always)
    )
}

/// The command that changes when Calico uses tunnels for a pool.
pub(super) fn set_mode(cidr: &str, ipip: Ipip) -> String {
    let tunnel = match ipip {
        Ipip::Off => String::new(),
        mode => format!("ipip: {{enabled: true, mode: {mode}}}, "),
    };
    format!(
        "echo '{{apiVersion: v1, kind: ipPool, metadata: {{cidr: {cidr}}}, spec: \
         {{{tunnel}nat-outgoing: true}}}}' | calicoctl apply -f -"
    )
}

/// Whether a pod on each node, and this master, reach the pods on the others.
pub(super) fn pod_to_pod(expected: &Expected, facts: &Facts) -> Verdict {
    let probes = match probes(facts) {
        Ok(probes) => probes,
        Err(skipped) => return skipped,
    };
    if probes.pairs.is_empty() {
        return Verdict::skipped(tr!("there is only one node"));
    }
    let lost = probes.pairs.iter().filter(|pair| pair.connected.is_err());
    let lost: Vec<&Pair> = lost.collect();
    if let Some((pair, Err(why))) = lost.first().map(|pair| (pair, &pair.connected)) {
        let way = way(expected, facts, pair);
        return Verdict::failed(
            tr!(
                "{} of {} connections fail: from {} to {}: {why}",
                lost.len(),
                probes.pairs.len(),
                pair.from.name,
                pair.to.name,
                why
            ),
            remedy(expected, way, &lost),
        );
    }
    Verdict::passed(tr!(
        "{} connections between nodes, {}",
        probes.pairs.len(),
        ways(expected, facts, &probes.pairs)
    ))
}

/// Which ways these pairs use, and whether they need tunnels.
fn ways(expected: &Expected, facts: &Facts, pairs: &[Pair]) -> String {
    let ways: BTreeSet<Way> = pairs
        .iter()
        .map(|pair| way(expected, facts, pair))
        .collect();
    let nodes = pairs.iter().flat_map(|pair| [&pair.from, &pair.to]);
    let subnets: BTreeSet<Option<Ipv4Net>> = nodes.map(|node| subnet(facts, node)).collect();
    let is_one_subnet = subnets.len() == 1 && !subnets.contains(&None);
    match (ways.first(), ways.len()) {
        (Some(Way::Direct), 1) => {
            tr!("without tunnels: the network lets packets with the addresses of pods pass")
        }
        (Some(Way::Tunnel), 1) if is_one_subnet => {
            tr!(
                "through tunnels. All nodes are in one subnet: if their ports allow the addresses of \
             pods (address pairs), tunnels are not needed, and `ipip: cross-subnet` is faster"
            )
        }
        (_, 1) => tr!("through tunnels"),
        _ => tr!("through tunnels between subnets"),
    }
}

/// Whether packets of the size of the pods' MTU pass.
pub(super) fn path_mtu(expected: &Expected, facts: &Facts) -> Verdict {
    let probes = match probes(facts) {
        Ok(probes) => probes,
        Err(skipped) => return skipped,
    };
    let measured = probes.pairs.iter();
    let measured = measured.filter_map(|pair| Some((pair, pair.passes.as_ref()?)));
    let mut least = None;
    for (pair, passes) in measured {
        let way = tr!("from {} to {}", pair.from.name, pair.to.name);
        match passes {
            Err(why) => {
                let hint = &tr!(
                    "allow UDP between pods: a NetworkPolicy or the nodes' firewall may drop it"
                );
                return Verdict::failed(format!("{way}: {why}"), hint);
            }
            Ok(bytes) if *bytes < expected.pod_mtu => {
                let mtu = bytes + expected.tunnel;
                return Verdict::failed(
                    tr!(
                        "{way}: packets of {bytes} bytes pass, larger ones are lost, but the MTU of \
                         pods is {}",
                        expected.pod_mtu,
                        way,
                        bytes
                    ),
                    tr!(
                        "set `mtu: {mtu}` in the settings of all nodes, and run `appliance \
                         install` on each",
                        mtu
                    ),
                );
            }
            Ok(bytes) => least = Some(least.map_or(*bytes, |least: u32| least.min(*bytes))),
        }
    }
    match least {
        Some(bytes) => Verdict::passed(tr!("packets of {bytes} bytes pass unfragmented", bytes)),
        None => Verdict::skipped(tr!("no pod reaches a pod on another node")),
    }
}
