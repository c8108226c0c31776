//! `network_data.json`: links, and networks on them. The format is that of Nova's schema
//! (`doc/api_schemas/network_data.json`) and Ironic's (`network-data-schema.json`): a link is an
//! interface, a bond of links, or a VLAN on a link.

use std::net::IpAddr;

use serde_json::Value;

use super::is_empty;
use super::warnings::{Warnings, kind, shorten};
use crate::language::{tr, translated};
use crate::metadata::model::Interface;
use crate::sys::host::ethernet_address;

/// The interfaces with their static addresses, in the order of the links. Links without a hardware
/// address are passed over with a warning, and so is all that is not in the
/// format.
pub(super) fn interfaces(data: &Value, warnings: &mut Warnings) -> Vec<Interface> {
    if !data.is_object() && !is_empty(data) {
        warnings.add(tr!("it is {}; expected an object", translated(kind(data))));
    }
    let links = links(data, warnings);
    let (mut interfaces, mut others): (Vec<(String, Interface)>, Vec<String>) = Default::default();
    for (place, id, link) in &links {
        match interface(link, place, &links, warnings) {
            Some(interface) => interfaces.push((id.clone(), interface)),
            None => others.push(id.clone()),
        }
    }
    for (index, network) in items(data, "networks", "", warnings) {
        let place = format!("networks[{index}]");
        let address = static_address(network, &place, warnings);
        let link = text(network, "link").unwrap_or_default();
        let Some((_, interface)) = interfaces.iter_mut().find(|(id, _)| *id == link) else {
            // Without any link, that was told already, or there is nothing to say.
            if !links.is_empty() && !others.contains(&link) {
                warnings.add(tr!(
                    "`{place}.link` is \"{}\", but no link has this id",
                    shorten(&link),
                    place
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

/// A link, with its place in the file and its id.
type Link<'a> = (String, String, &'a Value);

/// The links that have an id of their own.
fn links<'a>(data: &'a Value, warnings: &mut Warnings) -> Vec<Link<'a>> {
    let mut links: Vec<Link<'_>> = Vec::new();
    for (index, link) in items(data, "links", "", warnings) {
        let place = format!("links[{index}]");
        match text(link, "id") {
            None => warnings.add(tr!("`{place}.id` is missing", place)),
            Some(id) if links.iter().any(|(_, other, _)| *other == id) => warnings.add(tr!(
                "`{place}.id`: another link has the id \"{}\" too",
                shorten(&id),
                place
            )),
            Some(id) => links.push((place, id, link)),
        }
    }
    links
}

/// The links that this one stands on: the one below a VLAN, the members of a bond.
fn below<'a>(link: &Value, links: &[Link<'a>]) -> Vec<&'a Value> {
    let members = link["bond_links"].as_array().into_iter().flatten();
    let members = members.filter_map(|member| Some(member.as_str()?.trim().to_owned()));
    let ids = text(link, "vlan_link").into_iter().chain(members);
    let find = |id: String| links.iter().find(|(_, other, _)| *other == id);
    ids.filter_map(find).map(|(_, _, link)| *link).collect()
}

/// The first value that `read` finds at the link or, as the kernel does it, at one that it stands on.
fn inherited<T>(
    link: &Value,
    links: &[Link<'_>],
    depth: u8,
    read: &impl Fn(&Value) -> Option<T>,
) -> Option<T> {
    read(link).or_else(|| {
        let mut below = below(link, links).into_iter();
        let next = depth.checked_sub(1)?;
        below.find_map(|lower| inherited(lower, links, next, read))
    })
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
        warnings.add(tr!(
            "`{place}{name}` is {}; expected a list",
            translated(kind(list)),
            place,
            name
        ));
    }
    let items = list.as_array().map_or(&[][..], Vec::as_slice);
    for (index, item) in items.iter().enumerate() {
        if !item.is_object() && !is_empty(item) {
            warnings.add(tr!(
                "`{place}{name}[{index}]` is {}; expected an object",
                translated(kind(item)),
                place,
                name,
                index
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

/// How many links stand on each other at most: a VLAN on a VLAN on a bond on a port.
const DEPTH: u8 = 3;

fn interface(
    link: &Value,
    place: &str,
    links: &[Link<'_>],
    warnings: &mut Warnings,
) -> Option<Interface> {
    let keys = ["ethernet_mac_address", "vlan_mac_address"];
    let said = |link: &Value| keys.iter().find_map(|key| Some((*key, text(link, key)?)));
    let Some((key, said)) = inherited(link, links, DEPTH, &said) else {
        warnings.add(tr!("`{place}.ethernet_mac_address` is missing", place));
        return None;
    };
    let Some(mac) = ethernet_address(&said) else {
        warnings.add(tr!(
            "`{place}.{key}` is \"{}\"; expected six pairs of hexadecimal digits, as in \
             fa:16:3e:00:00:01",
            shorten(&said),
            place,
            key
        ));
        return None;
    };
    let own = mtu(&link["mtu"], place, warnings);
    let is_vlan = text(link, "vlan_link").is_some();
    // A VLAN has the MTU of the interface below it, unless it has one of its own.
    let number = |link: &Value| number_of_bytes(&link["mtu"]).ok().flatten();
    let mtu = own.or_else(|| inherited(link, links, DEPTH, &number).filter(|_| is_vlan));
    Some(Interface {
        mac,
        mtu,
        vlan: text(link, "vlan_id").and_then(|number| number.parse().ok()),
        port: text(link, "vif_id").filter(|id| is_uuid(id)),
        ..Interface::default()
    })
}

/// The MTU, if one is said. Whether the number can be used is decided where it is used.
fn mtu(value: &Value, place: &str, warnings: &mut Warnings) -> Option<u32> {
    number_of_bytes(value).unwrap_or_else(|()| {
        warnings.add(tr!("`{place}.mtu` is not a number of bytes", place));
        None
    })
}

/// The number, if one is said: Neutron writes 0 for a network whose MTU it does not know, and Nova null
/// for DHCP.
fn number_of_bytes(value: &Value) -> Result<Option<u32>, ()> {
    let number = match value {
        value if is_empty(value) => return Ok(None),
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
    number
        .map(|number| Some(number).filter(|number| *number != 0))
        .ok_or(())
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
            warnings.add(tr!(
                "`{place}.ip_address` is \"{}\"; expected an {} address",
                shorten(&said),
                if is_version_6 { "IPv6" } else { "IPv4" },
                place
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

#[cfg(test)]
mod tests;
