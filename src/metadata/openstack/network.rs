//! `network_data.json`: links, and networks on them. The format is that of Nova's schema
//! (`doc/api_schemas/network_data.json`) and Ironic's (`network-data-schema.json`): a link is an
//! interface, a bond of links, or a VLAN on a link.

use std::net::IpAddr;

use serde_json::Value;

use super::is_empty;
use super::warnings::{Warnings, kind, shorten};
use crate::metadata::model::Interface;

/// The digits of an Ethernet address.
const MAC_DIGITS: usize = 12;

/// The interfaces with their static addresses, in the order of the links. Links without an Ethernet
/// address, such as InfiniBand, are passed over with a warning, and so is all that is not in the
/// format.
pub(super) fn interfaces(data: &Value, warnings: &mut Warnings) -> Vec<Interface> {
    if !data.is_object() && !is_empty(data) {
        warnings.add(format!("it is {}; expected an object", kind(data)));
    }
    let mut interfaces: Vec<(String, Interface)> = Vec::new();
    let mut others: Vec<String> = Vec::new();
    for (index, link) in items(data, "links", "", warnings) {
        let place = format!("links[{index}]");
        let Some(id) = text(link, "id") else {
            warnings.add(format!("`{place}.id` is missing"));
            continue;
        };
        if interfaces.iter().any(|(other, _)| *other == id) {
            warnings.add(format!(
                "`{place}.id`: another link has the id \"{}\" too",
                shorten(&id)
            ));
            continue;
        }
        let Some(mut interface) = interface(link, &place, warnings) else {
            others.push(id);
            continue;
        };
        // A VLAN has the MTU of the interface below it, unless it has one of its own.
        let below = text(link, "vlan_link");
        let below = below.and_then(|below| interfaces.iter().find(|(id, _)| *id == below));
        let mtu_below = below.and_then(|(_, below)| below.mtu);
        interface.mtu = interface.mtu.or(mtu_below);
        interfaces.push((id, interface));
    }
    for (index, network) in items(data, "networks", "", warnings) {
        let place = format!("networks[{index}]");
        let address = static_address(network, &place, warnings);
        let link = text(network, "link").unwrap_or_default();
        let Some((_, interface)) = interfaces.iter_mut().find(|(id, _)| *id == link) else {
            if !others.contains(&link) {
                warnings.add(format!(
                    "`{place}.link` is \"{}\", but no link has this id",
                    shorten(&link)
                ));
            }
            continue;
        };
        interface.addresses.extend(address);
        interface.dhcp |= network["type"] == "ipv4_dhcp";
        let id = text(network, "network_id").filter(|id| is_uuid(id));
        interface.networks.extend(id);
        interface.default_route |= items(network, "routes", &format!("{place}."), warnings)
            .any(|(_, route)| is_default_route(route));
    }
    interfaces
        .into_iter()
        .map(|(_, interface)| interface)
        .collect()
}

/// The objects in the list `name` of `value`, with their numbers. What is null or empty says nothing.
fn items<'a>(
    value: &'a Value,
    name: &str,
    place: &str,
    warnings: &mut Warnings,
) -> impl Iterator<Item = (usize, &'a Value)> + use<'a> {
    let list = &value[name];
    if !list.is_array() && !is_empty(list) {
        warnings.add(format!(
            "`{place}{name}` is {}; expected a list",
            kind(list)
        ));
    }
    let items = list.as_array().map_or(&[][..], Vec::as_slice);
    for (index, item) in items.iter().enumerate() {
        if !item.is_object() && !is_empty(item) {
            warnings.add(format!(
                "`{place}{name}[{index}]` is {}; expected an object",
                kind(item)
            ));
        }
    }
    items
        .iter()
        .enumerate()
        .filter(|(_, item)| item.is_object())
}

/// Text that is not empty. Some clouds write numbers as identifiers.
fn text(value: &Value, key: &str) -> Option<String> {
    match &value[key] {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn interface(link: &Value, place: &str, warnings: &mut Warnings) -> Option<Interface> {
    let keys = ["ethernet_mac_address", "vlan_mac_address"];
    let said = keys.iter().find_map(|key| Some((key, text(link, key)?)));
    let Some((key, said)) = said else {
        warnings.add(format!("`{place}.ethernet_mac_address` is missing"));
        return None;
    };
    let Some(mac) = ethernet_address(&said) else {
        warnings.add(format!(
            "`{place}.{key}` is \"{}\"; expected six pairs of hexadecimal digits, as in \
             fa:16:3e:00:00:01",
            shorten(&said)
        ));
        return None;
    };
    Some(Interface {
        mac,
        mtu: mtu(&link["mtu"], place, warnings),
        vlan: text(link, "vlan_id").and_then(|number| number.parse().ok()),
        port: text(link, "vif_id").filter(|id| is_uuid(id)),
        ..Interface::default()
    })
}

/// The address in lower case with colons. The schemas also allow capitals and dashes.
fn ethernet_address(text: &str) -> Option<String> {
    let separator = if text.contains('-') { '-' } else { ':' };
    let pairs: Vec<&str> = text.split(separator).collect();
    let is_pair = |pair: &&str| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
    (pairs.len() == MAC_DIGITS / 2 && pairs.iter().all(is_pair))
        .then(|| pairs.join(":").to_ascii_lowercase())
}

/// The MTU, if one is said: Neutron writes 0 for a network whose MTU it does not know, and Nova null
/// for DHCP. Whether the number can be used is decided where it is used.
fn mtu(value: &Value, place: &str, warnings: &mut Warnings) -> Option<u32> {
    let number = match value {
        value if is_empty(value) => return None,
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(number) => number.as_f64().filter(|number| number.fract() == 0.0),
        _ => None,
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked before"
    )]
    let number = number
        .filter(|number| (0.0..=f64::from(u32::MAX)).contains(number))
        .map(|number| number as u32);
    if number.is_none() {
        warnings.add(format!("`{place}.mtu` is not a number of bytes"));
    }
    number.filter(|number| *number != 0)
}

fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

/// The address of a network with a static one. With every other type (`ipv4_dhcp`, `ipv6_slaac` and
/// so on), and without `ip_address`, the machine gets its address from the network.
fn static_address(network: &Value, place: &str, warnings: &mut Warnings) -> Option<IpAddr> {
    let is_version_6 = match text(network, "type").as_deref() {
        // cloud-init knows the second name of each, too.
        Some("ipv4" | "static") => false,
        Some("ipv6" | "static6") => true,
        _ => return None,
    };
    let said = text(network, "ip_address")?;
    // The schema allows a zone and a prefix length after the address.
    let address = said.split(['%', '/']).next().unwrap_or_default().parse();
    match address {
        Ok(address) if IpAddr::is_ipv6(&address) == is_version_6 => Some(address),
        _ => {
            warnings.add(format!(
                "`{place}.ip_address` is \"{}\"; expected an {} address",
                shorten(&said),
                if is_version_6 { "IPv6" } else { "IPv4" }
            ));
            None
        }
    }
}

/// Whether the route leads to every IPv4 address.
fn is_default_route(route: &Value) -> bool {
    let (network, netmask) = (text(route, "network"), text(route, "netmask"));
    match (network.as_deref(), netmask.as_deref()) {
        (Some("0.0.0.0/0"), _) => true,
        (Some("0.0.0.0"), Some(netmask)) => matches!(netmask, "0.0.0.0" | "0"),
        _ => false,
    }
}
