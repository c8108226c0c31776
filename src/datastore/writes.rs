//! What a node may write: each value as Calico itself writes it.
//!
//! confd copies keys and values as they are into the configuration of BIRD, and Felix takes settings from etcd,
//! among them the path of a program to run. Both run as root on every node, also on masters. A node that writes
//! what it likes would therefore run programs on all of them.

use std::borrow::Cow;

use axum::http::Method;
use serde_json::Value;
use url::form_urlencoded;

use super::addresses::Pods;

/// The form in which clients of etcd send values.
pub const FORM: &str = "application/x-www-form-urlencoded";
/// The longest value, in bytes. Calico's longest, a block of addresses, has some 10 KiB.
const MAX_VALUE: usize = 32 * 1024;
/// The parameters of etcd's API v2.
const PARAMETERS: [&str; 12] = [
    "dir",
    "noValueOnSuccess",
    "prevExist",
    "prevIndex",
    "prevValue",
    "quorum",
    "recursive",
    "refresh",
    "sorted",
    "stream",
    "ttl",
    "value",
];
/// The settings of Felix that calico/node 2.6 writes, and those that `calicoctl config` sets.
const SETTINGS: [&str; 8] = [
    "CalicoVersion",
    "ClusterGUID",
    "ClusterType",
    "DefaultEndpointToHostAction",
    "InterfacePrefix",
    "IpInIpEnabled",
    "LogSeverityScreen",
    "ReportingIntervalSecs",
];
/// The setting with the address of a node's end of tunnels.
const TUNNEL: &str = "IpInIpTunnelAddr";
/// The directories with the keys of all nodes, policies or addresses.
const OF_ALL: [&str; 27] = [
    "",
    "bgp",
    "bgp/v1",
    "bgp/v1/global",
    "bgp/v1/host",
    "felix",
    "felix/v1",
    "felix/v1/host",
    "ipam",
    "ipam/v2",
    "ipam/v2/assignment",
    "ipam/v2/assignment/ipv4",
    "ipam/v2/assignment/ipv4/block",
    "ipam/v2/handle",
    "ipam/v2/host",
    "v1",
    "v1/config",
    "v1/host",
    "v1/ipam",
    "v1/ipam/v4",
    "v1/ipam/v4/pool",
    "v1/policy",
    "v1/policy/profile",
    "v1/policy/tier",
    "v1/policy/tier/default",
    "v1/policy/tier/default/metadata",
    "v1/policy/tier/default/policy",
];

/// A request that changes keys.
pub struct Write<'a> {
    /// Its method.
    pub method: &'a Method,
    /// The path below Calico's keys, decoded as etcd does it.
    pub path: &'a str,
    /// Its query.
    pub query: &'a str,
    /// The form in which the body claims to be, if it says so.
    pub content_type: Option<&'a [u8]>,
    /// Its body.
    pub body: &'a [u8],
    /// The ranges of pods.
    pub pods: &'a Pods<'a>,
}

impl Write<'_> {
    /// Why it is refused; `None` if a node may send it.
    pub fn refusal(&self) -> Option<&'static str> {
        let segments: Vec<&str> = self
            .path
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        if !segments.iter().all(|segment| is_name(segment)) {
            return Some("a key has other characters than Calico's");
        }
        // etcd reads other forms, too.
        if !self.body.is_empty() && self.content_type != Some(FORM.as_bytes()) {
            return Some("the body is not a form");
        }
        // Go takes `;` for `&`.
        if self.query.contains(';') || self.body.contains(&b';') {
            return Some("the parameters are ambiguous");
        }
        let mut values = Vec::new();
        let mut removes = false;
        for (name, value) in self.parameters() {
            match name.as_ref() {
                name if !PARAMETERS.contains(&name) => return Some("there is no such parameter"),
                "value" => values.push(value),
                "recursive" => removes |= self.method == Method::DELETE && value != "false",
                // A directory that ends takes everything in it with it.
                "ttl" => removes = true,
                _ => {}
            }
        }
        if removes && OF_ALL.contains(&&*segments.join("/")) {
            return Some("the keys of all nodes are not removed at once");
        }
        match values.as_slice() {
            [] => None,
            [value] => refused_value(&segments, value, self.pods),
            _ => Some("there are several values"),
        }
    }

    fn parameters(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        let query = form_urlencoded::parse(self.query.as_bytes());
        query.chain(form_urlencoded::parse(self.body))
    }
}

/// Whether a part of a key has only characters that Calico 2.6 uses. It escapes others with `%`. Parts of dots alone
/// mean other directories.
fn is_name(text: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"._:%-".contains(&byte);
    text.bytes().all(is_known) && !text.bytes().all(|byte| byte == b'.')
}

/// Whether a text means nothing but itself in the configuration of BIRD: an address, a network, a number, a name.
fn is_plain(text: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b".,:/_-".contains(&byte);
    text.bytes().all(is_known)
}

fn refused_value(segments: &[&str], value: &str, pods: &Pods<'_>) -> Option<&'static str> {
    if value.len() > MAX_VALUE {
        return Some("the value is too long");
    }
    let allowed = match segments {
        ["bgp", "v1", "global", "custom_filters", ..] => value.is_empty(),
        ["v1", "ipam", "v4", "pool", ..] => is_plain_object(value) && pods.may_have_pool(value),
        ["bgp", ..] | ["v1", "ipam", ..] => is_plain(value) || is_plain_object(value),
        ["v1", "config", TUNNEL] | ["v1", "host", _, "config", TUNNEL] => {
            pods.may_have_tunnel(value)
        }
        ["v1", "host", _, "workload", ..] => value.is_empty() || pods.may_have_endpoint(value),
        ["v1", "config", name] | ["v1", "host", _, "config", name] => {
            SETTINGS.contains(name) && is_plain(value)
        }
        ["v1", "config", ..] | ["v1", "host", _, "config", ..] => value.is_empty(),
        _ => true,
    };
    (!allowed).then_some("Calico writes no such value there")
}

/// Whether it is a JSON object with plain texts only.
fn is_plain_object(value: &str) -> bool {
    let plain = |text: &String, value: &Value| {
        is_plain(text)
            && match value {
                Value::String(text) => is_plain(text),
                Value::Null | Value::Bool(_) | Value::Number(_) => true,
                Value::Array(_) | Value::Object(_) => false,
            }
    };
    // An escape may stand for any character.
    let parsed = (!value.contains('\\')).then(|| serde_json::from_str(value));
    let Some(Ok(Value::Object(object))) = parsed else {
        return false;
    };
    object.iter().all(|(name, value)| plain(name, value))
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use ipnet::Ipv4Net;

    use super::*;

    const PODS: Pods<'static> = Pods(&[Ipv4Net::new_assert(Ipv4Addr::new(172, 20, 0, 0), 16)]);

    fn put(path: &str, value: &str) -> Option<&'static str> {
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("value", value)
            .finish();
        let write = Write {
            method: &Method::PUT,
            path,
            query: "prevExist=false&dir=false",
            content_type: Some(FORM.as_bytes()),
            body: body.as_bytes(),
            pods: &PODS,
        };
        write.refusal()
    }

    #[test]
    fn calico_writes_what_it_does() {
        for (path, value) in [
            ("/bgp/v1/global/as_num", "64512"),
            ("/bgp/v1/global/node_mesh", r#"{"enabled":true}"#),
            ("/bgp/v1/global/loglevel", "info"),
            ("/bgp/v1/global/custom_filters/v4", ""),
            (
                "/bgp/v1/global/peer_v4/10.0.0.1",
                r#"{"ip":"10.0.0.1","as_num":"64512"}"#,
            ),
            ("/bgp/v1/host/server01/ip_addr_v4", "192.168.1.101"),
            ("/bgp/v1/host/server01/ip_addr_v6", ""),
            ("/bgp/v1/host/server01/network_v4", "192.168.1.0/24"),
            (
                "/v1/ipam/v4/pool/172.20.0.0-16",
                r#"{"cidr":"172.20.0.0/16","ipip":"tunl0","ipip_mode":"always","masquerade":true,"ipam":true,"disabled":false}"#,
            ),
            ("/v1/config/ClusterType", "k8s,bgp"),
            ("/v1/host/server01/config/IpInIpTunnelAddr", "172.20.43.0"),
            ("/v1/Ready", "true"),
            ("/v1/host/server01/bird_ip", "192.168.1.101"),
            (
                "/v1/host/server01/workload/k8s/default.a-b%2fc/endpoint/eth0",
                "{\"state\": \"active\",\n \"name\": \"cali0123456789a\", \"ipv4_nets\": [\"172.20.43.5/32\"]}",
            ),
            (
                "/ipam/v2/assignment/ipv4/block/172.20.43.0-26",
                r#"{"cidr":"172.20.43.0/26"}"#,
            ),
            ("/ipam/v2/host/server01/ipv4/block/172.20.43.0-26", ""),
        ] {
            assert_eq!(put(path, value), None, "{path} {value}");
        }
    }

    #[test]
    fn nothing_reaches_the_configuration_of_bird_or_a_program_of_felix() {
        for (path, value) in [
            (
                "/bgp/v1/global/custom_filters/v4/a",
                "}\nlog \"/a\" all;\nfunction f() {",
            ),
            ("/bgp/v1/global/custom_filters/v4/a", "a"),
            ("/bgp/v1/host/a/ip_addr_v4", "1.2.3.4;\nlog \"/a\" all"),
            ("/bgp/v1/host/a/as_num", "1; }"),
            (
                "/bgp/v1/global/peer_v4/a",
                r#"{"ip":"1.2.3.4","as_num":"1;"}"#,
            ),
            (
                "/bgp/v1/global/peer_v4/a",
                r#"{"ip":"1.2.3.4","as_num":"1\u003b"}"#,
            ),
            (
                "/bgp/v1/global/peer_v4/a",
                r#"{"ip":"1.2.3.4","as_num":{"a;":1}}"#,
            ),
            (
                "/v1/ipam/v4/pool/a",
                r#"{"cidr":"1.2.3.0/24 ) then { } log \"/a\" all;"}"#,
            ),
            ("/v1/ipam/v4/pool/a", r#"{"cidr":"1.2.3.0/24","ipip":"\n"}"#),
            ("/ipam/v2/host/a/ipv4/block/10.1.0.0-26 blackhole;\n}", ""),
            ("/bgp/v1/host/a\nb/ip_addr_v4", "1.2.3.4"),
            ("/v1/config/DataplaneDriver", "/var/log/calico/a"),
            ("/v1/config/UseInternalDataplaneDriver", "false"),
            ("/v1/host/server02/config/LogFilePath", "/etc/cron.d/a"),
            ("/v1/host/server02/config/TyphaAddr", "1.2.3.4:1"),
            ("/v1/config/ClusterType", "a b"),
            ("/v1/config/IpInIpTunnelAddr", "192.168.1.102"),
            ("/v1/host/server02/config/IpInIpTunnelAddr", "192.168.1.102"),
            (
                "/v1/ipam/v4/pool/192.168.1.0-24",
                r#"{"cidr":"192.168.1.0/24"}"#,
            ),
            (
                "/v1/host/server02/workload/k8s/a/endpoint/eth0",
                r#"{"ipv4_nets":["192.168.1.102/32"]}"#,
            ),
        ] {
            assert!(put(path, value).is_some(), "{path} {value}");
        }
        let long = "a".repeat(MAX_VALUE + 1);
        assert!(put("/v1/Ready", &long).is_some());
    }

    #[test]
    fn a_value_is_read_in_one_way_only() {
        let refusal = |method, path, query, content_type: Option<&[u8]>, body: &[u8]| {
            let write = Write {
                method,
                path,
                query,
                content_type,
                body,
                pods: &PODS,
            };
            write.refusal()
        };
        let form = Some(FORM.as_bytes());
        let key = "/bgp/v1/host/a/as_num";
        let put = &Method::PUT;
        assert_eq!(refusal(put, key, "value=1", None, b""), None);
        for (query, content_type, body) in [
            ("value=1%3B", form, &b""[..]),
            ("value=1", form, b"value=2"),
            ("", form, b"value=1&value=2"),
            ("", form, b"a=1;value=%3B"),
            ("a=1;value=2", form, b""),
            ("", None, b"value=1"),
            ("", Some(b"multipart/form-data; boundary=a"), b"value=1"),
            (
                "",
                Some(b"application/x-www-form-urlencoded; a=b"),
                b"value=1",
            ),
            ("method=DELETE", form, b"value=1"),
        ] {
            let said = refusal(put, key, query, content_type, body);
            assert!(said.is_some(), "{query} {body:?}");
        }
        let delete = |path| refusal(&Method::DELETE, path, "recursive=true", None, b"");
        for path in [
            "",
            "/",
            "/v1/host",
            "/v1/host/",
            "//v1//host",
            "/v1/ipam/v4/pool",
        ] {
            assert!(delete(path).is_some(), "{path}");
            for query in ["dir=true&ttl=1&prevExist=true", "ttl=1&prevExist=true"] {
                assert!(refusal(put, path, query, None, b"").is_some(), "{path}");
            }
        }
        for path in [
            "/v1/./config/DataplaneDriver",
            "/v1/../v1/config/DataplaneDriver",
        ] {
            assert!(refusal(put, path, "value=", None, b"").is_some(), "{path}");
        }
        let status = "/felix/v1/host/server01/status";
        assert_eq!(refusal(put, status, "ttl=90", form, b"value=a"), None);
        for path in [
            "/v1/host/server01",
            "/v1/ipam/v4/pool/172.20.0.0-16",
            "/v1/policy/profile/a",
        ] {
            assert_eq!(delete(path), None, "{path}");
        }
    }
}
