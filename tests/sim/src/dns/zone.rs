//! The names of a cluster, which kube-dns makes from services and endpoints.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, PTR, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use serde_json::Value;

use crate::names;

/// How long clients cache answers, in seconds, as in the real program.
const TTL: u32 = 30;

/// The records of each name, which is in lower case with a dot at its end.
#[derive(Default)]
pub struct Zone {
    domain: String,
    names: HashMap<String, Vec<RData>>,
}

impl Zone {
    /// The zone `domain`, which ends in a dot, of these services and endpoints.
    pub fn of(domain: &str, services: &[Value], endpoints: &[Value]) -> Self {
        let mut zone = Self {
            domain: domain.to_lowercase(),
            ..Self::default()
        };
        for service in services {
            let (metadata, spec) = (&service["metadata"], &service["spec"]);
            let text = |member: &str| metadata[member].as_str().unwrap_or_default();
            let base = format!("{}.{}.svc.{domain}", text("name"), text("namespace"));
            if let Some(other) = spec["externalName"].as_str() {
                if let Ok(name) = Name::from_ascii(format!("{}.", other.trim_end_matches('.'))) {
                    zone.add(&base, RData::CNAME(CNAME(name)));
                }
                continue;
            }
            match spec["clusterIP"].as_str() {
                Some("None") => {
                    let own = |one: &&Value| {
                        let other = &one["metadata"];
                        other["name"] == metadata["name"]
                            && other["namespace"] == metadata["namespace"]
                    };
                    let subsets = endpoints.iter().find(own).map(|one| &one["subsets"]);
                    zone.headless(&base, subsets.unwrap_or(&Value::Null));
                }
                Some(address) => {
                    let Ok(address) = address.parse::<Ipv4Addr>() else {
                        continue;
                    };
                    zone.add(&base, RData::A(A(address)));
                    zone.back(address, &base);
                    zone.ports(&base, &spec["ports"], &base);
                }
                None => {}
            }
        }
        zone
    }

    /// A service without its own address has the addresses of its pods.
    fn headless(&mut self, base: &str, subsets: &Value) {
        for subset in subsets.as_array().into_iter().flatten() {
            for one in subset["addresses"].as_array().into_iter().flatten() {
                let Some(Ok(address)) = one["ip"].as_str().map(str::parse::<Ipv4Addr>) else {
                    continue;
                };
                let hostname = one["hostname"].as_str().map(str::to_owned);
                let named = hostname.is_some();
                let host = hostname.unwrap_or_else(|| names::hash(&one["ip"]));
                let own = format!("{host}.{base}");
                self.add(base, RData::A(A(address)));
                self.add(&own, RData::A(A(address)));
                if named {
                    self.back(address, &own);
                }
                self.ports(base, &subset["ports"], &own);
            }
        }
    }

    fn ports(&mut self, base: &str, ports: &Value, target: &str) {
        for port in ports.as_array().into_iter().flatten() {
            let number = port["port"]
                .as_u64()
                .and_then(|port| u16::try_from(port).ok());
            let (Some(name), Some(number)) = (port["name"].as_str(), number) else {
                continue;
            };
            let protocol = port["protocol"].as_str().unwrap_or("TCP").to_lowercase();
            if let Ok(target) = Name::from_ascii(target) {
                let data = RData::SRV(SRV::new(10, 100, number, target));
                self.add(&format!("_{name}._{protocol}.{base}"), data);
            }
        }
    }

    fn back(&mut self, address: Ipv4Addr, name: &str) {
        let [a, b, c, d] = address.octets();
        if let Ok(target) = Name::from_ascii(name) {
            self.add(
                &format!("{d}.{c}.{b}.{a}.in-addr.arpa."),
                RData::PTR(PTR(target)),
            );
        }
    }

    fn add(&mut self, name: &str, data: RData) {
        let known = self.names.entry(name.to_lowercase()).or_default();
        if !known.contains(&data) {
            known.push(data);
        }
    }

    /// Whether the cluster's own API has a name.
    pub fn is_complete(&self) -> bool {
        let name = format!("kubernetes.default.svc.{}", self.domain);
        self.names.contains_key(&name)
    }

    /// The answer to a query; `None` if the message is not a query.
    pub fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        let asked = Message::from_vec(question).ok()?;
        if asked.metadata.message_type != MessageType::Query {
            return None;
        }
        let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
        answer.metadata.recursion_desired = asked.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.metadata.authoritative = true;
        let [query] = &asked.queries[..] else {
            answer.metadata.response_code = ResponseCode::FormErr;
            return answer.to_vec().ok();
        };
        answer.add_query(query.clone());
        if asked.metadata.op_code != OpCode::Query {
            answer.metadata.response_code = ResponseCode::NotImp;
            return answer.to_vec().ok();
        }
        let name = query.name().to_ascii().to_lowercase();
        let own = [self.domain.as_str(), "in-addr.arpa.", "ip6.arpa."];
        let is_own = own.iter().any(|zone| is_below(&name, zone));
        match self.found(&name) {
            Some(found) => {
                let wanted = query.query_type();
                let fits = |data: &&RData| {
                    let kind = data.record_type();
                    wanted == RecordType::ANY || kind == wanted || kind == RecordType::CNAME
                };
                answer.add_answers(
                    found
                        .iter()
                        .filter(fits)
                        .map(|data| Record::from_rdata(query.name().clone(), TTL, data.clone())),
                );
            }
            None if is_own => answer.metadata.response_code = ResponseCode::NXDomain,
            None => answer.metadata.response_code = ResponseCode::Refused,
        }
        answer.to_vec().ok()
    }

    fn found(&self, name: &str) -> Option<Vec<RData>> {
        if let Some(found) = self.names.get(name) {
            return Some(found.clone());
        }
        // A pod's name is its address.
        let (pod, rest) = name
            .strip_suffix(&format!(".pod.{}", self.domain))?
            .split_once('.')?;
        let address = pod.replace('-', ".").parse::<IpAddr>().ok()?;
        match address {
            IpAddr::V4(address) if !rest.contains('.') => Some(vec![RData::A(A(address))]),
            _ => None,
        }
    }
}

/// Whether a name is a zone's or below it.
pub fn is_below(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone)
        .is_some_and(|start| start.is_empty() || start.ends_with('.'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use hickory_proto::op::Query;
    use serde_json::json;

    use super::*;

    fn zone() -> Zone {
        let service = |name: &str, spec: Value| json!({"metadata": {"name": name, "namespace": "n"}, "spec": spec});
        let services = [
            service(
                "web",
                json!({
                    "clusterIP": "10.68.0.9",
                    "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
                }),
            ),
            service("less", json!({"clusterIP": "None"})),
            service("far", json!({"externalName": "example.org"})),
        ];
        let endpoints = [json!({
            "metadata": {"name": "less", "namespace": "n"},
            "subsets": [{
                "addresses": [{"ip": "10.1.0.1", "hostname": "a"}, {"ip": "10.1.0.2"}],
                "ports": [{"name": "x", "port": 7, "protocol": "UDP"}],
            }],
        })];
        Zone::of("cluster.local.", &services, &endpoints)
    }

    fn ask(name: &str, kind: RecordType) -> (ResponseCode, Vec<String>) {
        let mut question = Message::query();
        question.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let answer = zone().answer(&question.to_vec().unwrap()).unwrap();
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!(answer.metadata.id, question.metadata.id);
        let mut found: Vec<String> = answer
            .answers
            .iter()
            .map(|record| record.data.to_string())
            .collect();
        found.sort();
        (answer.metadata.response_code, found)
    }

    #[test]
    fn services_have_names_addresses_and_ports() {
        let good = |found: &[&str]| {
            let found = found.iter().map(|&text| text.to_owned()).collect();
            (ResponseCode::NoError, found)
        };
        let base = "n.svc.cluster.local.";
        assert_eq!(
            ask(&format!("WEB.{base}"), RecordType::A),
            good(&["10.68.0.9"])
        );
        assert_eq!(ask(&format!("web.{base}"), RecordType::AAAA), good(&[]));
        assert_eq!(
            ask(&format!("_http._tcp.web.{base}"), RecordType::SRV),
            good(&["10 100 80 web.n.svc.cluster.local."])
        );
        assert_eq!(
            ask("9.0.68.10.in-addr.arpa.", RecordType::PTR),
            good(&["web.n.svc.cluster.local."])
        );
        assert_eq!(
            ask(&format!("less.{base}"), RecordType::A),
            good(&["10.1.0.1", "10.1.0.2"])
        );
        assert_eq!(
            ask(&format!("a.less.{base}"), RecordType::A),
            good(&["10.1.0.1"])
        );
        let (_, ports) = ask(&format!("_x._udp.less.{base}"), RecordType::SRV);
        assert!(
            ports.contains(&"10 100 7 a.less.n.svc.cluster.local.".to_owned()),
            "{ports:?}"
        );
        assert_eq!(
            ask(&format!("far.{base}"), RecordType::A),
            good(&["example.org."])
        );
        assert_eq!(
            ask("10-1-0-3.n.pod.cluster.local.", RecordType::A),
            good(&["10.1.0.3"])
        );
    }

    #[test]
    fn other_names_are_not_there_or_not_its_own() {
        let code = |name: &str| ask(name, RecordType::A).0;
        assert_eq!(code("no.n.svc.cluster.local."), ResponseCode::NXDomain);
        assert_eq!(code("1.2.3.4.in-addr.arpa."), ResponseCode::NXDomain);
        assert_eq!(code("example.org."), ResponseCode::Refused);
        assert!(!zone().is_complete());
        assert!(zone().answer(b"what").is_none());
    }
}
