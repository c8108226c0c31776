//! The addresses that this node may have: those of the machine, each with what OpenStack says about
//! its interface.

use core::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;

use super::resolver::Resolver;
use super::value::Origin;
use super::{HostInterface, Leads};
use crate::language::tr;
use crate::metadata::model::{Interface, Metadata};

/// The field of the metadata with an interface's static address.
const ADDRESS_FIELD: &str = "network_data.networks.ip_address";

/// A possible address of the node.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) address: Ipv4Addr,
    /// The subnet, if it could be read on the machine.
    pub(super) subnet: Option<Ipv4Net>,
    /// The interface, by its kernel's name or its MAC address.
    pub(super) interface: String,
    /// Its MAC address.
    pub(super) mac: Option<String>,
    /// The UUIDs of its networks.
    pub(super) networks: Vec<String>,
    /// The routes over its interface, without the default route.
    pub(super) routes: Vec<Ipv4Net>,
    /// Whether the machine's default route uses its interface.
    pub(super) has_default_route: bool,
    /// Whether the gateway of that route is in its subnet: then the kernel sends from this address.
    pub(super) has_gateway: bool,
    /// Whether OpenStack's default route uses its interface.
    pub(super) told_default_route: bool,
    /// The place of its interface in OpenStack's list.
    pub(super) place: Option<usize>,
    /// Whether the machine has it.
    pub(super) is_here: bool,
    pub(super) origin: Origin,
}

impl Resolver<'_> {
    /// The machine's interfaces that lead to other machines. A container shows of none where it leads:
    /// then these are all that do not lead to containers of the machine itself.
    pub(super) fn outside(&self) -> Vec<&HostInterface> {
        let present = || self.inputs.host.interfaces.iter().flatten();
        let has_any = present().any(|i| i.leads == Leads::Outside);
        let has_address = present().any(|i| i.leads == Leads::Outside && !i.addresses.is_empty());
        let assigned: Vec<Ipv4Addr> = self
            .describing_metadata()
            .iter()
            .flat_map(|metadata| &metadata.interfaces)
            .flat_map(ipv4)
            .collect();
        let is_outside = |i: &&HostInterface| match i.leads {
            Leads::Outside => true,
            Leads::Inside | Leads::Nowhere => false,
            // OpenStack knows the address, or there is no other way to other machines.
            Leads::Unknown => {
                !has_any
                    || i.addresses.iter().any(|net| assigned.contains(&net.addr()))
                    || (i.has_default_route && !has_address)
            }
        };
        present().filter(is_outside).collect()
    }

    /// All addresses that this node may have, those that OpenStack knows first, in its order.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let metadata = self.describing_metadata();
        if self.inputs.host.interfaces.is_none() {
            return metadata.map_or(vec![], |metadata| of_links(metadata, |_| true));
        }
        let present = self.outside();
        let mut candidates: Vec<Candidate> = present
            .iter()
            .flat_map(|host| of_machine(host, metadata))
            .collect();
        if let Some(metadata) = metadata {
            let is_unset = |place: usize| {
                let addresses: Vec<Ipv4Addr> = ipv4(&metadata.interfaces[place]).collect();
                let is_set = |c: &Candidate| addresses.contains(&c.address);
                !addresses.is_empty() && !candidates.iter().any(is_set)
            };
            let unset: Vec<usize> = (0..metadata.interfaces.len())
                .filter(|place| is_unset(*place))
                .collect();
            // OpenStack's network accepts only packets from the addresses that it knows.
            candidates.retain(|c| c.place.is_none_or(|place| !unset.contains(&place)));
            candidates.extend(of_links(metadata, |place| unset.contains(&place)));
        }
        candidates.sort_by_key(|c| c.place.unwrap_or(usize::MAX));
        candidates
    }

    /// The addresses of all interfaces that an operator may name: also those of which the kernel does
    /// not show where they lead. One on the loopback counts only if it is named itself.
    pub(super) fn nameable(&self) -> Vec<Candidate> {
        if self.inputs.host.interfaces.is_none() {
            return self.candidates();
        }
        let metadata = self.describing_metadata();
        let present = self.inputs.host.interfaces.iter().flatten();
        present
            .filter(|host| !matches!(host.leads, Leads::Inside | Leads::Nowhere))
            .flat_map(|host| of_machine(host, metadata))
            .collect()
    }

    /// The interfaces on which DHCP has not answered yet, as OpenStack says that it will: each with its
    /// place in OpenStack's list and its name.
    pub(super) fn waiting(&self) -> Vec<(usize, &str)> {
        let Some(metadata) = self.describing_metadata() else {
            return Vec::new();
        };
        let present = self.outside();
        let on = |place: usize| {
            let hosts = present.iter();
            hosts.filter(move |host| link_of(metadata, host) == Some(place))
        };
        let links = metadata.interfaces.iter().enumerate();
        links
            .filter(|(_, link)| link.dhcp)
            .filter(|(place, _)| on(*place).all(|host| host.addresses.is_empty()))
            .filter_map(|(place, _)| Some((place, on(place).next()?.name.as_str())))
            .collect()
    }
}

/// The place of the entry in OpenStack's list that describes the interface: the one with its address,
/// else the one with its MAC address. A bond and its members have the same: the one with a network is
/// meant. A VLAN on a port is another network than the port's.
pub(super) fn link_of(metadata: &Metadata, host: &HostInterface) -> Option<usize> {
    let has = |address: Ipv4Addr| host.addresses.iter().any(|net| net.addr() == address);
    let is_same =
        |i: &Interface| host.vlan == i.vlan && Some(i.mac.as_str()) == host.mac.as_deref();
    let has_network = |i: &Interface| i.dhcp || !i.addresses.is_empty() || !i.networks.is_empty();
    let links = &metadata.interfaces;
    let position = |fits: &dyn Fn(&Interface) -> bool| links.iter().position(fits);
    position(&|i| ipv4(i).any(has))
        .or_else(|| position(&|i| is_same(i) && has_network(i)))
        .or_else(|| position(&is_same))
}

/// The static IPv4 addresses that OpenStack gives an interface.
fn ipv4(interface: &Interface) -> impl Iterator<Item = Ipv4Addr> {
    let addresses = interface.addresses.iter();
    addresses.filter_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    })
}

/// The addresses of an interface of this machine. If OpenStack gives it static ones, these count. A
/// /32 address beside others is a virtual IP, which may move to another node.
fn of_machine(host: &HostInterface, metadata: Option<&Metadata>) -> Vec<Candidate> {
    const HOST_PREFIX: u8 = 32;
    let link = metadata.and_then(|metadata| {
        let place = link_of(metadata, host)?;
        Some((metadata, place, &metadata.interfaces[place]))
    });
    let is_assigned = |net: &Ipv4Net| {
        link.is_some_and(|(_, _, link)| ipv4(link).any(|address| address == net.addr()))
    };
    let any_assigned = host.addresses.iter().any(is_assigned);
    let has_subnet = host
        .addresses
        .iter()
        .any(|net| net.prefix_len() < HOST_PREFIX);
    let is_own = |net: &&Ipv4Net| match any_assigned {
        true => is_assigned(net),
        false => net.prefix_len() < HOST_PREFIX || !has_subnet,
    };
    let candidate = |net: &Ipv4Net| Candidate {
        address: net.addr(),
        subnet: Some(net.trunc()),
        interface: host.name.clone(),
        mac: host.mac.clone(),
        networks: link.map_or(vec![], |(_, _, link)| link.networks.clone()),
        routes: host.routes.clone(),
        has_default_route: host.has_default_route,
        has_gateway: host.gateway.is_some_and(|gateway| net.contains(&gateway)),
        told_default_route: link.is_some_and(|(_, _, link)| link.default_route),
        place: link.map(|(_, place, _)| place),
        is_here: true,
        origin: match link.filter(|_| is_assigned(net)) {
            Some((metadata, ..)) => {
                let origin = Origin::Metadata(metadata.source.clone(), ADDRESS_FIELD);
                Origin::Chosen(Box::new(origin), tr!("on {}", host.name))
            }
            None => Origin::Host(tr!("interface {}", host.name)),
        },
    };
    host.addresses
        .iter()
        .filter(is_own)
        .map(candidate)
        .collect()
}

/// The static addresses of the entries in OpenStack's list with these places.
fn of_links(metadata: &Metadata, wanted: impl Fn(usize) -> bool) -> Vec<Candidate> {
    let links = metadata.interfaces.iter().enumerate();
    let candidates = links
        .filter(|(place, _)| wanted(*place))
        .flat_map(|(place, link)| {
            ipv4(link).map(move |address| Candidate {
                address,
                subnet: None,
                interface: link.mac.clone(),
                mac: Some(link.mac.clone()),
                networks: link.networks.clone(),
                routes: Vec::new(),
                has_default_route: false,
                has_gateway: false,
                told_default_route: link.default_route,
                place: Some(place),
                is_here: false,
                origin: Origin::Metadata(metadata.source.clone(), ADDRESS_FIELD),
            })
        });
    candidates.collect()
}
