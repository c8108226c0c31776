//! The controller `endpoint`: the addresses of the pods behind a service.

use std::collections::{BTreeMap, HashSet};

use anyhow::Result;
use serde_json::{Value, json};

use crate::client::Client;

use super::api::{create, each, is_active, is_ready, list, put, text};

/// The known services, by namespace and name.
#[derive(Default)]
pub struct Endpoints {
    seen: HashSet<(String, String)>,
}

impl Endpoints {
    /// Processes every service.
    ///
    /// # Errors The first service that failed; the others are still processed.
    pub fn look(&mut self, api: &Client) -> Result<()> {
        let services = list(api, "services")?;
        let pods = list(api, "pods")?;
        let found = list(api, "endpoints")?;
        let done = each(&services, |service| {
            let metadata = &service["metadata"];
            let selector = service["spec"]["selector"].as_object();
            if selector.is_none_or(serde_json::Map::is_empty) {
                return Ok(());
            }
            let subsets = subsets(service, &pods);
            let place = place(service);
            let Some(old) = found.iter().find(|one| self::place(one) == place) else {
                let made = json!({
                    "kind": "Endpoints", "apiVersion": "v1",
                    "metadata": {
                        "name": metadata["name"], "namespace": metadata["namespace"],
                        "labels": metadata["labels"],
                    },
                    "subsets": subsets,
                });
                return create(api, "endpoints", &made).map(drop);
            };
            if old["subsets"] == subsets && old["metadata"]["labels"] == metadata["labels"] {
                return Ok(());
            }
            let mut changed = old.clone();
            changed["subsets"] = subsets;
            changed["metadata"]["labels"] = metadata["labels"].clone();
            put(api, &changed, "")
        });
        let now: HashSet<_> = services.iter().map(place).collect();
        let gone = self.seen.difference(&now);
        let left = gone.filter_map(|gone| found.iter().find(|one| place(one) == *gone));
        let removed = each(left, |one| super::api::delete(api, one, false));
        self.seen = now;
        done.and(removed)
    }
}

fn place(object: &Value) -> (String, String) {
    let metadata = &object["metadata"];
    (text(&metadata["namespace"]), text(&metadata["name"]))
}

/// The addresses of the pods behind a service, grouped by their ports.
fn subsets(service: &Value, pods: &[Value]) -> Value {
    let mut groups: BTreeMap<String, (Value, Vec<Value>, Vec<Value>)> = BTreeMap::new();
    let unready = service["spec"]["publishNotReadyAddresses"] == true;
    for pod in pods.iter().filter(|pod| is_behind(service, pod)) {
        let ports = ports(service, pod);
        let key = ports.to_string();
        let group = groups
            .entry(key)
            .or_insert_with(|| (ports, Vec::new(), Vec::new()));
        if unready || is_ready(pod) {
            group.1.push(address(service, pod));
        } else {
            group.2.push(address(service, pod));
        }
    }
    let subsets = groups.into_values().map(|(ports, ready, other)| {
        let mut subset = json!({"ports": ports});
        for (member, mut addresses) in [("addresses", ready), ("notReadyAddresses", other)] {
            addresses.sort_by_key(|one| text(&one["ip"]));
            if !addresses.is_empty() {
                subset[member] = json!(addresses);
            }
        }
        subset
    });
    json!(subsets.collect::<Vec<_>>())
}

fn is_behind(service: &Value, pod: &Value) -> bool {
    let labels = &pod["metadata"]["labels"];
    let mut wanted = service["spec"]["selector"]
        .as_object()
        .into_iter()
        .flatten();
    pod["metadata"]["namespace"] == service["metadata"]["namespace"]
        && pod["status"]["podIP"].is_string()
        && is_active(pod)
        && wanted.all(|(name, value)| labels[name] == *value)
}

fn address(service: &Value, pod: &Value) -> Value {
    let metadata = &pod["metadata"];
    let mut address = json!({
        "ip": pod["status"]["podIP"], "nodeName": pod["spec"]["nodeName"],
        "targetRef": {
            "kind": "Pod", "namespace": metadata["namespace"], "name": metadata["name"],
            "uid": metadata["uid"],
        },
    });
    let hostname = &pod["spec"]["hostname"];
    if hostname.is_string() && pod["spec"]["subdomain"] == service["metadata"]["name"] {
        address["hostname"] = hostname.clone();
    }
    address
}

/// The ports of the pod for the ports of the service. A name that no container has is left out.
fn ports(service: &Value, pod: &Value) -> Value {
    let listed = service["spec"]["ports"].as_array().into_iter().flatten();
    let ports = listed.filter_map(|port| {
        let target = &port["targetPort"];
        let number = target.as_u64().or_else(|| {
            let containers = pod["spec"]["containers"].as_array()?.iter();
            let mut all = containers.flat_map(|one| one["ports"].as_array().into_iter().flatten());
            all.find(|one| one["name"] == *target)?["containerPort"].as_u64()
        })?;
        let mut found = json!({"port": number, "protocol": port["protocol"]});
        if port["name"].is_string() {
            found["name"] = port["name"].clone();
        }
        Some(found)
    });
    json!(ports.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, ip: &str, ready: &str) -> Value {
        json!({
            "metadata": {"name": name, "namespace": "n", "labels": {"a": "b"}},
            "spec": {"containers": [{"ports": [{"name": "web", "containerPort": 8080}]}]},
            "status": {
                "phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": ready}],
            },
        })
    }

    #[test]
    fn ready_pods_are_addresses_and_others_are_not() {
        let service = json!({
            "metadata": {"name": "s", "namespace": "n"},
            "spec": {
                "selector": {"a": "b"},
                "ports": [{"port": 80, "protocol": "TCP", "targetPort": "web"}],
            },
        });
        let mut ending = pod("c", "192.0.2.3", "True");
        ending["metadata"]["deletionTimestamp"] = json!("x");
        let mut other = pod("d", "192.0.2.4", "True");
        other["metadata"]["namespace"] = json!("m");
        let pods = [
            pod("a", "192.0.2.2", "True"),
            pod("b", "192.0.2.1", "False"),
            ending,
            other,
        ];
        let found = subsets(&service, &pods);
        assert_eq!(
            found[0]["ports"],
            json!([{"port": 8080, "protocol": "TCP"}])
        );
        assert_eq!(found[0]["addresses"][0]["ip"], "192.0.2.2");
        assert_eq!(found[0]["addresses"][0]["targetRef"]["name"], "a");
        assert_eq!(found[0]["notReadyAddresses"][0]["ip"], "192.0.2.1");
        assert_eq!(found[0]["addresses"].as_array().map(Vec::len), Some(1));
        assert_eq!(subsets(&service, &[]), json!([]));
    }
}
