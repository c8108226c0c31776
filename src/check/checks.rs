//! The table of checks: each check makes one verdict from the facts.

use super::Verdict;
use super::between::{not_wanted, path_mtu, pod_to_pod, probes, set_mode};
use super::facts::{Facts, Unprobed};
use crate::clients::calicoctl::Pool;
use crate::language::tr;
use crate::observe::peers::PeerReport;
use crate::records::expected::Expected;

/// How many hints of one check are shown.
const MOST_HINTS: usize = 3;

/// Makes a verdict.
type Check = fn(&Expected, &Facts) -> Verdict;

/// Every check, in the tutorial's order. Those of the network between nodes come as early as their probes
/// run: without it, names and services fail, too.
pub const CHECKS: &[(&str, Check)] = &[
    ("versions", versions),
    ("component statuses", components),
    ("nodes", nodes),
    ("BGP peers", peers),
    ("IP pool", pool),
    ("deployment", deployment),
    ("pod to pod", pod_to_pod),
    ("path MTU of pods", path_mtu),
    ("DNS from pods", dns),
    ("NodePort service", node_ports),
    ("metadata service", metadata),
];

fn versions(expected: &Expected, facts: &Facts) -> Verdict {
    let versions = match &facts.versions {
        Ok(versions) => versions,
        Err(why) => return Verdict::failed(why, tr!("see `journalctl -u kube-apiserver`")),
    };
    let found = tr!("client {}, server {}", versions.client, versions.server);
    // Suffixes of the version, such as a build's name, are not compared.
    let same = |version: &str| version.split([' ', '+', '-']).next() == Some(&expected.kubernetes);
    if same(&versions.client) && same(&versions.server) {
        return Verdict::passed(found);
    }
    Verdict::failed(
        tr!("{found}; the bundle has {}", expected.kubernetes, found),
        tr!("run `appliance install` on this master to get the bundle's version"),
    )
}

fn components(_expected: &Expected, facts: &Facts) -> Verdict {
    let components = match &facts.components {
        Ok(components) => components,
        Err(why) => return Verdict::failed(why, tr!("see `kubectl get componentstatuses`")),
    };
    let sick = components.iter().filter(|component| !component.healthy);
    let sick: Vec<String> = sick
        .map(|component| format!("{}: {}", component.name, component.message))
        .collect();
    if components.is_empty() || !sick.is_empty() {
        let found = if sick.is_empty() {
            tr!("the API server lists none")
        } else {
            sick.join("; ")
        };
        return Verdict::failed(
            found,
            tr!("run `appliance status` on the masters to see which service fails"),
        );
    }
    let names: Vec<&str> = components.iter().map(|c| c.name.as_str()).collect();
    Verdict::passed(tr!("healthy: {}", names.join(", ")))
}

fn nodes(expected: &Expected, facts: &Facts) -> Verdict {
    let nodes = match &facts.nodes {
        Ok(nodes) => nodes,
        Err(why) => return Verdict::failed(why, tr!("see `kubectl get nodes`")),
    };
    let not_ready = nodes.iter().filter(|node| !node.ready);
    let not_ready: Vec<&str> = not_ready.map(|node| node.name.as_str()).collect();
    let unknown = |name: &&String| {
        !expected.masters.contains(name) && !nodes.iter().any(|node| node.name == **name)
    };
    let joined = match &facts.joined {
        Ok(joined) => joined,
        Err(why) => {
            return Verdict::failed(why, tr!("see `appliance node list` for the joined nodes"));
        }
    };
    let absent: Vec<&str> = joined.iter().filter(unknown).map(String::as_str).collect();
    if !not_ready.is_empty() {
        return Verdict::failed(
            tr!("not ready: {}", not_ready.join(", ")),
            tr!("run `appliance status` and `journalctl -u kubelet` on these nodes to see why"),
        );
    }
    if !absent.is_empty() {
        return Verdict::failed(
            tr!("joined, but not in the cluster: {}", absent.join(", ")),
            tr!(
                "see `journalctl -u kubelet` on these nodes; if a node is gone for good, remove its \
             record here: `appliance node release NAME`"
            ),
        );
    }
    if nodes.is_empty() {
        return Verdict::failed(
            tr!("the cluster has no nodes"),
            tr!("run `appliance token create` and boot a worker with this token in its user-data"),
        );
    }
    Verdict::passed(tr!("{} of {} ready", nodes.len(), nodes.len()))
}

fn peers(_expected: &Expected, facts: &Facts) -> Verdict {
    let peers = match &facts.peers {
        Ok(peers) => peers,
        Err(why) => {
            return Verdict::failed(
                why,
                tr!("see `calicoctl get nodes` and `journalctl -u kube-calico`"),
            );
        }
    };
    let words = |report: &PeerReport| {
        let name = report.node.as_ref().unwrap_or(&report.peer.address);
        format!("{name} ({})", report.peer.info)
    };
    let list = |reports: &[&PeerReport]| {
        let words: Vec<String> = reports.iter().map(|report| words(report)).collect();
        words.join(", ")
    };
    let (up, others): (Vec<&PeerReport>, Vec<&PeerReport>) = peers
        .iter()
        .partition(|report| report.peer.is_established());
    let (down, coming): (Vec<&PeerReport>, Vec<&PeerReport>) =
        others.iter().partition(|report| report.problem.is_some());
    let of = tr!("of {} not established", peers.len());
    let problems: Vec<&str> = down.iter().filter_map(|r| r.problem.as_deref()).collect();
    if !problems.is_empty() {
        return Verdict::failed(
            format!("{} {of}: {}", down.len(), list(&down)),
            tr!(
                "{}\nTo allow TCP port 179 between nodes: `openstack security group rule create \
                 --protocol tcp --dst-port 179 --remote-group GROUP GROUP`",
                first(&problems)
            ),
        );
    }
    if !coming.is_empty() {
        return Verdict::skipped(tr!(
            "{} {of} for less than a minute: {}; run `appliance check` again",
            coming.len(),
            list(&coming),
            of
        ));
    }
    if peers.is_empty() {
        return Verdict::skipped(tr!("there are no other nodes"));
    }
    Verdict::passed(tr!("{} established", up.len()))
}

/// The first problems of many: the others are mostly the same for other nodes.
fn first(problems: &[&str]) -> String {
    let shown = problems.len().min(MOST_HINTS);
    let mut text = problems[..shown].join("\n");
    if shown < problems.len() {
        text += &tr!("\n{} more like these", problems.len() - shown);
    }
    text
}

fn pool(expected: &Expected, facts: &Facts) -> Verdict {
    let pools = match &facts.pools {
        Ok(pools) => pools,
        Err(why) => return Verdict::failed(why, tr!("see `calicoctl get ipPool`")),
    };
    let list: Vec<&str> = pools.iter().map(|pool| pool.cidr.as_str()).collect();
    let found = list.join(", ");
    if let [own] = &pools[..]
        && own.cidr == expected.pod_cidr
    {
        return tunnels(expected, own);
    }
    let found = if pools.is_empty() { "none" } else { &found };
    Verdict::failed(
        tr!("{found}; podCIDR is {}", expected.pod_cidr, found),
        tr!(
            "Calico keeps the pool from the first installation: set podCIDR to that pool, or create \
         the new pool with `calicoctl create -f FILE` and delete the old one with `calicoctl \
         delete ipPool CIDR`"
        ),
    )
}

/// The mode of the pool is the one that counts: Calico never changes it by itself.
fn tunnels(expected: &Expected, pool: &Pool) -> Verdict {
    let found = tr!("{}, ipip: {}", pool.cidr, pool.ipip);
    if pool.ipip == expected.ipip {
        return Verdict::passed(found);
    }
    Verdict::failed(
        tr!("{found}; the setting is `ipip: {}`", expected.ipip, found),
        tr!(
            "Calico keeps the mode from the first installation. To use that of the settings: `{}`. \
             To keep it, set `ipip: {}` on all nodes",
            set_mode(&pool.cidr, expected.ipip),
            pool.ipip
        ),
    )
}

fn deployment(_expected: &Expected, facts: &Facts) -> Verdict {
    match &facts.probes {
        Ok(probes) => Verdict::passed(tr!("{} pods, one on each node", probes.pods.len())),
        Err(Unprobed::NotWanted) => not_wanted(),
        Err(Unprobed::Failed(why)) => Verdict::failed(
            why,
            tr!(
                "see `kubectl describe pods --all-namespaces`, and `journalctl -u kubelet` on the \
             node; then run `appliance check` again"
            ),
        ),
    }
}

fn dns(expected: &Expected, facts: &Facts) -> Verdict {
    let probes = match probes(facts) {
        Ok(probes) => probes,
        Err(skipped) => return skipped,
    };
    for answer in &probes.dns {
        let hint = &tr!(
            "see `kubectl -n kube-system get pods -l k8s-app=kube-dns` for the state of \
                    DNS, and `appliance status` for what it waits for"
        );
        match &answer.found {
            Err(why) => return Verdict::failed(tr!("pod on {}: {why}", answer.node, why), hint),
            Ok(addresses) if !addresses.contains(&expected.api_server_ip) => {
                return Verdict::failed(
                    tr!(
                        "pod on {}: kubernetes.default resolves to {}, not {}",
                        answer.node,
                        addresses.join(", "),
                        expected.api_server_ip
                    ),
                    hint,
                );
            }
            Ok(_) => {}
        }
    }
    Verdict::passed(tr!(
        "kubernetes.default.svc.{} resolves to {}",
        expected.domain,
        expected.api_server_ip
    ))
}

fn node_ports(_expected: &Expected, facts: &Facts) -> Verdict {
    let probes = match probes(facts) {
        Ok(probes) => probes,
        Err(skipped) => return skipped,
    };
    for answer in &probes.node_ports {
        if let Err(why) = &answer.found {
            return Verdict::failed(
                format!("{}: {why}", answer.node),
                tr!(
                    "allow the ports of nodePortRange to the nodes in the security group, and see \
                 `journalctl -u kube-proxy` on that node"
                ),
            );
        }
    }
    let places: Vec<&str> = probes.node_ports.iter().map(|a| a.node.as_str()).collect();
    Verdict::passed(tr!("answers at {}", places.join(", ")))
}

fn metadata(expected: &Expected, facts: &Facts) -> Verdict {
    let probes = match probes(facts) {
        Ok(probes) => probes,
        Err(skipped) => return skipped,
    };
    if expected.pod_metadata {
        return Verdict::skipped(tr!("the settings allow it (podMetadataAccess: allow)"));
    }
    for answer in &probes.metadata {
        match &answer.found {
            Ok(true) => {
                return Verdict::failed(
                    tr!("a pod on {} reaches 169.254.169.254", answer.node),
                    tr!(
                        "run `systemctl restart appliance-pod-metadata` on that node, then \
                     `appliance status`"
                    ),
                );
            }
            Ok(false) => {}
            Err(why) => return Verdict::skipped(tr!("pod on {}: {why}", answer.node, why)),
        }
    }
    Verdict::passed(tr!("no pod reaches 169.254.169.254"))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
