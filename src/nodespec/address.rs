//! The node's address.

use core::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;

use super::resolver::Resolver;
use super::value::{Origin, Overridden, Sourced};
use super::{HostInterface, network};
use crate::metadata::model::{Interface, Metadata};

/// A possible address of the node.
#[derive(Clone, Debug)]
struct Candidate {
    address: Ipv4Addr,
    /// The subnet, if it could be read on the machine.
    subnet: Option<Ipv4Net>,
    /// The interface, by its kernel's name or its MAC address.
    interface: String,
    has_default_route: bool,
    origin: Origin,
}

impl Resolver<'_> {
    /// The address at which other nodes reach this one: the configured one, else the only one, else
    /// the one in the master's subnet, else the one of the default route. Otherwise this is an
    /// error: there is no guess among several.
    pub(super) fn address(
        &mut self,
        entry: Option<Sourced<Ipv4Addr>>,
        master: Option<&Sourced<Ipv4Addr>>,
    ) -> Option<Sourced<Ipv4Addr>> {
        self.compare_sources();
        let explicit = match self.said("address", |s| &s.address) {
            Some(said) => Some(self.parsed(said, network::node_address)?),
            None => entry,
        };
        let mut candidates = self.candidates();
        if let Some(mut address) = explicit {
            self.check_address_is_here(&address);
            let own = address.value;
            address.overrode.extend(others(&candidates, own));
            return Some(address);
        }
        if candidates.is_empty() {
            self.problems.push(self.no_address());
            return None;
        }
        let chosen = match candidates.len() {
            1 => candidates
                .pop()
                .map(|only| Sourced::new(only.address, only.origin)),
            _ => choose(&candidates, master.map(|master| master.value)),
        };
        match &chosen {
            Some(address) => self.check_address_is_here(address),
            None => self.problems.push(ambiguous(&candidates)),
        }
        chosen
    }

    /// Warns if two sources give one interface different addresses.
    fn compare_sources(&mut self) {
        let Some((first, others)) = self.inputs.metadata.split_first() else {
            return;
        };
        for other in others {
            for interface in &first.interfaces {
                let same = other.interfaces.iter().find(|i| i.mac == interface.mac);
                let Some(theirs) = same else { continue };
                let (one, two) = (&interface.addresses, &theirs.addresses);
                if !one.is_empty() && !two.is_empty() && one != two {
                    self.warnings.push(format!(
                        "{} gives interface {} the address {}, but {} gives it {}; the first one \
                         is used (to change the order, list the sources with --metadata-source)",
                        first.source,
                        interface.mac,
                        list(one),
                        other.source,
                        list(two)
                    ));
                }
            }
        }
    }

    /// The first source that lists interfaces.
    pub(super) fn describing_metadata(&self) -> Option<&Metadata> {
        let mut metadata = self.inputs.metadata.iter();
        metadata.find(|metadata| !metadata.interfaces.is_empty())
    }

    fn candidates(&self) -> Vec<Candidate> {
        match (&self.inputs.host.interfaces, self.describing_metadata()) {
            (Some(present), Some(metadata)) => of_both(present, metadata),
            (Some(present), None) => present.iter().flat_map(of_machine).collect(),
            (None, Some(metadata)) => metadata
                .interfaces
                .iter()
                .flat_map(|interface| of_metadata(metadata, interface))
                .collect(),
            (None, None) => Vec::new(),
        }
    }

    fn check_address_is_here(&mut self, address: &Sourced<Ipv4Addr>) {
        let Some(interfaces) = &self.inputs.host.interfaces else {
            return;
        };
        let mut present = interfaces.iter().flat_map(|i| &i.addresses);
        if present.any(|net| net.addr() == address.value) {
            return;
        }
        let why = format!(
            "this machine does not have this address; it has {}",
            list_interfaces(interfaces)
        );
        self.refuse(&address.origin, &address.to_string(), why);
    }

    fn no_address(&self) -> String {
        let Some(interfaces) = &self.inputs.host.interfaces else {
            return "no address found, neither as setting `address` nor in the metadata; add \
                    `--set address=ADDRESS`"
                .to_owned();
        };
        let with_ipv6 = interfaces.iter().filter(|i| i.has_ipv6);
        let names: Vec<&str> = with_ipv6.map(|i| i.name.as_str()).collect();
        if names.is_empty() {
            return "no address found: no network interface of this machine is up and has an IPv4 \
                    address; look at `ip address`"
                .to_owned();
        }
        format!(
            "no IPv4 address found: this machine has only IPv6 addresses, on {}; Kubernetes v1.9 \
             needs IPv4 between its nodes, so give the server a port in an IPv4 subnet",
            names.join(", ")
        )
    }
}

/// The addresses of the interfaces that OpenStack lists: its static ones, else those that the
/// machine got by DHCP. Docker's bridge and tunnels are not among them.
fn of_both(present: &[HostInterface], metadata: &Metadata) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for interface in &metadata.interfaces {
        let is_same = |i: &&HostInterface| i.mac.as_deref() == Some(interface.mac.as_str());
        let here = present.iter().find(is_same).map_or(vec![], of_machine);
        let mut assigned = of_metadata(metadata, interface);
        if assigned.is_empty() {
            candidates.extend(here);
            continue;
        }
        for candidate in &mut assigned {
            if let Some(here) = here.iter().find(|c| c.address == candidate.address) {
                candidate.subnet = here.subnet;
                candidate.interface.clone_from(&here.interface);
                candidate.has_default_route |= here.has_default_route;
            }
        }
        candidates.extend(assigned);
    }
    // If OpenStack lists no interfaces, use those of the machine.
    if candidates.is_empty() {
        candidates.extend(present.iter().flat_map(of_machine));
    }
    candidates
}

fn of_metadata(metadata: &Metadata, interface: &Interface) -> Vec<Candidate> {
    let field = "network_data.networks.ip_address";
    let candidate = |address: &IpAddr| match address {
        IpAddr::V4(address) => Some(Candidate {
            address: *address,
            subnet: None,
            interface: interface.mac.clone(),
            has_default_route: interface.default_route,
            origin: Origin::Metadata(metadata.source.clone(), field),
        }),
        IpAddr::V6(_) => None,
    };
    interface.addresses.iter().filter_map(candidate).collect()
}

/// The addresses of an interface of this machine. A /32 address beside others is a virtual IP, which
/// may move to another node.
fn of_machine(interface: &HostInterface) -> Vec<Candidate> {
    const HOST_PREFIX: u8 = 32;
    let addresses = &interface.addresses;
    let has_subnet = addresses.iter().any(|net| net.prefix_len() < HOST_PREFIX);
    addresses
        .iter()
        .filter(|net| net.prefix_len() < HOST_PREFIX || !has_subnet)
        .map(|net| Candidate {
            address: net.addr(),
            subnet: Some(net.trunc()),
            interface: interface.name.clone(),
            has_default_route: interface.has_default_route,
            origin: Origin::Host(format!("interface {}", interface.name)),
        })
        .collect()
}

/// Which candidates match, and the words for that.
type Rule<'a> = (&'a dyn Fn(&Candidate) -> bool, &'a str);

/// The one of several candidates that is the master's address or in its subnet, else the one of
/// the default route.
fn choose(candidates: &[Candidate], master: Option<Ipv4Addr>) -> Option<Sourced<Ipv4Addr>> {
    let is_master = |c: &Candidate| Some(c.address) == master;
    let sees_master =
        |c: &Candidate| master.is_some_and(|m| c.subnet.is_some_and(|subnet| subnet.contains(&m)));
    let rules: [Rule<'_>; 3] = [
        (&is_master, "which has the master's address"),
        (&sees_master, "whose subnet contains the master"),
        (&|c| c.has_default_route, "which has the default route"),
    ];
    for (fits, why) in rules {
        let mut fitting = candidates.iter().filter(|c| fits(c));
        if let (Some(only), None) = (fitting.next(), fitting.next()) {
            let origin = match &only.origin {
                Origin::Host(interface) => Origin::Host(format!("{interface}, {why}")),
                other => other.clone(),
            };
            let mut chosen = Sourced::new(only.address, origin);
            chosen.overrode = others(candidates, only.address).collect();
            return Some(chosen);
        }
    }
    None
}

/// The candidates that were not chosen.
fn others(candidates: &[Candidate], chosen: Ipv4Addr) -> impl Iterator<Item = Overridden> {
    candidates
        .iter()
        .filter(move |candidate| candidate.address != chosen)
        .map(|candidate| Overridden {
            value: candidate.address.to_string(),
            origin: candidate.origin.clone(),
        })
}

fn ambiguous(candidates: &[Candidate]) -> String {
    let list: Vec<String> = candidates
        .iter()
        .map(|c| format!("{} on {}", c.address, c.interface))
        .collect();
    format!(
        "cannot decide on this node's address: this VM has {}, and not exactly one of them is in \
         the master's subnet or belongs to the default route; choose one with `--set address={}` or \
         `openstack server set --property address={1} SERVER`, or set the master's address with \
         `master`",
        list.join(", "),
        candidates[0].address
    )
}

fn list(addresses: &[IpAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    texts.join(" and ")
}

fn list_interfaces(interfaces: &[HostInterface]) -> String {
    let list: Vec<String> = interfaces
        .iter()
        .flat_map(|i| i.addresses.iter().map(move |net| (i, net)))
        .map(|(i, net)| format!("{} on {}", net.addr(), i.name))
        .collect();
    if list.is_empty() {
        "no IPv4 address at all".to_owned()
    } else {
        list.join(", ")
    }
}
