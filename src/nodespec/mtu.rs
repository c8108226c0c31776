//! The MTU of the node's network, and its subnet.

use core::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;

use super::candidates::link_of;
use super::resolver::Resolver;
use super::value::{Origin, Sourced};
use super::{HostInterface, Leads};
use crate::language::tr;
use crate::metadata::model::{Interface, Metadata};

/// Ethernet's MTU in bytes: the default if OpenStack, the kernel and the operator give none.
const DEFAULT_MTU: u32 = 1500;
/// The smallest MTU for IPv4 and Calico's tunnel, and the largest that Neutron offers (jumbo frames).
const MTU_RANGE: std::ops::RangeInclusive<u32> = 576..=9216;

impl Resolver<'_> {
    /// The configured MTU, else the smaller of OpenStack's and the kernel's value for the interface
    /// with the node's address: larger packets would be lost.
    pub(super) fn mtu(&mut self, address: Option<Ipv4Addr>) -> Option<Sourced<u32>> {
        let mut offered = self.offered_mtus(address);
        offered.retain(|mtu| self.can_be_used(mtu));
        offered.sort_by_key(|mtu| mtu.value);
        if let Some(said) = self.said("mtu", |s| &s.mtu) {
            let mut mtu = self.parsed(said, parse_mtu)?;
            mtu.overrode.extend(offered.iter().map(Sourced::overridden));
            return Some(mtu);
        }
        let Some((least, others)) = offered.split_first() else {
            return Some(Sourced::new(DEFAULT_MTU, Origin::Default));
        };
        let mut least = least.clone();
        least.overrode = others.iter().map(Sourced::overridden).collect();
        if let Some(other) = others.last().filter(|other| other.value != least.value) {
            self.warnings.push(tr!(
                "{} is {}, but {} is {}; the smaller one is used (set another with `mtu`)",
                least.origin,
                least.value,
                other.origin,
                other.value
            ));
        }
        Some(least)
    }

    /// Whether the offered MTU is one; if not, warns. Only an operator's own value is refused.
    fn can_be_used(&mut self, mtu: &Sourced<u32>) -> bool {
        let usable = parse_mtu(&mtu.to_string());
        if let Err(why) = &usable {
            self.warnings.push(tr!(
                "{} is {}: {why}; it is passed over",
                mtu.origin,
                mtu.value,
                why
            ));
        }
        usable.is_ok()
    }

    fn offered_mtus(&self, address: Option<Ipv4Addr>) -> Vec<Sourced<u32>> {
        let host = self.host_interface(address);
        let mut offered = Vec::new();
        if let Some((metadata, mtu)) = self
            .metadata_interface(address)
            .and_then(|(metadata, interface)| Some((metadata, interface.mtu?)))
        {
            let field = "network_data.links.mtu";
            let origin = Origin::Metadata(metadata.source.clone(), field);
            offered.push(Sourced::new(mtu, origin));
        }
        // Packets from an address on the loopback leave through another interface.
        let sends = host.filter(|host| host.leads != Leads::Nowhere);
        let sends = sends.or_else(|| self.outside().into_iter().find(|i| i.has_default_route));
        if let Some((host, mtu)) = sends.and_then(|host| Some((host, host.mtu?))) {
            let origin = Origin::Host(tr!("MTU of interface {}", host.name));
            offered.push(Sourced::new(mtu, origin));
        }
        offered
    }

    /// The subnet of the interface with that address, as the kernel shows it.
    pub(super) fn subnet(&self, address: Option<Ipv4Addr>) -> Option<Ipv4Net> {
        let mut nets = self.host_interface(address)?.addresses.iter();
        nets.find(|net| Some(net.addr()) == address).copied()
    }

    fn host_interface(&self, address: Option<Ipv4Addr>) -> Option<&HostInterface> {
        let mut interfaces = self.inputs.host.interfaces.iter().flatten();
        interfaces.find(|i| i.addresses.iter().any(|net| Some(net.addr()) == address))
    }

    /// OpenStack's entry for the interface with the node's address: the one that describes it, else
    /// the one with the address itself, else the only one. A VLAN on a port is not the port.
    pub(super) fn metadata_interface(
        &self,
        address: Option<Ipv4Addr>,
    ) -> Option<(&Metadata, &Interface)> {
        let metadata = self.describing_metadata()?;
        let host = self.host_interface(address);
        let by_address =
            |i: &&Interface| address.is_some_and(|a| i.addresses.contains(&IpAddr::V4(a)));
        let interfaces = &metadata.interfaces;
        let is_vlan = host.is_some_and(|host| host.vlan.is_some());
        let found = host
            .and_then(|host| link_of(metadata, host))
            .map(|place| &interfaces[place])
            .or_else(|| interfaces.iter().find(by_address))
            .or_else(|| {
                interfaces
                    .first()
                    .filter(|_| interfaces.len() == 1 && !is_vlan)
            })?;
        Some((metadata, found))
    }
}

/// Parses the MTU of a node's network.
pub(super) fn parse_mtu(text: &str) -> Result<u32, String> {
    let (least, most) = (MTU_RANGE.start(), MTU_RANGE.end());
    text.parse()
        .ok()
        .filter(|mtu| MTU_RANGE.contains(mtu))
        .ok_or_else(|| {
            tr!(
                "expected a number of bytes between {least} and {most}",
                least,
                most
            )
        })
}
