//! The server's own objects in the cluster: the service `kubernetes`, and as its endpoints the
//! addresses of the servers that are alive.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::etcd::Store;
use crate::flags::Flags;
use crate::kinds::Kind;
use crate::lifecycle;

use super::admission::Rules;
use super::objects;

/// How often a server renews its lease, and how long the lease is valid.
const PERIOD: Duration = Duration::from_secs(5);
const LIFE: Duration = Duration::from_secs(15);

const SERVICE: &str = "/services/specs/default/kubernetes";
const ENDPOINTS: &str = "/services/endpoints/default/kubernetes";
const LEASES: &str = "/masterleases/";

/// The address at which others reach this server.
pub struct Itself {
    address: Option<IpAddr>,
    port: u16,
}

/// The last lease of each server, and when it was seen.
type Seen = HashMap<String, (i64, Instant)>;

impl Itself {
    /// From the flags.
    ///
    /// # Errors An invalid address or port.
    pub fn read(flags: &Flags) -> Result<Self> {
        let none = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let mut address = flags.address("advertise-address", none)?;
        if address.is_unspecified() {
            address = flags.address("bind-address", none)?;
        }
        Ok(Self {
            address: (!address.is_unspecified()).then_some(address),
            port: flags.port("secure-port", 6443)?,
        })
    }

    /// Keeps the service and its endpoints up to date as long as the program runs. If etcd does not
    /// answer, it tries again.
    ///
    /// # Errors None: errors are only logged.
    pub fn keep(&self, store: &Store, rules: &Rules) -> Result<()> {
        let mut seen = Seen::new();
        loop {
            if let Err(error) = self.publish(store, rules, &mut seen) {
                eprintln!("the service kubernetes: {error:#}");
            }
            thread::sleep(PERIOD);
        }
    }

    fn publish(&self, store: &Store, rules: &Rules, seen: &mut Seen) -> Result<()> {
        let Some(own) = self.address else {
            return Ok(());
        };
        store.put(&format!("{LEASES}{own}"), own.to_string().as_bytes())?;
        if store.get(SERVICE)?.is_none()
            && let Some(first) = rules.ranges.first()
        {
            self.make_service(store, rules, first)?;
        }
        let now = Instant::now();
        let mut addresses = Vec::new();
        for entry in store.list(LEASES)? {
            let address = String::from_utf8_lossy(&entry.value).into_owned();
            let known = seen.entry(address.clone()).or_insert((entry.revision, now));
            if known.0 != entry.revision {
                *known = (entry.revision, now);
            }
            if now.duration_since(known.1) < LIFE {
                addresses.push(json!({"ip": address}));
            }
        }
        let subsets = json!([{
            "addresses": addresses,
            "ports": [{"name": "https", "port": self.port, "protocol": "TCP"}],
        }]);
        write_endpoints(store, &subsets)
    }

    fn make_service(&self, store: &Store, rules: &Rules, first: IpAddr) -> Result<()> {
        let kind = Kind::at("", "v1", "services").context("no kind of services")?;
        let service = json!({
            "metadata": {
                "name": "kubernetes", "namespace": "default",
                "labels": {"component": "apiserver", "provider": "kubernetes"},
            },
            "spec": {
                "type": "ClusterIP", "clusterIP": first, "sessionAffinity": "ClientIP",
                "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": self.port}],
            },
            "status": {"loadBalancer": {}},
        });
        if let Ok(service) = rules.admit(store, kind, service)? {
            objects::write_new(store, kind, service)?;
        }
        Ok(())
    }
}

fn write_endpoints(store: &Store, subsets: &Value) -> Result<()> {
    let kind = Kind::at("", "v1", "endpoints").context("no kind of endpoints")?;
    let Some(entry) = store.get(ENDPOINTS)? else {
        let metadata = json!({"name": "kubernetes", "namespace": "default"});
        objects::write_new(
            store,
            kind,
            json!({"metadata": metadata, "subsets": subsets}),
        )?;
        return Ok(());
    };
    let mut object: Value = serde_json::from_slice(&entry.value).context("endpoints in etcd")?;
    if object["subsets"] == *subsets {
        return Ok(());
    }
    eprintln!("the API servers changed at {}: {subsets}", lifecycle::now());
    object["subsets"] = subsets.clone();
    // Another server may have made the same change first.
    store.replace(ENDPOINTS, object.to_string().as_bytes(), entry.revision)?;
    Ok(())
}
