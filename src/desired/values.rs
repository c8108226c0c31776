//! The values that templates use.

use core::net::Ipv4Addr;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Sources, kernel};
use crate::components;
use crate::nodespec::NodeSpec;
use crate::nodespec::addons::Switch;
use crate::nodespec::ports::{
    self, API_SERVER, API_SERVER_SIMPLE, CALICO_DATASTORE, ETCD_CLIENTS, ETCD_PEERS,
};
use crate::paths;
use crate::pki::{Pki, inspect};

/// The values that every template may use.
pub(super) fn values(sources: &Sources<'_>) -> Value {
    let spec = sources.spec;
    let cluster = &spec.cluster;
    let docker = if sources.bundled_docker {
        paths::DOCKER_OF_PAYLOAD
    } else {
        paths::DOCKER_OF_MACHINE
    };
    let sysctls = kernel::settings(spec);
    let sysctls = sysctls
        .iter()
        .map(|(key, value)| json!({ "key": key, "value": value }));
    let sysctls: Vec<Value> = sysctls.collect();
    json!({
        "paths": paths::for_templates().collect::<BTreeMap<_, _>>(),
        "certificate": by_name(sources, paths::certificate),
        "key": by_name(sources, paths::key),
        "ports": ports::for_templates().collect::<BTreeMap<_, _>>(),
        "modules": kernel::modules(*spec.cluster.ipip),
        "sysctls": sysctls,
        "docker": docker,
        "cgroup_driver": sources.cgroup_driver.to_string(),
        "tls": spec.tls(),
        "scheme": spec.reach().scheme(),
        "pod_mtu": spec.pod_mtu(),
        "pod_metadata": spec.addons.pod_metadata.to_string(),
        "always_pull_images": *spec.admission.always_pull_images == Switch::On,
        "pod_security_policy": *spec.admission.pod_security_policy == Switch::On,
        "log_level": spec.log_level.as_ref().map(|level| level.to_string()),
        "node": {
            "name": *spec.name,
            "role": spec.role.to_string(),
            "address": spec.address.to_string(),
            "network": network(spec),
            "is_master": spec.role.is_master(),
            "labels": joined(&spec.labels),
            "taints": joined(&spec.taints),
            "resolv_conf": *spec.resolv_conf,
        },
        "several_masters": spec.has_several_masters(),
        "masters_addresses": spec.master_addresses(),
        "calico_endpoints": calico_endpoints(spec),
        "initial_cluster": initial_cluster(spec),
        "balancer_port": *cluster.balancer_port,
        "api_server": api_server(spec),
        "issuer_certificate": match issuer(sources.pki) {
            Some(_) => paths::ISSUER_CERTIFICATE,
            None => paths::CA_CERTIFICATE,
        },
        "join_port": *spec.join.port,
        "renew_port": spec.join.renew_port(),
        "join_user": components::JOIN_USER,
        "datastore_user": components::DATASTORE_USER,
        "cluster": {
            "name": *cluster.name,
            "pod_cidr": cluster.pod_cidr.to_string(),
            "service_cidr": cluster.service_cidr.to_string(),
            "node_ports": cluster.node_ports.to_string(),
            "ipip": cluster.ipip.to_string(),
            "domain": *cluster.domain,
            "dns": cluster.dns_ip().to_string(),
        },
        "hosts": hosts(spec),
        "routes_taken": routes_taken(spec),
        "pod_ranges": pod_ranges(spec),
    })
}

/// The ranges that may have addresses of pods: of Calico's first pool, and of others that routes lead to.
fn pod_ranges(spec: &NodeSpec) -> Vec<String> {
    core::iter::once(&*spec.cluster.pod_cidr)
        .chain(&*spec.cluster.bgp_routes)
        .map(ToString::to_string)
        .collect()
}

/// The length of the prefix of the blocks of pods' addresses in Calico 2.6.
const BLOCK: u8 = 26;

/// The routes that a node takes from others, as patterns of prefixes for BIRD: to blocks of pods and to single pods,
/// and all in the ranges that the settings name.
fn routes_taken(spec: &NodeSpec) -> Vec<String> {
    let pods = *spec.cluster.pod_cidr;
    let shortest = pods.prefix_len().max(BLOCK);
    let others = spec.cluster.bgp_routes.iter();
    core::iter::once(format!("{pods}{{{shortest},32}}"))
        .chain(others.map(|range| format!("{range}+")))
        .collect()
}

/// The paths of a node's certificates or keys, by the names of the certificates.
fn by_name(sources: &Sources<'_>, path: fn(&str) -> String) -> BTreeMap<&'static str, String> {
    let names = components::certificate_names(*sources.spec.role);
    names.into_iter().map(|name| (name, path(name))).collect()
}

/// Where Calico finds its data, in the form for clients of etcd.
fn calico_endpoints(spec: &NodeSpec) -> String {
    let scheme = spec.reach().scheme();
    let port = match spec.tls() {
        true => CALICO_DATASTORE,
        false => ETCD_CLIENTS,
    };
    let addresses = spec.master_addresses();
    let urls = addresses.iter().map(|a| format!("{scheme}://{a}:{port}"));
    urls.collect::<Vec<_>>().join(",")
}

/// The address of the node for Calico, with the length of its subnet's prefix: without it, Calico takes all
/// other nodes for nodes of other subnets.
fn network(spec: &NodeSpec) -> String {
    match spec.subnet {
        Some(subnet) => subnet.to_string(),
        None => spec.address.to_string(),
    }
}

/// Every member of etcd, in the form for its members.
pub(super) fn initial_cluster(spec: &NodeSpec) -> String {
    let scheme = spec.reach().scheme();
    let member =
        |name: &str, address: Ipv4Addr| format!("{name}={scheme}://{address}:{ETCD_PEERS}");
    if !spec.has_several_masters() {
        return member(&spec.name, *spec.address);
    }
    let masters = spec.cluster.masters.iter();
    let members = masters.map(|master| member(&master.name, master.address));
    members.collect::<Vec<_>>().join(",")
}

/// The URL at which a node reaches the API server.
pub(super) fn api_server(spec: &NodeSpec) -> String {
    let port = *spec.cluster.balancer_port;
    match (&spec.master_addresses()[..], spec.tls()) {
        ([address], true) => format!("https://{address}:{API_SERVER}"),
        ([address], false) => format!("http://{address}:{API_SERVER_SIMPLE}"),
        _ => format!("https://127.0.0.1:{port}"),
    }
}

/// The certificate of the issuing CA, if there are other CA certificates above it.
pub(super) fn issuer(pki: Option<&Pki>) -> Option<String> {
    // A file that is not a certificate chain was refused before.
    let mut chain = inspect::certificates(&pki?.authority.certificate_pem).ok()?;
    (chain.len() > 1).then(|| chain.swap_remove(0).0)
}

/// Labels or taints in the form for the kubelet.
fn joined<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    items.join(",")
}

#[derive(Serialize)]
struct Host {
    name: String,
    address: String,
}

/// This node and the nodes in its settings, sorted by name.
fn hosts(spec: &NodeSpec) -> Vec<Host> {
    let mut entries = spec.cluster.hosts.value.clone();
    entries.insert(spec.name.value.clone(), *spec.address);
    let host = |(name, address): (String, Ipv4Addr)| Host {
        name,
        address: address.to_string(),
    };
    entries.into_iter().map(host).collect()
}

pub(super) fn with(mut values: Value, more: Value) -> Value {
    if let (Value::Object(values), Value::Object(more)) = (&mut values, more) {
        values.extend(more);
    }
    values
}
