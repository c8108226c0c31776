//! The clocks of the masters, and the object of the node in the cluster.

use core::net::Ipv4Addr;

use anyhow::{Context, Result};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::{ANSWER, Place, Put, said};
use crate::clients::own_node::OwnNode;
use crate::clients::{mtls, systemd};
use crate::components::CALICO_CERTIFICATE;
use crate::doctor::facts::NodeObject;
use crate::language::tr;
use crate::nodespec::Profile;
use crate::nodespec::ports::{API_SERVER, API_SERVER_SIMPLE};
use crate::sys::process::Runner;
use crate::sys::{http, parallel};

/// How many masters are asked at once.
const AT_ONCE: usize = 8;

/// Whether something keeps the clock right, and the clocks of the masters.
pub fn clocks<R: Runner>(place: &Place<R>) -> Result<Put> {
    let synchronized = systemd::synchronized(&place.runner);
    let masters = place.masters();
    let profile = place.node.as_ref().map(|node| node.shape.profile);
    let offsets = match profile {
        Some(profile) if !masters.is_empty() => offsets(place, profile, &masters),
        _ => Ok(Vec::new()),
    };
    let offsets = offsets.unwrap_or_default();
    Ok(Box::new(move |facts| {
        facts.synchronized = synchronized;
        facts.offsets = offsets;
    }))
}

fn offsets<R>(
    place: &Place<R>,
    profile: Profile,
    masters: &[Ipv4Addr],
) -> Result<Vec<(Ipv4Addr, i64)>> {
    let (scheme, port, client) = match profile {
        Profile::WithCa => (
            "https",
            API_SERVER,
            mtls::client(&place.root, CALICO_CERTIFICATE, ANSWER)?,
        ),
        Profile::Simple => ("http", API_SERVER_SIMPLE, http::client(&[], None, ANSWER)?),
    };
    let ask = |master: &Ipv4Addr| -> Option<(Ipv4Addr, i64)> {
        // Any answer has the time, also one that refuses.
        let answer = client
            .get(format!("{scheme}://{master}:{port}/healthz"))
            .send()
            .ok()?;
        let date = answer.headers().get("date")?.to_str().ok()?;
        let there = OffsetDateTime::parse(date, &Rfc2822).ok()?;
        Some((*master, (there - OffsetDateTime::now_utc()).whole_seconds()))
    };
    Ok(parallel::map(masters, AT_ONCE, ask)
        .into_iter()
        .flatten()
        .collect())
}

/// The object of this node, as its kubelet reaches it.
pub fn object<R: Runner>(place: &Place<R>) -> Result<Put> {
    let runs_pods = place
        .node
        .as_ref()
        .filter(|node| node.shape.role.is_worker());
    let Some(node) = runs_pods else {
        return Ok(Box::new(|_| {}));
    };
    let own =
        OwnNode::of(&place.root, &node.name)?.context(tr!("the kubelet has no kubeconfig yet"))?;
    let object = own.object()?;
    let object = object.map_or(NodeObject::Missing, |object| found(&object));
    Ok(Box::new(|facts| facts.object = Some(object)))
}

/// The conditions that are not as they should be.
fn found(object: &Value) -> NodeObject {
    let conditions = object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten();
    let bad = conditions.filter_map(|one| {
        let (kind, status) = (one["type"].as_str()?, one["status"].as_str()?);
        let is_bad = match kind {
            "Ready" => status != "True",
            // Unknown is told of `Ready`.
            _ => status == "True",
        };
        let message = one["message"].as_str().or(one["reason"].as_str());
        is_bad.then(|| (said(kind), said(message.unwrap_or_default())))
    });
    NodeObject::Found {
        conditions: bad.collect(),
        cordoned: object["spec"]["unschedulable"] == true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_that_are_as_they_should_be_are_not_told() {
        let object = |ready: &str, disk: &str| {
            found(&json!({"spec": {}, "status": {"conditions": [
                {"type": "DiskPressure", "status": disk, "message": "no room"},
                {"type": "Ready", "status": ready, "message": "docker is down"},
            ]}}))
        };
        let with = |conditions: &[(&str, &str)]| NodeObject::Found {
            conditions: conditions
                .iter()
                .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
                .collect(),
            cordoned: false,
        };
        assert_eq!(object("True", "False"), with(&[]));
        assert_eq!(
            object("Unknown", "Unknown"),
            with(&[("Ready", "docker is down")])
        );
        assert_eq!(object("True", "True"), with(&[("DiskPressure", "no room")]));
        let cordoned = found(&json!({"spec": {"unschedulable": true}}));
        assert_eq!(
            cordoned,
            NodeObject::Found {
                conditions: Vec::new(),
                cordoned: true
            }
        );
    }
}
