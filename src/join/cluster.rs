//! Finds out whether a node or a master exists and is up.

use core::net::Ipv4Addr;
use std::io;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::StatusCode;
use reqwest::blocking::Response;
use serde::Deserialize;
use time::OffsetDateTime;

use super::nodes::Presence;
use crate::clients::mtls;
use crate::components::ETCD_CERTIFICATE;
use crate::nodespec::ports::ETCD_PEERS;
use crate::sys::http;
use crate::sys::root::Root;

/// How long the API server may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// The API server of this machine, with an address that its certificate contains.
const SERVER: &str = "https://127.0.0.1:6443";

#[derive(Deserialize)]
struct ApiNode {
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    #[serde(with = "time::serde::rfc3339")]
    last_heartbeat_time: OffsetDateTime,
}

/// Whether the cluster has a node of this name, which must be a valid DNS name.
pub fn presence(root: &Root, name: &str) -> Result<Presence> {
    let response = mtls::client(root, "admin", ANSWER)?
        .get(format!("{SERVER}/api/v1/nodes/{name}"))
        .send()
        .map_err(|error| http::root_cause(&error))?;
    match response.status() {
        StatusCode::NOT_FOUND => Ok(Presence::Absent),
        StatusCode::OK => presence_of(&response.bytes()?),
        other => bail!("the API server at {SERVER} answers {other}"),
    }
}

/// Whether the machine at `address` is a master of this cluster. A rebuilt machine without the
/// cluster's certificates cannot serve etcd's port for members: it refuses the connection.
///
/// # Errors
/// If it cannot be found out: nobody answers at the address, or something else than a member does.
pub fn master_presence(root: &Root, address: Ipv4Addr) -> Result<Presence> {
    let answer = mtls::client(root, ETCD_CERTIFICATE, ANSWER)?
        .get(format!("https://{address}:{ETCD_PEERS}/version"))
        .send();
    master_that_answered(answer).with_context(|| {
        format!("cannot tell whether {address} is a master: TCP {ETCD_PEERS} neither answers nor refuses")
    })
}

fn master_that_answered(answer: reqwest::Result<Response>) -> Result<Presence> {
    match answer {
        Ok(_) => Ok(Presence::Ready),
        Err(error) if is_refused(&error) => Ok(Presence::Absent),
        Err(error) => Err(http::root_cause(&error)),
    }
}

/// Whether the other machine refused the connection: it is there, and nothing listens.
fn is_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| {
        let cause = cause.downcast_ref::<io::Error>();
        cause.is_some_and(|cause| cause.kind() == io::ErrorKind::ConnectionRefused)
    })
}

fn presence_of(node: &[u8]) -> Result<Presence> {
    let node: ApiNode =
        serde_json::from_slice(node).context("the API server sent an invalid node object")?;
    let mut conditions = node.status.conditions.into_iter();
    let ready = conditions.find(|condition| condition.kind == "Ready");
    Ok(match ready {
        Some(ready) if ready.status == "True" => Presence::Ready,
        Some(ready) => Presence::Silent(ready.last_heartbeat_time),
        // Someone created the node object, but no kubelet ever reported for it.
        None => Presence::Silent(OffsetDateTime::UNIX_EPOCH),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::TcpListener;

    use super::*;

    fn with_ready(status: &str) -> Presence {
        let node = format!(
            r#"{{"status": {{"conditions": [{{"type": "OutOfDisk", "status": "False",
            "lastHeartbeatTime": "2018-01-01T00:00:00Z"}}, {{"type": "Ready", "status": "{status}",
            "lastHeartbeatTime": "1970-01-01T00:00:00Z"}}]}}}}"#
        );
        presence_of(node.as_bytes()).unwrap()
    }

    #[test]
    fn only_a_machine_that_refuses_the_connection_is_no_master() {
        let client = http::client(b"", None, Duration::from_millis(300)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}/version", listener.local_addr().unwrap());
        // It accepts the connection, and never answers.
        assert!(master_that_answered(client.get(&url).send()).is_err());
        drop(listener);
        let refused = master_that_answered(client.get(&url).send());
        assert_eq!(refused.unwrap(), Presence::Absent);
        // Nobody is there.
        let nowhere = "https://255.255.255.255:2380/version";
        assert!(master_that_answered(client.get(nowhere).send()).is_err());
    }

    #[test]
    fn a_node_is_there_as_long_as_it_is_heard_of() {
        assert_eq!(with_ready("True"), Presence::Ready);
        let epoch = Presence::Silent(OffsetDateTime::UNIX_EPOCH);
        assert_eq!(with_ready("Unknown"), epoch);
        assert_eq!(presence_of(br#"{"status": {}}"#).unwrap(), epoch);
    }
}
