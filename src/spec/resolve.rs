//! From what the sources said to one checked specification.

use core::net::Ipv4Addr;
use std::collections::BTreeMap;
use std::fmt::Display;

use ipnet::Ipv4Net;

use super::network::{self, PortRange, SubjectAltName};
use super::settings::{Origin, Settings, closest};
use super::{ClusterSpec, Inputs, Ipip, NodeSpec, Profile, Refused, Role, Sourced};

/// Ethernet's MTU in bytes, where neither OpenStack nor the operator says another.
const DEFAULT_MTU: u32 = 1500;
/// The least MTU IPv4 and Calico's tunnel can do with, and the most Neutron offers (jumbo frames).
const MTU_RANGE: std::ops::RangeInclusive<u32> = 576..=9216;

impl NodeSpec {
    /// Chooses each value by the order flag, configuration, server property, what
    /// OpenStack says of the VM, what the machine shows, default; and checks it.
    /// All problems are returned together.
    pub fn resolve(inputs: &Inputs) -> Result<NodeSpec, Refused> {
        let mut resolver = Resolver {
            inputs,
            problems: Vec::new(),
        };
        let spec = resolver.node();
        match spec {
            Some(spec) if resolver.problems.is_empty() => Ok(spec),
            _ => Err(Refused {
                problems: resolver.problems,
            }),
        }
    }
}

pub(super) struct Resolver<'a> {
    pub(super) inputs: &'a Inputs,
    pub(super) problems: Vec<String>,
}

/// Picks one setting out of a source's.
type Pick = fn(&Settings) -> &Option<String>;

impl Resolver<'_> {
    fn node(&mut self) -> Option<NodeSpec> {
        let role = self.role();
        let profile = self.profile();
        let name = self.name();
        let address = self.address();
        let mtu = self.mtu();
        let cluster = self.cluster();
        let spec = NodeSpec {
            role: role?,
            profile: profile?,
            name: name?,
            address: address?,
            mtu: mtu?,
            cluster: cluster?,
        };
        self.check_ranges(&spec);
        Some(spec)
    }

    pub(super) fn refuse(&mut self, origin: &Origin, value: &str, why: impl Display) {
        self.problems.push(format!("{origin} is {value:?}: {why}"));
    }

    /// The first source that says the setting `key`, in order.
    pub(super) fn said(&self, key: &'static str, pick: Pick) -> Option<Sourced<String>> {
        let config = self.inputs.config.as_ref().and_then(|(path, settings)| {
            let origin = Origin::Config(path.clone(), key);
            pick(settings)
                .clone()
                .map(|value| Sourced { value, origin })
        });
        config.or_else(|| {
            let (metadata, settings) = self.inputs.metadata.as_ref()?;
            let origin = Origin::Property(metadata.source.clone(), key);
            pick(settings)
                .clone()
                .map(|value| Sourced { value, origin })
        })
    }

    pub(super) fn parsed<T>(
        &mut self,
        said: Sourced<String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Sourced<T>> {
        match parse(&said.value) {
            Ok(value) => Some(Sourced {
                value,
                origin: said.origin,
            }),
            Err(why) => {
                self.refuse(&said.origin, &said.value, why);
                None
            }
        }
    }

    /// The setting `key`, checked by `parse`, or `default`.
    fn setting<T>(
        &mut self,
        key: &'static str,
        pick: Pick,
        default: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Sourced<T>> {
        let default = Sourced {
            value: default.to_owned(),
            origin: Origin::Default,
        };
        let said = self.said(key, pick).unwrap_or(default);
        self.parsed(said, parse)
    }

    fn role(&mut self) -> Option<Sourced<Role>> {
        let flag = self.inputs.role.clone().map(|value| Sourced {
            value,
            origin: Origin::Flag("--role"),
        });
        let Some(said) = flag.or_else(|| self.said("role", |s| &s.role)) else {
            self.problems.push(self.no_role());
            return None;
        };
        let set = match &said.origin {
            Origin::Property(..) => {
                " (set it with `openstack server set --property role=master SERVER`)"
            }
            _ => "",
        };
        let role = self.parsed(said, |text| text.parse::<Role>().map_err(|why| why + set))?;
        if role.value != Role::Master {
            let why = "this version brings up masters only; workers follow in a later one";
            self.refuse(&role.origin, &role.to_string(), why);
        }
        Some(role)
    }

    fn no_role(&self) -> String {
        let mut text = "no role found; looked at flag --role".to_owned();
        match &self.inputs.config {
            Some((path, _)) => text += &format!(", configuration {path}"),
            None => text += ", no configuration file",
        }
        match &self.inputs.metadata {
            Some((metadata, _)) => {
                text += &format!(
                    ", {}: `meta.role` and `meta.appliance.role`",
                    metadata.source
                );
                let alike = metadata
                    .meta
                    .keys()
                    .find(|key| closest(key) == Some("role"));
                if let Some(key) = alike {
                    text += &format!(" (`meta.{key}` is there: is it misspelt?)");
                }
            }
            None => self
                .inputs
                .looked_at
                .iter()
                .for_each(|place| text += &format!(", {place}")),
        }
        text + ". Give --role master, or set it with `openstack server set --property role=master SERVER`"
    }

    fn profile(&mut self) -> Option<Sourced<Profile>> {
        let flag = self.inputs.profile.clone().map(|value| Sourced {
            value,
            origin: Origin::Flag("--profile"),
        });
        let default = Sourced {
            value: Profile::WithCa.to_string(),
            origin: Origin::Default,
        };
        let said = flag
            .or_else(|| self.said("profile", |s| &s.profile))
            .unwrap_or(default);
        self.parsed(said, str::parse)
    }

    /// The node's name: the first label of the host name, since OpenStack's display
    /// name may hold anything and its host name carries the cloud's DHCP domain.
    fn name(&mut self) -> Option<Sourced<String>> {
        let metadata = self.inputs.metadata.as_ref().map(|(metadata, _)| metadata);
        let said = self
            .said("nodeName", |s| &s.node_name)
            .or_else(|| {
                let hostname = &metadata?.hostname;
                let origin = Origin::Metadata(metadata?.source.clone(), "hostname");
                (!hostname.is_empty()).then(|| Sourced {
                    value: first_label(hostname),
                    origin,
                })
            })
            .unwrap_or_else(|| Sourced {
                value: first_label(&self.inputs.host.hostname),
                origin: Origin::Host("host name"),
            });
        let name = self.parsed(said, network::dns_name)?;
        if name.as_str() == "localhost" {
            self.refuse(
                &name.origin,
                "localhost",
                "every machine has that name; give `nodeName` another",
            );
        }
        Some(name)
    }

    fn mtu(&mut self) -> Option<Sourced<u32>> {
        let parse = |text: &str| {
            text.parse()
                .ok()
                .filter(|mtu| MTU_RANGE.contains(mtu))
                .ok_or_else(|| {
                    format!(
                        "expected bytes between {} and {}",
                        MTU_RANGE.start(),
                        MTU_RANGE.end()
                    )
                })
        };
        if let Some(said) = self.said("mtu", |s| &s.mtu) {
            return self.parsed(said, parse);
        }
        let offered = self.inputs.metadata.as_ref().and_then(|(metadata, _)| {
            let mtu = metadata
                .interfaces
                .iter()
                .filter_map(|interface| interface.mtu)
                .min()?;
            let origin = Origin::Metadata(metadata.source.clone(), "network_data.links.mtu");
            Some(Sourced {
                value: mtu.to_string(),
                origin,
            })
        });
        match offered {
            Some(said) => self.parsed(said, parse),
            None => Some(Sourced {
                value: DEFAULT_MTU,
                origin: Origin::Default,
            }),
        }
    }

    fn cluster(&mut self) -> Option<ClusterSpec> {
        let name = self.setting(
            "clusterName",
            |s| &s.cluster_name,
            "kubernetes",
            network::dns_name,
        );
        let pod_cidr = self.setting("podCIDR", |s| &s.pod_cidr, "172.20.0.0/16", network::cidr);
        let service_cidr = self.setting(
            "serviceCIDR",
            |s| &s.service_cidr,
            "10.68.0.0/16",
            service_range,
        );
        let domain = self.setting(
            "clusterDomain",
            |s| &s.cluster_domain,
            "cluster.local",
            network::dns_name,
        );
        let node_ports = self.setting(
            "nodePortRange",
            |s| &s.node_port_range,
            "20000-40000",
            PortRange::parse,
        );
        let api_server_sans = self.setting("apiServerSANs", |s| &s.api_server_sans, "", alt_names);
        let ipip = self.setting(
            "ipip",
            |s| &s.ipip,
            "off",
            |text| match text {
                "off" => Ok(Ipip::Off),
                "always" => Ok(Ipip::Always),
                "cross-subnet" => Ok(Ipip::CrossSubnet),
                _ => Err("expected off, always or cross-subnet".to_owned()),
            },
        );
        let hosts = self.hosts();
        Some(ClusterSpec {
            name: name?,
            pod_cidr: pod_cidr?,
            service_cidr: service_cidr?,
            domain: domain?,
            node_ports: node_ports?,
            api_server_sans: api_server_sans?,
            ipip: ipip?,
            hosts: hosts?,
        })
    }

    fn hosts(&mut self) -> Option<Sourced<BTreeMap<String, Ipv4Addr>>> {
        let said = self
            .inputs
            .config
            .as_ref()
            .and_then(|(path, s)| Some((path, s.hosts.as_ref()?)));
        let Some((path, entries)) = said else {
            return Some(Sourced {
                value: BTreeMap::new(),
                origin: Origin::Default,
            });
        };
        let origin = Origin::Config(path.clone(), "hosts");
        let mut hosts = BTreeMap::new();
        for (name, address) in entries {
            match (network::dns_name(name), network::node_address(address)) {
                (Ok(name), Ok(address)) => drop(hosts.insert(name, address)),
                (Err(why), _) => self.refuse(&origin, name, why),
                (_, Err(why)) => self.refuse(&origin, address, why),
            }
        }
        Some(Sourced {
            value: hosts,
            origin,
        })
    }

    /// Pods, services and the nodes' own networks must not share an address.
    fn check_ranges(&mut self, spec: &NodeSpec) {
        let cluster = &spec.cluster;
        let mut ranges = vec![
            (
                format!(
                    "podCIDR {} ({})",
                    *cluster.pod_cidr, cluster.pod_cidr.origin
                ),
                *cluster.pod_cidr,
            ),
            (
                format!(
                    "serviceCIDR {} ({})",
                    *cluster.service_cidr, cluster.service_cidr.origin
                ),
                *cluster.service_cidr,
            ),
        ];
        let own = Ipv4Net::from(*spec.address);
        ranges.push((format!("this node's address {}", *spec.address), own));
        for interface in self.inputs.host.interfaces.iter().flatten() {
            let subnet = interface.address.trunc();
            if !subnet.contains(&own) {
                continue;
            }
            ranges.pop();
            ranges.push((
                format!("this node's subnet {subnet} ({})", interface.name),
                subnet,
            ));
        }
        for (i, (name, range)) in ranges.iter().enumerate() {
            for (other_name, other) in &ranges[i + 1..] {
                if network::overlap(range, other) {
                    self.problems.push(format!(
                        "{name} overlaps {other_name}; choose another range"
                    ));
                }
            }
        }
    }
}

fn service_range(text: &str) -> Result<Ipv4Net, String> {
    let net = network::cidr(text)?;
    // kube-apiserver v1.9 refuses less than 8 addresses and more than 2^20.
    if (12..=29).contains(&net.prefix_len()) {
        return Ok(net);
    }
    Err("expected a prefix between /12 and /29".to_owned())
}

/// Names and addresses separated by commas.
fn alt_names(text: &str) -> Result<Vec<SubjectAltName>, String> {
    let items = text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty());
    items.map(SubjectAltName::parse).collect()
}

fn first_label(hostname: &str) -> String {
    hostname.split('.').next().unwrap_or_default().to_owned()
}
