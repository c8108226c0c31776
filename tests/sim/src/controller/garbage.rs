//! The controllers `podgc` and `garbagecollector`: objects without an owner are removed.

use std::collections::HashSet;

use anyhow::Result;
use serde_json::Value;

use crate::client::Client;

use super::api::{delete, each, list, owner, text};

/// Removes pods of nodes that no longer exist.
///
/// # Errors The first pod that could not be removed; the others still are.
pub fn pods_of_gone_nodes(api: &Client) -> Result<()> {
    let pods = list(api, "pods")?;
    // A pod is bound to a node that existed: a node that is not in the list now was deleted.
    let nodes = list(api, "nodes")?;
    let lost = pods.iter().filter(|pod| {
        let node = &pod["spec"]["nodeName"];
        node.is_string() && !nodes.iter().any(|one| one["metadata"]["name"] == *node)
    });
    each(lost, |pod| delete(api, pod, true))
}

/// Removes pods and replica sets whose owners no longer exist.
///
/// # Errors The first object that could not be removed; the others still are.
pub fn orphans(api: &Client) -> Result<()> {
    let mut dependents = list(api, "pods")?;
    dependents.extend(list(api, "replicasets")?);
    // Owners exist before their objects.
    let mut owners: HashSet<String> = HashSet::new();
    for resource in ["replicasets", "daemonsets", "deployments"] {
        let listed = list(api, resource)?;
        owners.extend(listed.iter().map(|one| text(&one["metadata"]["uid"])));
    }
    let lost = dependents.iter().filter(|one: &&Value| {
        let is_going = !one["metadata"]["deletionTimestamp"].is_null();
        !is_going && owner(one).is_some_and(|uid| !owners.contains(uid))
    });
    each(lost, |one| delete(api, one, false))
}
