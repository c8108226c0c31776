//! Makes one checked specification from the settings of all sources.

use core::net::Ipv4Addr;
use std::collections::BTreeMap;

use ipnet::Ipv4Net;
use time::{Date, Duration, Month, OffsetDateTime};

use super::identity::Inventory;
use super::join::own_port;
use super::master::Master;
use super::network::{self, SubjectAltName};
use super::ports;
use super::resolver::{Resolver, named_range};
use super::settings::CaSettings;
use super::value::{Layer, Origin, Sourced};
use super::{ClusterSpec, Inputs, NodeSpec, Profile, Refused};
use crate::language::tr;
use crate::paths;

/// This program was released after this day: a clock that shows an earlier one is wrong.
const RELEASED: Date = match Date::from_calendar_date(2026, Month::January, 1) {
    Ok(date) => date,
    Err(_) => panic!("the first of January exists"),
};
/// How far this machine's clock may differ from the metadata service's without a warning.
const CLOCK_TOLERANCE: Duration = Duration::minutes(5);
/// With a larger difference, certificates would be unusable.
const CLOCK_LIMIT: Duration = Duration::days(1);

/// What is to be said about this machine's clock.
enum Verdict {
    /// Nothing.
    Right,
    /// It is off, and does no harm.
    Near(String),
    /// Certificates that are issued now would be unusable.
    Wrong(String),
}

/// Why this machine's clock is wrong: it shows a day before this program was released, or differs from that of the
/// metadata service by more than a day. `None` if nothing tells that it is wrong.
pub fn wrong_clock(inputs: &Inputs) -> Option<String> {
    match judged(inputs) {
        Verdict::Wrong(why) => Some(why),
        Verdict::Right | Verdict::Near(_) => None,
    }
}

fn judged(inputs: &Inputs) -> Verdict {
    let Some(clock) = inputs.host.clock else {
        return Verdict::Right;
    };
    let remedy =
        &tr!("set it with `timedatectl set-time 'YYYY-MM-DD HH:MM:SS'`, or start chrony or ntpd");
    if clock.date() < RELEASED {
        return Verdict::Wrong(tr!(
            "this machine's clock shows {}, which is before the release of this program, so other machines would not \
             accept its certificates; {remedy}",
            clock.date(),
            remedy
        ));
    }
    let mut told = inputs.metadata.iter();
    let Some((source, date)) = told.find_map(|m| Some((&m.source, m.date?))) else {
        return Verdict::Right;
    };
    let text = tr!(
        "this machine's clock shows {}, but that of {source} shows {}; {remedy}",
        shown(clock),
        shown(date),
        source,
        remedy
    );
    match (clock - date).abs() {
        distance if distance > CLOCK_LIMIT => Verdict::Wrong(text),
        distance if distance > CLOCK_TOLERANCE => Verdict::Near(text),
        _ => Verdict::Right,
    }
}

impl NodeSpec {
    /// Takes each value from the strongest layer that sets it, else from the metadata, else from the
    /// machine, else its default; and checks it. All problems are returned together.
    pub fn resolve(inputs: &Inputs) -> Result<NodeSpec, Refused> {
        let mut layers = inputs.layers.clone();
        Layer::sort(&mut layers);
        let mut resolver = Resolver::new(inputs, &layers);
        let spec = resolver.node();
        match spec {
            Some(spec) if resolver.problems.is_empty() => Ok(NodeSpec {
                warnings: resolver.warnings,
                ..spec
            }),
            _ => Err(Refused {
                problems: resolver.problems,
            }),
        }
    }
}

impl Resolver<'_> {
    fn node(&mut self) -> Option<NodeSpec> {
        let inventory = self.inventory();
        let entry = self.entry(inventory.as_ref());
        let masters = self.masters(inventory.as_ref());
        let master = self.master(inventory.as_ref(), masters.as_ref());
        let role = self.role(entry.role, master.as_ref(), masters.as_ref());
        let profile = self.profile();
        let name = self.name(entry.name);
        let address = self.address(entry.address, master.as_ref());
        let own = address.as_ref().map(|address| address.value);
        let mtu = self.mtu(own);
        let labels = self.labels(role.as_ref().map(|role| role.value));
        let taints = self.taints();
        let ca = self.ca();
        let join = self.join();
        let addons = self.addons();
        let admission = self.admission();
        let log_level = self.log_level();
        let backup = self.backup();
        let cluster = self.cluster(inventory.as_ref(), master, masters);
        self.check_clock();
        let spec = NodeSpec {
            role: role?,
            profile: profile?,
            name: name?,
            address: address?,
            machine: self.inputs.host.uuid.clone(),
            subnet: self.subnet(own),
            mtu: mtu?,
            resolv_conf: self.resolv_conf(),
            floating_ip: self.floating_ip(),
            ca: ca?,
            labels: labels?,
            taints: taints?,
            join: join?,
            addons: addons?,
            admission: admission?,
            log_level: log_level?,
            backup: backup?,
            cluster: cluster?,
            warnings: Vec::new(),
        };
        self.check_ranges(&spec);
        self.check_master(&spec);
        self.check_masters(&spec);
        self.check_ports(&spec);
        self.check_policy(&spec);
        self.check_admission(&spec);
        self.warn_of_address_pairs(&spec.cluster, *spec.address);
        Some(spec)
    }

    pub(super) fn profile(&mut self) -> Option<Sourced<Profile>> {
        self.setting("profile", |s| &s.profile, str::parse)
    }

    /// The master's address: the configured one, else that of the first of several, else that of the
    /// inventory's only master.
    pub(super) fn master(
        &mut self,
        inventory: Option<&Inventory<'_>>,
        masters: Option<&Sourced<Vec<Master>>>,
    ) -> Option<Sourced<Ipv4Addr>> {
        let first = masters.and_then(|masters| {
            let first = masters.first()?;
            Some(Sourced::new(first.address, masters.origin.clone()))
        });
        let Some(said) = self.said("master", |s| &s.master) else {
            return first.or_else(|| inventory.and_then(Inventory::master));
        };
        let said = self.parsed(said, network::node_address)?;
        if let Some(masters) = masters
            && first.is_some()
            && masters.iter().all(|master| master.address != *said)
        {
            let why = tr!(
                "none of the masters has this address ({}); use one of theirs",
                masters.origin
            );
            self.refuse(&said.origin, &said.to_string(), why);
        }
        Some(said)
    }

    /// The operator's own certificate authority. Its paths must be absolute.
    pub(super) fn ca(&mut self) -> Option<Option<Sourced<CaSettings>>> {
        let mut layers = self.layers.iter();
        let said = layers.find_map(|layer| Some((layer, layer.settings.ca.as_ref()?)));
        let Some((layer, ca)) = said else {
            return Some(None);
        };
        let problems = self.problems.len();
        for (field, path) in [("certificate", &ca.certificate), ("key", &ca.key)] {
            if !path.starts_with('/') {
                let origin = layer.origin(&format!("ca.{field}"));
                self.refuse(&origin, path, tr!("expected an absolute path"));
            }
        }
        (self.problems.len() == problems)
            .then(|| Some(Sourced::new(ca.clone(), layer.origin("ca"))))
    }

    /// The floating IP of the first source that knows one.
    fn floating_ip(&self) -> Option<Sourced<Ipv4Addr>> {
        let mut metadata = self.inputs.metadata.iter();
        metadata.find_map(|metadata| {
            let origin = Origin::Metadata(metadata.source.clone(), "public-ipv4");
            Some(Sourced::new(metadata.public_ipv4?, origin))
        })
    }

    /// The machine's own file with name servers, or one without any.
    fn resolv_conf(&self) -> Sourced<String> {
        match &self.inputs.host.resolv_conf {
            Some(path) => Sourced::new(path.clone(), Origin::Host(tr!("name servers"))),
            None => Sourced::new(paths::NO_NAME_SERVERS.to_owned(), Origin::Default),
        }
    }

    #[rustfmt::skip]
    pub(super) fn cluster(
        &mut self,
        inventory: Option<&Inventory<'_>>,
        master: Option<Sourced<Ipv4Addr>>,
        masters: Option<Sourced<Vec<Master>>>,
    ) -> Option<ClusterSpec> {
        let name = self.setting("clusterName", |s| &s.cluster_name, network::dns_name);
        let pod_cidr = self.setting("podCIDR", |s| &s.pod_cidr, network::cidr);
        let service_cidr = self.setting("serviceCIDR", |s| &s.service_cidr, service_range);
        let domain = self.setting("clusterDomain", |s| &s.cluster_domain, network::dns_name);
        let node_ports = self.setting("nodePortRange", |s| &s.node_port_range, ports::node_ports);
        let api_server_sans = self.setting("apiServerSANs", |s| &s.api_server_sans, alt_names);
        let ipip = self.ipip();
        let bgp_routes = self.setting("bgpRoutes", |s| &s.bgp_routes, ranges);
        let balancer_port = self.setting("balancerPort", |s| &s.balancer_port, own_port);
        let hosts = self.hosts(inventory);
        Some(ClusterSpec {
            name: name?,
            pod_cidr: pod_cidr?,
            service_cidr: service_cidr?,
            domain: domain?,
            node_ports: node_ports?,
            api_server_sans: api_server_sans?,
            ipip: ipip?,
            bgp_routes: bgp_routes?,
            balancer_port: balancer_port?,
            master,
            masters: masters?,
            hosts: hosts?,
        })
    }

    /// The configured machines, and the nodes of the inventory.
    fn hosts(
        &mut self,
        inventory: Option<&Inventory<'_>>,
    ) -> Option<Sourced<BTreeMap<String, Ipv4Addr>>> {
        let mut hosts = Sourced::new(BTreeMap::new(), Origin::Default);
        let layers = self.layers;
        let said = layers
            .iter()
            .find_map(|layer| Some((layer, layer.settings.hosts.as_ref()?)));
        if let Some((layer, entries)) = said {
            hosts.origin = layer.origin("hosts");
            for (name, address) in entries {
                let origin = layer.origin(&format!("hosts.{name}"));
                match (network::host_name(name), network::node_address(address)) {
                    (Ok(name), Ok(address)) => drop(hosts.value.insert(name, address)),
                    (Err(why), _) => self.refuse(&layer.origin("hosts"), name, why),
                    (_, Err(why)) => self.refuse(&origin, address, why),
                }
            }
        }
        for (name, address) in inventory.iter().flat_map(|inventory| inventory.hosts()) {
            let other = hosts.value.insert(name.to_owned(), *address);
            if let Some(other) = other.filter(|other| *other != *address) {
                let why = tr!(
                    "`hosts` gives {name} the address {other}; remove one of the two",
                    name,
                    other
                );
                self.refuse(&address.origin, &address.to_string(), why);
            }
            if hosts.origin == Origin::Default {
                hosts.origin = address.origin;
            }
        }
        Some(hosts)
    }

    /// With a clock that is far off, the certificates would not be valid on other machines.
    fn check_clock(&mut self) {
        match judged(self.inputs) {
            Verdict::Right => {}
            Verdict::Near(why) => self.warnings.push(why),
            Verdict::Wrong(why) => self.problems.push(why),
        }
    }

    /// Pods, services and the nodes' own networks must not share an address.
    fn check_ranges(&mut self, spec: &NodeSpec) {
        let cluster = &spec.cluster;
        let own = Ipv4Net::from(*spec.address);
        let interfaces = self.inputs.host.interfaces.iter().flatten();
        let mut subnets = interfaces.flat_map(|i| i.addresses.iter().map(|net| (&i.name, net)));
        let subnet = subnets.find(|(_, net)| net.addr() == *spec.address);
        let own = match subnet {
            Some((name, net)) => {
                let subnet = net.trunc();
                (
                    tr!("this node's subnet {subnet} ({name})", subnet, name),
                    subnet,
                )
            }
            None => (tr!("this node's address {}", *spec.address), own),
        };
        let ranges = [
            named_range("podCIDR", &cluster.pod_cidr),
            named_range("serviceCIDR", &cluster.service_cidr),
            own,
        ];
        self.refuse_overlaps(&ranges);
        self.check_bgp_routes(cluster, &ranges);
    }

    /// Routes from peers must not lead to other pods, services or nodes: whoever announces such a route gets what
    /// is sent there. `taken` are ranges in use, with their names.
    pub(super) fn check_bgp_routes(&mut self, cluster: &ClusterSpec, taken: &[(String, Ipv4Net)]) {
        let masters = cluster.masters.iter().map(|master| {
            let name = tr!("the address of the master {}", master.name);
            (name, Ipv4Net::from(master.address))
        });
        let master = cluster.master.iter().map(|master| {
            let name = tr!("the address of the master ({})", master.origin);
            (name, Ipv4Net::from(master.value))
        });
        let taken: Vec<_> = taken.iter().cloned().chain(masters).chain(master).collect();
        let routes = &cluster.bgp_routes;
        for range in &**routes {
            if let Some((name, _)) = taken.iter().find(|(_, net)| network::overlap(range, net)) {
                let why = tr!(
                    "it overlaps {name}; name ranges outside the cluster only",
                    name
                );
                self.refuse(&routes.origin, &range.to_string(), why);
            }
        }
    }
}

fn shown(time: OffsetDateTime) -> String {
    let utc = time.to_offset(time::UtcOffset::UTC);
    format!("{} {:02}:{:02} UTC", utc.date(), utc.hour(), utc.minute())
}

fn service_range(text: &str) -> Result<Ipv4Net, String> {
    let net = network::cidr(text)?;
    // kube-apiserver v1.9 refuses less than 8 addresses and more than 2^20.
    if (12..=29).contains(&net.prefix_len()) {
        return Ok(net);
    }
    Err(tr!("expected a prefix between /12 and /29"))
}

/// Names and addresses separated by commas.
fn alt_names(text: &str) -> Result<Vec<SubjectAltName>, String> {
    items(text).map(SubjectAltName::parse).collect()
}

/// IPv4 ranges separated by commas.
fn ranges(text: &str) -> Result<Vec<Ipv4Net>, String> {
    items(text).map(network::cidr).collect()
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}
