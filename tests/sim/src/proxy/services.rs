//! The services in the API: their ports, and the endpoints that are ready.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::Value;

/// A port of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// `namespace/service:port`, the name in kube-proxy's rules.
    pub name: String,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// The service's address.
    pub address: Ipv4Addr,
    /// The service's port.
    pub port: u16,
    /// The port of every node, if it has one.
    pub node_port: Option<u16>,
    /// Its endpoints.
    pub endpoints: Vec<(Ipv4Addr, u16)>,
}

/// The ports of all services with an address, from the two lists of the API. Invalid entries are
/// left out, as in kube-proxy.
pub fn ports(services: &[Value], endpoints: &[Value]) -> Vec<Port> {
    let by_name: BTreeMap<String, &Value> = endpoints.iter().map(|e| (name(e), e)).collect();
    let mut ports = Vec::new();
    for service in services {
        let spec = &service["spec"];
        // Headless services and services of type ExternalName have no address.
        let Some(address) = spec["clusterIP"].as_str().and_then(|ip| ip.parse().ok()) else {
            continue;
        };
        let owner = name(service);
        let ready = by_name.get(&owner).copied().unwrap_or(&Value::Null);
        let listed = spec["ports"].as_array().into_iter().flatten();
        ports.extend(listed.filter_map(|port| self::port(&owner, address, port, ready)));
    }
    ports.sort_by(|a, b| a.name.cmp(&b.name));
    ports
}

fn name(object: &Value) -> String {
    let metadata = &object["metadata"];
    let text = |field: &str| metadata[field].as_str().unwrap_or_default();
    format!("{}/{}", text("namespace"), text("name"))
}

fn number(value: &Value) -> Option<u16> {
    value.as_u64()?.try_into().ok().filter(|&port| port > 0)
}

fn port(owner: &str, address: Ipv4Addr, port: &Value, ready: &Value) -> Option<Port> {
    let protocol = match port["protocol"].as_str().unwrap_or("TCP") {
        "TCP" => "tcp",
        "UDP" => "udp",
        _ => return None,
    };
    let own = port["name"].as_str().unwrap_or_default();
    let subsets = ready["subsets"].as_array().into_iter().flatten();
    let mut endpoints: Vec<_> = subsets
        .flat_map(|subset| of_subset(subset, own, protocol))
        .collect();
    endpoints.sort_unstable();
    endpoints.dedup();
    Some(Port {
        name: format!("{owner}:{own}"),
        protocol,
        address,
        port: number(&port["port"])?,
        node_port: number(&port["nodePort"]),
        endpoints,
    })
}

/// The addresses of a subset with the port of this name; those that are not ready are in another
/// list.
fn of_subset(subset: &Value, own: &str, protocol: &str) -> Vec<(Ipv4Addr, u16)> {
    let mut ports = subset["ports"].as_array().into_iter().flatten();
    let target = ports.find(|port| {
        let kind = port["protocol"].as_str().unwrap_or("TCP");
        port["name"].as_str().unwrap_or_default() == own && kind.eq_ignore_ascii_case(protocol)
    });
    let Some(target) = target.and_then(|port| number(&port["port"])) else {
        return Vec::new();
    };
    let addresses = subset["addresses"].as_array().into_iter().flatten();
    addresses
        .filter_map(|address| Some((address["ip"].as_str()?.parse().ok()?, target)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_ready_endpoints_of_the_same_port_count() {
        let services = [
            json!({"metadata": {"namespace": "n", "name": "a"}, "spec": {"clusterIP": "10.68.0.2",
                "ports": [{"name": "dns", "protocol": "UDP", "port": 53},
                    {"name": "web", "port": 80, "nodePort": 20080}]}}),
            json!({"metadata": {"namespace": "n", "name": "headless"}, "spec": {"clusterIP": "None",
                "ports": [{"port": 80}]}}),
        ];
        let endpoints = [
            json!({"metadata": {"namespace": "n", "name": "a"}, "subsets": [{
                "addresses": [{"ip": "172.20.0.2"}, {"ip": "172.20.0.1"}],
                "notReadyAddresses": [{"ip": "172.20.0.3"}],
                "ports": [{"name": "web", "port": 8080}, {"name": "dns", "protocol": "TCP", "port": 53}]}]}),
        ];
        let ports = ports(&services, &endpoints);
        let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
        assert_eq!(names, ["n/a:dns", "n/a:web"]);
        assert_eq!(ports[0].endpoints, []);
        assert_eq!(ports[1].node_port, Some(20080));
        let found: Vec<String> = ports[1]
            .endpoints
            .iter()
            .map(|(ip, port)| format!("{ip}:{port}"))
            .collect();
        assert_eq!(found, ["172.20.0.1:8080", "172.20.0.2:8080"]);
    }
}
