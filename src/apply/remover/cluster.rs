//! Tells the cluster that this machine leaves it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::clients::etcd;
use crate::clients::own_node::OwnNode;
use crate::observe::removal::{self, Records, other_masters};
use crate::removal::{Etcd, Membership};
use crate::sys::retry::{Failure, Schedule, permanent, retried, transient};
use crate::sys::root::Root;
use crate::sys::waiting::awaited;

/// How long etcd's other members may take to accept that this one leaves.
const MEMBERS: Duration = Duration::from_secs(60);
/// How long the pods of the node get to end somewhere else. Then they are removed with the node.
const PODS: Duration = Duration::from_secs(180);
/// The longest pause between two looks at them.
const LOOK: Duration = Duration::from_secs(3);

/// Removes this machine's member from etcd's cluster through another member. etcd refuses that for some seconds after
/// another member has started.
///
/// # Errors
/// If the members that stay would have no majority, or if none of them accepts it.
pub fn leave_etcd(root: &Root, member: &Membership) -> Result<()> {
    let node = Records::of(root)?.node;
    let others = other_masters(&node.context("nothing names the node of this machine")?);
    awaited("etcd's other members", MEMBERS, LOOK, || {
        // Members may have failed since the operator was asked.
        let now = removal::etcd(root).map_err(permanent)?;
        if let Etcd::Member(now) = &now
            && let Some(why) = now.why_not()
        {
            return Err(permanent(anyhow!(
                "{why}; repair the other members first: `appliance status` on a master"
            )));
        }
        etcd::remove_member(root, &others, &member.id).map_err(transient)
    })
}

/// Keeps new pods away from the node, and ends its pods, so that they start on other nodes. Pods that do not end in
/// time are no error: they end with the node.
pub fn drain(root: &Root, name: &str) -> Result<()> {
    let Some(node) = OwnNode::of(root, name)? else {
        return Ok(());
    };
    let drained = node.cordon().and_then(|()| evict(&node));
    if let Err(error) = drained {
        log::warn!("not every pod of node {name} has ended: {error:#}; they end with the node");
    }
    Ok(())
}

fn evict(node: &OwnNode) -> Result<()> {
    let schedule = Schedule::until(Instant::now() + PODS, LOOK);
    let round = || {
        let pods = node.pods().map_err(permanent)?;
        let left = node.evict_all(&pods).map_err(permanent)?;
        left.map_or(Ok(()), |why| Err(transient(anyhow!(why))))
    };
    retried("draining", schedule, round).map_err(Failure::into_error)
}

/// Removes the node from the cluster. Its kubelet is stopped, and cannot add it again.
pub fn delete_node(root: &Root, name: &str) -> Result<()> {
    let Some(node) = OwnNode::of(root, name)? else {
        return Ok(());
    };
    if let Err(error) = node.delete() {
        log::warn!(
            "cannot delete node {name}: {error:#}; on a master, run `kubectl delete node {name}`"
        );
    }
    Ok(())
}
