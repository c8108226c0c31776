//! The stand-in for calicoctl v1.6.1: `node status`, `get` of three kinds, `apply` of a pool, and the
//! switch of the nodes' mesh.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;
use serde::Deserialize;
use serde_json::{Value, json};

use super::datastore::Datastore;
use super::{ipam, nodes, status};
use crate::etcd::Files;
use crate::program::usage;

const CONFIGURATION: &str = "/etc/calico/calicoctl.cfg";

/// Runs one command.
///
/// # Errors
/// A command it does not know, a broken configuration, no etcd.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    let mut words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = take(&mut words, &["-o", "--output"])?;
    let configuration = take(&mut words, &["-c", "--config"])?;
    let store = || open(configuration.as_deref().unwrap_or(CONFIGURATION).as_ref());
    let lower: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    match (&lower[..], output.as_deref()) {
        (["version"], None) => {
            println!("Version:      v1.6.1 (appliance test stand-in; not the real calicoctl)");
        }
        (["node", "status"], None) => return status::show(),
        (["get", "ippool" | "ippools"], Some("yaml")) => print!("{}", pools_yaml(&store()?)?),
        (["get", "ippool" | "ippools"], Some("json")) => println!("{:#}", pools_json(&store()?)?),
        (["get", "node" | "nodes"], Some("json")) => println!("{:#}", nodes_json(&store()?)?),
        (["get", "bgppeer" | "bgppeers"], Some("json")) => {
            println!("{:#}", peers_json(&store()?)?);
        }
        (["get", kind], None | Some("wide")) => {
            print!("{}", table(&store()?, kind, output.is_some())?);
        }
        (["apply", "-f", _], None) => apply(&store()?, words[2])?,
        (["config", "get", "nodetonodemesh"], None) => {
            let mesh = nodes::global(&store()?)?.mesh;
            println!("{}", if mesh { "on" } else { "off" });
        }
        (["config", "set", "nodetonodemesh", value @ ("on" | "off")], None) => {
            nodes::set_mesh(&store()?, *value == "on")?;
        }
        (["config", "set", "nodetonodemesh", value], None) => {
            println!("Error executing command: invalid value '{value}'");
            return Ok(ExitCode::FAILURE);
        }
        _ => {
            return Err(usage(format!(
                "the stand-in takes version, node status, get ipPool [-o wide|yaml|json], get \
                 node|bgpPeer [-o wide|json], apply -f FILE with one ipPool, and config get|set \
                 nodeToNodeMesh, not {:?}",
                arguments.join(" ")
            )));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes an option and its value from the words.
fn take(words: &mut Vec<&str>, names: &[&str]) -> Result<Option<String>> {
    let Some(place) = words.iter().position(|word| {
        let name = word.split('=').next().unwrap_or_default();
        names.contains(&name)
    }) else {
        return Ok(None);
    };
    let option = words.remove(place);
    if let Some((_, value)) = option.split_once('=') {
        return Ok(Some(value.to_owned()));
    }
    if place == words.len() {
        return Err(usage(format!("{option} needs a value")));
    }
    Ok(Some(words.remove(place).to_owned()))
}

/// A pool in the form of calicoctl.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PoolResource {
    #[serde(rename = "apiVersion")]
    version: String,
    kind: String,
    metadata: PoolMetadata,
    spec: PoolSpec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PoolMetadata {
    cidr: Ipv4Net,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct PoolSpec {
    ipip: Tunnels,
    nat_outgoing: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tunnels {
    enabled: bool,
    mode: Option<String>,
}

/// Creates or replaces the pool that the file describes; `-` is standard input.
fn apply(store: &Datastore, file: &str) -> Result<()> {
    let text = match file {
        "-" => std::io::read_to_string(std::io::stdin()),
        path => std::fs::read_to_string(path),
    };
    let text = text.with_context(|| file.to_owned())?;
    let pool: PoolResource = serde_saphyr::from_str(&text).with_context(|| file.to_owned())?;
    if (pool.version.as_str(), pool.kind.as_str()) != ("v1", "ipPool") {
        bail!("{file}: the stand-in applies only an ipPool of v1");
    }
    let tunnels = pool.spec.ipip;
    let mode = tunnels.mode.unwrap_or("always".to_owned());
    if !["always", "cross-subnet"].contains(&mode.as_str()) {
        bail!("{file}: ipip mode {mode:?} is not always or cross-subnet");
    }
    let mode = if tunnels.enabled {
        mode
    } else {
        "off".to_owned()
    };
    ipam::replace_pool(store, pool.metadata.cidr, &mode, pool.spec.nat_outgoing)?;
    println!("Successfully applied 1 'ipPool' resource(s)");
    Ok(())
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(rename = "apiVersion")]
    version: String,
    kind: String,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    datastore_type: Option<String>,
    etcd_endpoints: Option<String>,
    #[serde(rename = "etcdCACertFile")]
    authority: Option<PathBuf>,
    #[serde(rename = "etcdCertFile")]
    certificate: Option<PathBuf>,
    #[serde(rename = "etcdKeyFile")]
    key: Option<PathBuf>,
}

/// The store that the configuration names; without a configuration, the one of the environment.
fn open(path: &Path) -> Result<Datastore> {
    if !path.exists() {
        return Datastore::of_environment()
            .with_context(|| format!("{} is missing", path.display()));
    }
    let broken = || path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(broken)?;
    let found: Configuration = serde_saphyr::from_str(&text).with_context(broken)?;
    if (found.version.as_str(), found.kind.as_str()) != ("v1", "calicoApiConfig") {
        bail!("{}: expected a calicoApiConfig of v1", path.display());
    }
    let spec = found.spec;
    if spec.datastore_type.is_some_and(|kind| kind != "etcdv2") {
        bail!(
            "{}: datastoreType: the stand-in has only etcdv2",
            path.display()
        );
    }
    let files = Files {
        authority: spec.authority.as_deref(),
        certificate: spec.certificate.as_deref(),
        key: spec.key.as_deref(),
    };
    let endpoints = spec
        .etcd_endpoints
        .context("etcdEndpoints is not set")
        .with_context(broken)?;
    Datastore::new(&endpoints, files).with_context(broken)
}

fn pools_yaml(store: &Datastore) -> Result<String> {
    let pools = ipam::pools(store)?;
    let item = |pool: &ipam::Pool| {
        let mut text = format!(
            "- apiVersion: v1\n  kind: ipPool\n  metadata:\n    cidr: {}\n  spec:\n",
            pool.cidr
        );
        if !pool.ipip.is_empty() {
            text += "    ipip:\n      enabled: true\n";
            if !pool.ipip_mode.is_empty() {
                text += &format!("      mode: {}\n", pool.ipip_mode);
            }
        }
        if pool.masquerade {
            text += "    nat-outgoing: true\n";
        }
        text
    };
    if pools.is_empty() {
        return Ok("[]\n".to_owned());
    }
    Ok(pools.iter().map(item).collect())
}

fn pools_json(store: &Datastore) -> Result<Value> {
    let item = |pool: &ipam::Pool| {
        let mut spec = json!({});
        if !pool.ipip.is_empty() {
            spec["ipip"] = json!({"enabled": true, "mode": pool.ipip_mode});
        }
        if pool.masquerade {
            spec["nat-outgoing"] = json!(true);
        }
        json!({
            "kind": "ipPool",
            "apiVersion": "v1",
            "metadata": {"cidr": pool.cidr.to_string()},
            "spec": spec,
        })
    };
    Ok(ipam::pools(store)?.iter().map(item).collect())
}

fn nodes_json(store: &Datastore) -> Result<Value> {
    let item = |(name, node): (String, nodes::Node)| {
        let mut spec = json!({});
        if !node.network.is_empty() {
            spec["bgp"] = json!({"ipv4Address": node.network});
            if let Some(system) = node.system {
                spec["bgp"]["asNumber"] = json!(system);
            }
        }
        json!({"kind": "node", "apiVersion": "v1", "metadata": {"name": name}, "spec": spec})
    };
    Ok(nodes::nodes(store)?.into_iter().map(item).collect())
}

fn peers_json(store: &Datastore) -> Result<Value> {
    let item = |peer: super::bird::Peer| {
        json!({
            "kind": "bgpPeer",
            "apiVersion": "v1",
            "metadata": {"scope": "global", "peerIP": peer.address.to_string()},
            "spec": {"asNumber": peer.system},
        })
    };
    let peers = nodes::global(store)?.peers.into_iter();
    Ok(peers.map(item).collect())
}

fn table(store: &Datastore, kind: &str, wide: bool) -> Result<String> {
    let (head, rows) = match kind {
        "ippool" | "ippools" => (vec!["CIDR", "NAT", "IPIP"], pool_rows(store)?),
        "node" | "nodes" => (vec!["NAME", "ASN", "IPV4", "IPV6"], node_rows(store)?),
        "bgppeer" | "bgppeers" => (vec!["SCOPE", "PEERIP", "NODE", "ASN"], peer_rows(store)?),
        other => {
            return Err(usage(format!(
                "the stand-in gets ipPool, node and bgpPeer, not {other:?}"
            )));
        }
    };
    let shown = if wide || kind.starts_with("bgp") {
        head.len()
    } else {
        1
    };
    Ok(columns(&head[..shown], &rows))
}

fn pool_rows(store: &Datastore) -> Result<Vec<Vec<String>>> {
    let row = |pool: ipam::Pool| {
        vec![
            pool.cidr.to_string(),
            pool.masquerade.to_string(),
            (!pool.ipip.is_empty()).to_string(),
        ]
    };
    Ok(ipam::pools(store)?.into_iter().map(row).collect())
}

fn node_rows(store: &Datastore) -> Result<Vec<Vec<String>>> {
    let global = nodes::global(store)?.system;
    let row = |(name, node): (String, nodes::Node)| {
        let system = node
            .system
            .map_or(format!("({global})"), |own| own.to_string());
        vec![name, system, node.network, String::new()]
    };
    Ok(nodes::nodes(store)?.into_iter().map(row).collect())
}

fn peer_rows(store: &Datastore) -> Result<Vec<Vec<String>>> {
    let peers = nodes::global(store)?.peers.into_iter();
    let rows = peers.map(|peer| {
        let (address, system) = (peer.address.to_string(), peer.system.to_string());
        vec!["global".to_owned(), address, String::new(), system]
    });
    Ok(rows.collect())
}

/// A table with calicoctl's alignment: three blanks after the widest cell of each column, including
/// the last, and an empty line at the end.
fn columns(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].len());
        cells.max().unwrap_or_default().max(head[column].len())
    };
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().enumerate();
        let text: String = padded
            .map(|(column, cell)| format!("{cell:<width$}   ", width = width(column)))
            .collect();
        text + "\n"
    };
    let mut text = line(head.to_vec());
    for row in rows {
        text += &line(row.iter().take(head.len()).map(String::as_str).collect());
    }
    text + "\n"
}
