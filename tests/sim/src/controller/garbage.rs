//! The controllers `podgc` and `garbagecollector`: what belongs to something that is
//! gone goes too.

use std::collections::HashSet;

use anyhow::Result;
use serde_json::Value;

use crate::client::Client;

use super::api::{delete, each, list, owner, text};

/// Removes pods of nodes that are gone.
///
/// # Errors
/// The first pod that could not be removed; the others are.
pub fn pods_of_gone_nodes(api: &Client) -> Result<()> {
    let pods = list(api, "pods")?;
    // A pod is bound to a node that was there: one that is not listed now is gone.
    let nodes = list(api, "nodes")?;
    let lost = pods.iter().filter(|pod| {
        let node = &pod["spec"]["nodeName"];
        node.is_string() && !nodes.iter().any(|one| one["metadata"]["name"] == *node)
    });
    each(lost, |pod| delete(api, pod, true))
}

/// Removes pods and replica sets whose owners are gone.
///
/// # Errors
/// The first object that could not be removed; the others are.
pub fn orphans(api: &Client) -> Result<()> {
    let mut dependents = list(api, "pods")?;
    dependents.extend(list(api, "replicasets")?);
    // Owners are there before what belongs to them.
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
