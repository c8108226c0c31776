//! The stand-in for kube-scheduler: while it holds its lease, it binds pods to suitable nodes, the
//! emptiest first.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::client::Client;
use crate::flags::Flags;
use crate::{events, fit, lease, lifecycle};

/// How often to look for pods: the real program watches them.
const LOOK: Duration = Duration::from_secs(3);

/// Runs until it is stopped.
///
/// # Errors Flags or files with which the real program would not run.
pub fn run(flags: &Flags) -> Result<()> {
    flags.check_files(&[])?;
    let api = lease::api_client(flags)?;
    let address = flags.address("address", IpAddr::V4(Ipv4Addr::UNSPECIFIED))?;
    let address = SocketAddr::new(address, flags.port("port", 10251)?);
    lifecycle::run_until_stopped(move || {
        let held = Arc::new(AtomicBool::new(false));
        let (leads, worker) = (held.clone(), api.clone());
        thread::spawn(move || {
            let mut told = HashMap::new();
            loop {
                if leads.load(Ordering::SeqCst)
                    && let Err(error) = schedule(&worker, &mut told)
                {
                    eprintln!("scheduling: {error:#}");
                }
                thread::sleep(LOOK);
            }
        });
        lease::hold("kube-scheduler", &api, address, &held)
    })
}

/// Binds every pod that waits; `told` are the messages about pods without a suitable node.
fn schedule(api: &Client, told: &mut HashMap<String, String>) -> Result<()> {
    let mut pods = api.list("/api/v1/pods")?;
    let waits = |pod: &Value| {
        pod["spec"]["nodeName"].is_null()
            && pod["metadata"]["deletionTimestamp"].is_null()
            && pod["spec"]["schedulerName"]
                .as_str()
                .unwrap_or("default-scheduler")
                == "default-scheduler"
    };
    let waiting: Vec<usize> = (0..pods.len())
        .filter(|&index| waits(&pods[index]))
        .collect();
    if waiting.is_empty() {
        return Ok(());
    }
    let nodes = api.list("/api/v1/nodes")?;
    for index in waiting {
        let pod = pods[index].clone();
        let path = path(&pod);
        match choose(&pod, &nodes, &pods) {
            Ok(node) => {
                bind(api, &path, &pod, &node)?;
                told.remove(&path);
                pods[index]["spec"]["nodeName"] = json!(node);
            }
            Err(message) => {
                if told.get(&path) != Some(&message) {
                    refuse(api, &path, &pod, &message)?;
                    told.insert(path, message);
                }
            }
        }
    }
    Ok(())
}

fn path(pod: &Value) -> String {
    let text = |member: &str| pod["metadata"][member].as_str().unwrap_or_default();
    format!(
        "/api/v1/namespaces/{}/pods/{}",
        text("namespace"),
        text("name")
    )
}

/// The suitable node with the fewest pods.
///
/// # Errors The reason if no node is suitable.
fn choose(pod: &Value, nodes: &[Value], pods: &[Value]) -> Result<String, String> {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    let mut best: Option<(usize, &str)> = None;
    let wanted = fit::host_ports(&pod["spec"]);
    for node in nodes {
        let name = node["metadata"]["name"].as_str().unwrap_or_default();
        let here: Vec<&Value> = pods
            .iter()
            .filter(|other| other["spec"]["nodeName"] == name)
            .collect();
        let is_taken = || {
            let mut ports = here
                .iter()
                .flat_map(|other| fit::host_ports(&other["spec"]));
            ports.any(|port| wanted.contains(&port))
        };
        let reason = if !fit::is_ready(node) {
            Some("NodeNotReady")
        } else if node["spec"]["unschedulable"] == true {
            Some("NodeUnschedulable")
        } else if let Some(reason) = fit::unfit(&pod["spec"], node) {
            Some(reason)
        } else {
            is_taken().then_some("PodFitsHostPorts")
        };
        match reason {
            Some(reason) => *reasons.entry(reason).or_default() += 1,
            None if best.is_none_or(|(count, _)| here.len() < count) => {
                best = Some((here.len(), name));
            }
            None => {}
        }
    }
    if let Some((_, name)) = best {
        return Ok(name.to_owned());
    }
    if nodes.is_empty() {
        return Err("no nodes available to schedule pods".to_owned());
    }
    let counted: Vec<String> = reasons
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    Err(format!(
        "0/{} nodes are available: {}.",
        nodes.len(),
        counted.join(", ")
    ))
}

fn bind(api: &Client, path: &str, pod: &Value, node: &str) -> Result<()> {
    let metadata = &pod["metadata"];
    let binding = json!({
        "kind": "Binding", "apiVersion": "v1",
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
        "target": {"kind": "Node", "apiVersion": "v1", "name": node},
    });
    let reply = api.post(&format!("{path}/binding"), &binding)?;
    // It is bound already, or deleted: the next round shows that.
    if matches!(reply.status, 404 | 409) {
        return Ok(());
    }
    reply.json().context("binding")?;
    let name = metadata["name"].as_str().unwrap_or_default();
    let message = format!("Successfully assigned {name} to {node}");
    events::record(
        api,
        "default-scheduler",
        pod,
        ("Normal", "Scheduled", &message),
    );
    Ok(())
}

fn refuse(api: &Client, path: &str, pod: &Value, message: &str) -> Result<()> {
    let mut pod = pod.clone();
    if let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
    }
    pod["status"]["conditions"] = json!([{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": message, "lastProbeTime": null, "lastTransitionTime": lifecycle::now(),
    }]);
    let reply = api.put(&format!("{path}/status"), &pod)?;
    if reply.status != 404 {
        reply.json().context("a pod's status")?;
    }
    events::record(
        api,
        "default-scheduler",
        &pod,
        ("Warning", "FailedScheduling", message),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn node(name: &str, ready: &str, cordoned: bool) -> Value {
        json!({
            "metadata": {"name": name, "labels": {"n": name}},
            "spec": {"unschedulable": cordoned},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        })
    }

    #[test]
    fn the_emptiest_node_that_fits_is_chosen() {
        let nodes = [
            node("a", "True", false),
            node("b", "True", false),
            node("c", "False", false),
            node("d", "True", true),
        ];
        let pods = [json!({"spec": {"nodeName": "a"}})];
        let choose = |spec: Value| choose(&json!({"spec": spec}), &nodes, &pods);
        assert_eq!(choose(json!({})), Ok("b".to_owned()));
        assert_eq!(
            choose(json!({"nodeSelector": {"n": "a"}})),
            Ok("a".to_owned())
        );
        assert_eq!(
            choose(json!({"nodeSelector": {"n": "x"}})).unwrap_err(),
            "0/4 nodes are available: 2 MatchNodeSelector, 1 NodeNotReady, 1 NodeUnschedulable."
        );
    }

    #[test]
    fn a_port_of_the_host_is_taken_once() {
        let port = json!({"containers": [{"ports": [{"containerPort": 1, "hostPort": 80}]}]});
        let mut taken = port.clone();
        taken["nodeName"] = json!("a");
        let pods = [json!({"spec": taken})];
        let nodes = [node("a", "True", false)];
        let refused = choose(&json!({"spec": port}), &nodes, &pods).unwrap_err();
        assert_eq!(refused, "0/1 nodes are available: 1 PodFitsHostPorts.");
    }
}
