//! Reads the versions of a node and its cluster, for [`crate::preflight::skew`]. What cannot be asked is not known.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::software::installed_manifest;
use crate::bundle::manifest::Manifest;
use crate::clients::own_node::OwnNode;
use crate::clients::{etcd, kubectl};
use crate::nodespec::ports::ETCD_CLIENTS;
use crate::preflight::skew::Versions;
use crate::records::state::State;
use crate::sys::process::Runner;
use crate::sys::root::Root;

/// The name of etcd in a bundle.
const ETCD: &str = "etcd";
/// How long etcd may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// The versions of the node `state`, which is to get the bundle of `other`.
pub fn read(root: &Root, runner: &dyn Runner, state: &State, other: &Manifest) -> Result<Versions> {
    let role = state.shape()?.role;
    let mut versions = Versions {
        kubernetes: state.kubernetes.clone(),
        other_kubernetes: other.bundle.kubernetes.clone(),
        ..Versions::default()
    };
    if role.is_master() {
        versions.other_etcd = etcd_in(other);
    }
    if !root.is_live() {
        return Ok(versions);
    }
    if role.is_master() {
        versions.etcd_cluster = known("etcd", etcd_cluster(root, state));
        versions.kubelets = known("the kubelets", kubelets(runner)).unwrap_or_default();
    } else {
        versions.api_server = known("the API server", api_server(root, state)).flatten();
    }
    Ok(versions)
}

/// The version of etcd in a bundle.
pub fn etcd_in(manifest: &Manifest) -> Option<String> {
    let etcd = manifest.component(ETCD)?;
    Some(etcd.version.clone())
}

/// The version of etcd in the bundle in use; `None` if its manifest cannot be read.
pub fn etcd_installed(root: &Root, state: &State) -> Option<String> {
    etcd_in(&installed_manifest(root, state).ok()?)
}

fn known<T>(whose: &str, asked: Result<T>) -> Option<T> {
    asked
        .map_err(|error| log::debug!("the version of {whose} is not known: {error:#}"))
        .ok()
}

/// The version on which the members of etcd's cluster agree.
fn etcd_cluster(root: &Root, state: &State) -> Result<String> {
    let (scheme, client) = etcd::reach(root, state.shape()?.profile, ANSWER)?;
    let server = format!("{scheme}://{}:{ETCD_CLIENTS}", state.address);
    Ok(etcd::version(&client, &server)?.cluster)
}

fn kubelets(runner: &dyn Runner) -> Result<Vec<(String, String)>> {
    let nodes = kubectl::get(runner, &["nodes"])?;
    let items = nodes["items"].as_array().into_iter().flatten();
    let version = |node: &Value| {
        let name = node["metadata"]["name"].as_str()?.to_owned();
        let version = node["status"]["nodeInfo"]["kubeletVersion"].as_str()?;
        Some((name, version.to_owned()))
    };
    Ok(items.filter_map(version).collect())
}

fn api_server(root: &Root, state: &State) -> Result<Option<String>> {
    OwnNode::of(root, &state.node)?
        .map(|node| node.server_version())
        .transpose()
}
