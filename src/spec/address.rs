//! The node's address.

use core::net::{IpAddr, Ipv4Addr};

use super::resolve::Resolver;
use super::settings::Origin;
use super::{HostInterface, Sourced, network};
use crate::metadata::Metadata;

impl Resolver<'_> {
    /// The address other nodes reach this one by: the one that was set, else the only one
    /// OpenStack gave the VM, else the only one the machine has. Never a guess among several.
    pub(super) fn address(&mut self) -> Option<Sourced<Ipv4Addr>> {
        if let Some(said) = self.said("address", |s| &s.address) {
            let address = self.parsed(said, network::node_address)?;
            self.check_address_is_here(&address);
            return Some(address);
        }
        let assigned = self
            .inputs
            .metadata
            .as_ref()
            .map_or(Vec::new(), |(metadata, _)| assigned_addresses(metadata));
        let present = self.inputs.host.interfaces.as_deref();
        match (assigned.as_slice(), present) {
            ([only], _) => {
                self.check_address_is_here(only);
                Some(only.clone())
            }
            ([], Some([only])) => Some(Sourced {
                value: only.address.addr(),
                origin: Origin::Host("only network interface"),
            }),
            ([], interfaces) => {
                self.problems.push(no_single_address(interfaces));
                None
            }
            (several, _) => {
                let list: Vec<String> = several.iter().map(|a| a.to_string()).collect();
                self.problems.push(format!(
                    "{} gives this VM several addresses: {}; choose one with `address`",
                    several[0].origin,
                    list.join(", ")
                ));
                None
            }
        }
    }

    fn check_address_is_here(&mut self, address: &Sourced<Ipv4Addr>) {
        let Some(interfaces) = &self.inputs.host.interfaces else {
            return;
        };
        if interfaces
            .iter()
            .any(|interface| interface.address.addr() == address.value)
        {
            return;
        }
        let why = format!(
            "this machine does not have it; it has {}",
            list_interfaces(interfaces)
        );
        self.refuse(&address.origin, &address.to_string(), why);
    }
}

/// The static IPv4 addresses OpenStack gave the VM.
fn assigned_addresses(metadata: &Metadata) -> Vec<Sourced<Ipv4Addr>> {
    let origin = Origin::Metadata(metadata.source.clone(), "network_data.networks.ip_address");
    let addresses = metadata
        .interfaces
        .iter()
        .flat_map(|interface| &interface.addresses);
    addresses
        .filter_map(|address| match address {
            IpAddr::V4(address) => Some(Sourced {
                value: *address,
                origin: origin.clone(),
            }),
            IpAddr::V6(_) => None,
        })
        .collect()
}

fn list_interfaces(interfaces: &[HostInterface]) -> String {
    let list: Vec<String> = interfaces
        .iter()
        .map(|i| format!("{} on {}", i.address.addr(), i.name))
        .collect();
    if list.is_empty() {
        "no IPv4 address at all".to_owned()
    } else {
        list.join(", ")
    }
}

fn no_single_address(interfaces: Option<&[HostInterface]>) -> String {
    match interfaces {
        None => "no address found: neither `address` nor the metadata gives one".to_owned(),
        Some(interfaces) => format!(
            "cannot tell this node's address: this machine has {}; choose one with `address`",
            list_interfaces(interfaces)
        ),
    }
}
