//! Addresses and ports of services: each is assigned once, even with several servers.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::checks;
use crate::etcd::Store;
use crate::flags::{Flags, invalid};
use crate::kinds::Kind;
use crate::server::Response;

use super::answers;

/// A claim without a service may belong to a service that is just being created, for this time.
const MAKING: Duration = Duration::from_secs(60);

const ADDRESSES: &str = "/ranges/serviceips";
const PORTS: &str = "/ranges/servicenodeports";

/// The ranges of services' addresses and ports.
#[derive(Clone)]
pub struct Ranges {
    addresses: Option<IpNet>,
    ports: RangeInclusive<u16>,
}

type Checked = Result<Result<Value, Response>>;

impl Ranges {
    /// From the flags.
    ///
    /// # Errors Invalid networks or ports, or too many of them.
    pub fn read(flags: &Flags) -> Result<Self> {
        let addresses = flags.network("service-cluster-ip-range")?;
        if let Some(range) = &addresses {
            checks::service_range(range)?;
        }
        let stated = flags.text("service-node-port-range");
        let ports = stated.unwrap_or("30000-32767");
        Ok(Self {
            addresses,
            ports: checks::port_range(ports)
                .map_err(|error| invalid("service-node-port-range", ports, &error.to_string()))?,
        })
    }

    /// The address of the API itself: the first of the range.
    pub fn first(&self) -> Option<IpAddr> {
        self.addresses.and_then(|range| range.hosts().next())
    }

    /// Gives a service the values that it lacks, and claims those that it requests. Values of `old`
    /// stay if the new service does not set them.
    ///
    /// # Errors etcd does not answer.
    pub fn complete(&self, store: &Store, old: Option<&Value>, mut service: Value) -> Checked {
        let metadata = &service["metadata"];
        let owner = format!(
            "{}/{}",
            text(&metadata["namespace"]),
            text(&metadata["name"])
        );
        let claims = Claims { store, owner };
        if let Err(problem) = keep(old, &mut service) {
            return Ok(Err(refusal(&service, &problem)));
        }
        let kind = text(&service["spec"]["type"]);
        if kind == "ExternalName" {
            return Ok(Ok(service));
        }
        if let Some(problem) = self.address(&claims, old, &mut service)? {
            return Ok(Err(refusal(&service, &problem)));
        }
        if kind == "NodePort" || kind == "LoadBalancer" {
            if let Some(problem) = self.node_ports(&claims, &mut service)? {
                if old.is_none() {
                    self.release(store, &service)?;
                }
                return Ok(Err(refusal(&service, &problem)));
            }
        } else {
            for port in ports(&mut service) {
                port.as_object_mut().map(|port| port.remove("nodePort"));
            }
        }
        if let Some(old) = old {
            self.release_but(store, old, &service)?;
        }
        Ok(Ok(service))
    }

    fn address(
        &self,
        claims: &Claims<'_>,
        old: Option<&Value>,
        service: &mut Value,
    ) -> Result<Option<String>> {
        let stated = text(&service["spec"]["clusterIP"]);
        let refused = |what: String| {
            Ok(Some(format!(
                "spec.clusterIP: Invalid value: {stated:?}: {what}"
            )))
        };
        if let Some(old) = old.map(|old| text(&old["spec"]["clusterIP"]))
            && !old.is_empty()
            && old != stated
        {
            return refused("field is immutable".to_owned());
        }
        let Some(range) = self.addresses.filter(|_| stated != "None") else {
            return Ok(None);
        };
        if stated.is_empty() {
            let first = self.first();
            let count = range.hosts().count().min(1 << 20);
            for address in range.hosts().cycle().skip(random()? % count).take(count) {
                if Some(address) != first && claims.claim(ADDRESSES, &address.to_string())? {
                    service["spec"]["clusterIP"] = json!(address);
                    return Ok(None);
                }
            }
            return refused("range is full".to_owned());
        }
        let Ok(address) = stated.parse::<IpAddr>() else {
            return refused("must be empty, 'None', or a valid IP address".to_owned());
        };
        if !range.contains(&address) || address == range.network() || address == range.broadcast() {
            return refused(format!(
                "provided IP is not in the valid range. The range of valid IPs is {range}"
            ));
        }
        if !claims.claim(ADDRESSES, &stated)? {
            return refused("provided IP is already allocated".to_owned());
        }
        Ok(None)
    }

    fn node_ports(&self, claims: &Claims<'_>, service: &mut Value) -> Result<Option<String>> {
        let (first, last) = (*self.ports.start(), *self.ports.end());
        for (index, port) in ports(service).iter_mut().enumerate() {
            let Some(stated) = port["nodePort"].as_u64().filter(|&stated| stated != 0) else {
                let count = usize::from(last - first) + 1;
                let all = self
                    .ports
                    .clone()
                    .cycle()
                    .skip(random()? % count)
                    .take(count);
                let mut free = None;
                for candidate in all {
                    if claims.claim(PORTS, &candidate.to_string())? {
                        free = Some(candidate);
                        break;
                    }
                }
                let Some(free) = free else {
                    return Ok(Some(format!("spec.ports[{index}].nodePort: range is full")));
                };
                port["nodePort"] = json!(free);
                continue;
            };
            let refused = |what: String| {
                Ok(Some(format!(
                    "spec.ports[{index}].nodePort: Invalid value: {stated}: {what}"
                )))
            };
            if !u16::try_from(stated).is_ok_and(|port| self.ports.contains(&port)) {
                return refused(format!(
                    "provided port is not in the valid range. The range of valid ports is \
                     {first}-{last}"
                ));
            }
            if !claims.claim(PORTS, &stated.to_string())? {
                return refused("provided port is already allocated".to_owned());
            }
        }
        Ok(None)
    }

    /// Releases everything of a service.
    ///
    /// # Errors etcd does not answer.
    pub fn release(&self, store: &Store, service: &Value) -> Result<()> {
        self.release_but(store, service, &Value::Null)
    }

    /// Releases what `old` had and `new` does not have.
    fn release_but(&self, store: &Store, old: &Value, new: &Value) -> Result<()> {
        let metadata = &old["metadata"];
        let owner = format!(
            "{}/{}",
            text(&metadata["namespace"]),
            text(&metadata["name"])
        );
        let kept: Vec<_> = held(new);
        for key in held(old).into_iter().filter(|key| !kept.contains(key)) {
            let found = store.get(&key)?;
            if found.is_some_and(|entry| Claims::owner_of(&entry.value) == owner) {
                store.delete(&key)?;
            }
        }
        Ok(())
    }
}

/// The keys of a service's claims.
fn held(service: &Value) -> Vec<String> {
    let address = text(&service["spec"]["clusterIP"]);
    let mut keys = Vec::new();
    if !address.is_empty() && address != "None" {
        keys.push(format!("{ADDRESSES}/{address}"));
    }
    let listed = service["spec"]["ports"].as_array().into_iter().flatten();
    keys.extend(
        listed
            .filter_map(|port| port["nodePort"].as_u64())
            .map(|port| format!("{PORTS}/{port}")),
    );
    keys
}

/// The claims of the service `owner`.
struct Claims<'a> {
    store: &'a Store,
    owner: String,
}

impl Claims<'_> {
    /// Claims `what`. Returns whether it belongs to the owner now.
    fn claim(&self, among: &str, what: &str) -> Result<bool> {
        let key = format!("{among}/{what}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let value = format!("{} {now}", self.owner);
        if self.store.create(&key, value.as_bytes())?.is_some() {
            return Ok(true);
        }
        let Some(entry) = self.store.get(&key)? else {
            return Ok(false);
        };
        let other = Self::owner_of(&entry.value);
        if other == self.owner {
            return Ok(true);
        }
        let since: u64 = String::from_utf8_lossy(&entry.value)
            .rsplit(' ')
            .next()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let holder = self.store.get(&format!("/services/specs/{other}"))?;
        let holder: Value = holder
            .and_then(|entry| serde_json::from_slice(&entry.value).ok())
            .unwrap_or_default();
        if held(&holder).contains(&key) || now.saturating_sub(since) < MAKING.as_secs() {
            return Ok(false);
        }
        let taken = self.store.replace(&key, value.as_bytes(), entry.revision)?;
        Ok(taken.is_some())
    }

    fn owner_of(value: &[u8]) -> String {
        let text = String::from_utf8_lossy(value);
        text.split(' ').next().unwrap_or_default().to_owned()
    }
}

fn refusal(service: &Value, problem: &str) -> Response {
    let name = text(&service["metadata"]["name"]);
    match Kind::named("services") {
        Some(kind) => answers::invalid(kind, &name, problem),
        None => answers::bad_request(problem),
    }
}

fn ports(service: &mut Value) -> &mut [Value] {
    service["spec"]
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .map_or(&mut [], Vec::as_mut_slice)
}

/// Checks and completes the ports. Values of `old` stay if `service` does not set them.
fn keep(old: Option<&Value>, service: &mut Value) -> Result<(), String> {
    let spec = &mut service["spec"];
    if spec["type"].is_null() {
        spec["type"] = json!("ClusterIP");
    }
    if spec["sessionAffinity"].is_null() {
        spec["sessionAffinity"] = json!("None");
    }
    let kind = text(&spec["type"]);
    if !["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"].contains(&kind.as_str()) {
        return Err(format!("spec.type: Unsupported value: {kind:?}"));
    }
    if let Some(old) = old
        && spec["clusterIP"].as_str().unwrap_or_default().is_empty()
    {
        spec["clusterIP"] = old["spec"]["clusterIP"].clone();
    }
    let headless = spec["clusterIP"] == "None";
    let several = spec["ports"].as_array().map_or(0, Vec::len) > 1;
    if spec["ports"].as_array().is_none_or(Vec::is_empty) && !headless && kind != "ExternalName" {
        return Err("spec.ports: Required value".to_owned());
    }
    let had = old.and_then(|old| old["spec"]["ports"].as_array());
    for (index, port) in ports(service).iter_mut().enumerate() {
        let number = port["port"].as_u64().unwrap_or(0);
        if !(1..=65535).contains(&number) {
            return Err(format!(
                "spec.ports[{index}].port: Invalid value: {number}: must be between 1 and 65535, \
                 inclusive"
            ));
        }
        if several && text(&port["name"]).is_empty() {
            return Err(format!("spec.ports[{index}].name: Required value"));
        }
        if port["protocol"].is_null() {
            port["protocol"] = json!("TCP");
        }
        if port["targetPort"].is_null() {
            port["targetPort"] = json!(number);
        }
        let same = had
            .into_iter()
            .flatten()
            .find(|had| had["port"] == port["port"] && had["protocol"] == port["protocol"]);
        if let Some(same) = same.filter(|_| port["nodePort"].is_null()) {
            port["nodePort"] = same["nodePort"].clone();
        }
    }
    Ok(())
}

fn random() -> Result<usize> {
    let text =
        std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("a random number")?;
    Ok(usize::from_str_radix(text.get(..8).unwrap_or("0"), 16)?)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
