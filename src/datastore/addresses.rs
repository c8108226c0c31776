//! Which addresses Calico's data may give to pods and tunnels.
//!
//! Felix puts a route to each address of a pod into the kernel of the pod's node, and translates addresses. A node that
//! gives a pod of another one the address of a master would turn that node's way to the master.

use core::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde_json::{Map, Value};

/// The ranges that may have addresses of pods.
pub struct Pods<'a>(pub &'a [Ipv4Net]);

impl Pods<'_> {
    /// Whether a pod's endpoint has addresses of pods only, and none that Felix translates.
    pub fn may_have_endpoint(&self, value: &str) -> bool {
        let Some(endpoint) = object(value) else {
            return false;
        };
        let empty = |name: &str| items(&endpoint, name).is_some_and(<[Value]>::is_empty);
        let nets = items(&endpoint, "ipv4_nets");
        nets.is_some_and(|nets| nets.iter().all(|net| self.has_net(net)))
            && ["ipv6_nets", "ipv4_nat", "ipv6_nat"].into_iter().all(empty)
    }

    /// Whether a pool has addresses of pods only.
    pub fn may_have_pool(&self, value: &str) -> bool {
        object(value).is_some_and(|pool| pool.get("cidr").is_some_and(|cidr| self.has_net(cidr)))
    }

    /// Whether the end of a tunnel has an address of pods, or none.
    pub fn may_have_tunnel(&self, value: &str) -> bool {
        let address = value.parse::<Ipv4Addr>().map(Ipv4Net::from);
        value.is_empty() || address.is_ok_and(|address| self.has(&address))
    }

    fn has_net(&self, net: &Value) -> bool {
        let net = net.as_str().and_then(|net| net.parse::<Ipv4Net>().ok());
        net.is_some_and(|net| self.has(&net))
    }

    fn has(&self, net: &Ipv4Net) -> bool {
        self.0.iter().any(|range| range.contains(net))
    }
}

/// A JSON object with the names that Calico writes. Go also takes names in other cases, or with letters that it folds to
/// these: they are refused.
fn object(value: &str) -> Option<Map<String, Value>> {
    let object: Map<String, Value> = serde_json::from_str(value).ok()?;
    let is_known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let mut names = object.keys();
    names
        .all(|name| name.bytes().all(is_known))
        .then_some(object)
}

/// The list of that name, empty if there is none.
fn items<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a [Value]> {
    match object.get(name) {
        None | Some(Value::Null) => Some(&[]),
        Some(Value::Array(items)) => Some(items),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods() -> [Ipv4Net; 2] {
        [[172, 20, 0, 0], [10, 20, 0, 0]].map(|range| Ipv4Net::new_assert(range.into(), 16))
    }

    #[test]
    fn a_pod_has_addresses_of_pods() {
        let ranges = pods();
        let pods = Pods(&ranges);
        for good in [
            "{}",
            r#"{"state":"active","name":"cali1","mac":"02:00:00:00:00:01","profile_ids":["k8s_ns.default"],
                "ipv4_nets":["172.20.1.2/32"],"ipv6_nets":[],"labels":{"calico/k8s_ns":"default","App":"ü"}}"#,
            r#"{"ipv4_nets":["172.20.1.2/32","10.20.0.1/32"],"ipv6_nets":null,"ipv4_nat":[]}"#,
        ] {
            assert!(pods.may_have_endpoint(good), "{good}");
        }
        for bad in [
            "",
            "[]",
            r#"{"ipv4_nets":["192.168.1.102/32"]}"#,
            r#"{"ipv4_nets":["172.20.1.2/32","192.168.1.102/32"]}"#,
            r#"{"ipv4_nets":["172.20.0.0/15"]}"#,
            r#"{"ipv4_nets":["0.0.0.0/0"]}"#,
            r#"{"ipv4_nets":["172.20.1.2"]}"#,
            r#"{"ipv4_nets":"192.168.1.102/32"}"#,
            r#"{"ipv4_nets":["172.20.1.2/32"],"IPV4_nets":["192.168.1.102/32"]}"#,
            r#"{"ipv4_nets":["172.20.1.2/32"],"ipv4_net\u017f":["192.168.1.102/32"]}"#,
            r#"{"ipv4_nets":["172.20.1.2/32"],"ipv4_nets":["192.168.1.102/32"]}"#,
            r#"{"ipv6_nets":["fd00::1/128"]}"#,
            r#"{"ipv4_nat":[{"int_ip":"172.20.1.2","ext_ip":"192.168.1.102"}]}"#,
        ] {
            assert!(!pods.may_have_endpoint(bad), "{bad}");
        }
    }

    #[test]
    fn pools_and_tunnels_have_addresses_of_pods() {
        let ranges = pods();
        let pods = Pods(&ranges);
        assert!(pods.may_have_pool(r#"{"cidr":"172.20.0.0/16","ipip":""}"#));
        assert!(pods.may_have_pool(r#"{"cidr":"10.20.4.0/24"}"#));
        for bad in [
            "",
            "{}",
            r#"{"cidr":"192.168.1.0/24"}"#,
            r#"{"cidr":"0.0.0.0/0"}"#,
            r#"{"cidr":"172.20.0.0/16","CIDR":"192.168.1.0/24"}"#,
        ] {
            assert!(!pods.may_have_pool(bad), "{bad}");
        }
        for good in ["", "172.20.3.0"] {
            assert!(pods.may_have_tunnel(good), "{good}");
        }
        for bad in ["192.168.1.102", "a", "172.20.3.0/32"] {
            assert!(!pods.may_have_tunnel(bad), "{bad}");
        }
    }
}
