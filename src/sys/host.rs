//! Facts about this machine: its name, its interfaces, its user, its disks.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use ipnet::{IpNet, Ipv4Net};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::socket::{LinkAddr, SockaddrStorage};
use nix::sys::statvfs::statvfs;

/// Where the kernel shows its network interfaces.
const CLASS: &str = "/sys/class/net";
/// How many interfaces stand on each other at most: a bridge on a VLAN on a bond on a NIC, and some.
const DEPTH: u8 = 8;

/// A network interface that is up. The loopback is one if it has an address that is not only for this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name in the kernel.
    pub name: String,
    /// Its number in the kernel, which is the zone of its link-local addresses.
    pub index: u32,
    /// Whether it belongs to a device, or stands on an interface that does: a bond on its members, a
    /// bridge on its ports, a VLAN on its parent.
    pub on_device: bool,
    /// The interfaces directly below it: members of a bond, ports of a bridge, the parent of a VLAN.
    pub below: Vec<String>,
    /// Whether it is a member of a bond, or a port of a bridge.
    pub is_member: bool,
    /// Whether it is a bridge of the kernel.
    pub is_bridge: bool,
    /// Whether it is the loopback. Other machines reach its addresses over other interfaces.
    pub is_loopback: bool,
    /// The number of its VLAN, if it is the interface of one.
    pub vlan: Option<u16>,
    /// Its MAC address, in lower case; a tunnel has none.
    pub mac: Option<String>,
    /// Its MTU, in bytes.
    pub mtu: Option<u32>,
    /// Its addresses, each with the subnet it is in.
    pub addresses: Vec<IpNet>,
    /// Whether the best IPv4 default route uses it.
    pub has_default_route: bool,
    /// The gateway of that route, if it names one.
    pub gateway: Option<Ipv4Addr>,
    /// The other IPv4 destinations to which the kernel's main table has a route over it.
    pub routes: Vec<Ipv4Net>,
}

/// An Ethernet address in lower case with colons.
///
/// `text` may have capitals, and dashes or no separators, or be written as switches do (`fa16.3e00.0001`). Of
/// InfiniBand's 20 bytes, six make the address that Neutron knows (`get_ib_interface_hwaddr` in
/// `cloudinit/net/__init__.py`).
pub fn ethernet_address(text: &str) -> Option<String> {
    /// The digits of InfiniBand's address that are Ethernet's.
    const OF_INFINIBAND: [Range<usize>; 2] = [24..30, 34..40];
    let parts: Vec<&str> = text.split([':', '-', '.']).collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let are_pairs = lengths.iter().all(|length| *length == 2);
    let digits = parts.concat().to_ascii_lowercase();
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let digits = match digits.len() {
        12 if are_pairs || lengths == [4; 3] || lengths == [12] => digits,
        40 if are_pairs => OF_INFINIBAND.map(|range| &digits[range]).concat(),
        _ => return None,
    };
    let pairs = digits.as_bytes().chunks(2);
    let pairs = pairs.map(|pair| str::from_utf8(pair).unwrap_or_default());
    Some(pairs.collect::<Vec<_>>().join(":"))
}

/// The UUID in the firmware, in lower case; `None` if there is none that tells this machine from others.
/// Only root can read it. Nova gives its instances their own UUID there.
pub fn product_uuid() -> Option<String> {
    let text = fs::read_to_string("/sys/class/dmi/id/product_uuid").ok()?;
    let uuid = text.trim().to_lowercase();
    // Some firmware shows one value on every machine: all digits alike.
    let mut digits = uuid.bytes().filter(|byte| *byte != b'-');
    let first = digits.next()?;
    (digits.any(|digit| digit != first)).then_some(uuid)
}

/// The IPv4 addresses of this machine, without those that are only for itself.
pub fn addresses() -> Result<Vec<Ipv4Addr>> {
    let networks = interfaces()?.into_iter().flat_map(|one| one.addresses);
    let addresses = networks.filter_map(|network| match network {
        IpNet::V4(network) => Some(network.addr()),
        IpNet::V6(_) => None,
    });
    Ok(addresses.collect())
}

/// The interfaces that are up, in the kernel's order, without addresses that are only for this machine.
pub fn interfaces() -> Result<Vec<Interface>> {
    let mut found: Vec<Interface> = Vec::new();
    let routes = routes()?;
    let default = default_route(&routes);
    let vlans = vlans();
    for entry in getifaddrs().context("cannot list the network interfaces")? {
        if !entry.flags.contains(InterfaceFlags::IFF_UP) {
            continue;
        }
        let position = found.iter().position(|i| i.name == entry.interface_name);
        let position = position.unwrap_or_else(|| {
            found.push(Interface {
                vlan: vlans.get(&entry.interface_name).copied(),
                is_loopback: entry.flags.contains(InterfaceFlags::IFF_LOOPBACK),
                ..interface(&entry.interface_name, &routes, default)
            });
            found.len() - 1
        });
        let interface = &mut found[position];
        let Some(address) = entry.address else {
            continue;
        };
        let mac = address.as_link_addr().and_then(LinkAddr::addr);
        // Of a longer address, this is only the beginning.
        if let (Some(mac), None) = (mac, &interface.mac) {
            let pairs = mac.map(|byte| format!("{byte:02x}"));
            interface.mac = (mac != [0; 6]).then(|| pairs.join(":"));
        }
        let network = network(&address, entry.netmask.as_ref());
        let is_shared = |network: &IpNet| !network.addr().is_loopback();
        interface.addresses.extend(network.filter(is_shared));
    }
    found.retain(|interface| !interface.is_loopback || !interface.addresses.is_empty());
    Ok(found)
}

/// The facts about the interface, without its addresses.
fn interface(name: &str, routes: &[Route], default: Option<&Route>) -> Interface {
    let class = Path::new(CLASS);
    let dir = class.join(name);
    let own = routes.iter().filter(|route| route.interface == name);
    Interface {
        name: name.to_owned(),
        index: if_nametoindex(name).unwrap_or_default(),
        on_device: is_on_device(class, name, DEPTH),
        below: below(class, name),
        is_member: dir.join("master").exists(),
        is_bridge: dir.join("bridge").exists(),
        mac: infiniband(&dir),
        mtu: fs::read_to_string(dir.join("mtu"))
            .ok()
            .and_then(|text| text.trim().parse().ok()),
        has_default_route: default.is_some_and(|route| route.interface == name),
        gateway: default
            .filter(|route| route.interface == name)
            .and_then(|route| route.gateway),
        routes: own
            .map(|route| route.to)
            .filter(|to| to.prefix_len() > 0)
            .collect(),
        ..Interface::default()
    }
}

/// The Ethernet address in that of an InfiniBand interface, which the kernel shows in this directory.
fn infiniband(dir: &Path) -> Option<String> {
    let text = fs::read_to_string(dir.join("address")).ok()?;
    let is_longer = text.trim().len() > "00:00:00:00:00:00".len();
    ethernet_address(text.trim()).filter(|_| is_longer)
}

/// The names of the interfaces directly below this one: the kernel links to each as `lower_NAME`.
fn below(class: &Path, name: &str) -> Vec<String> {
    let entries = fs::read_dir(class.join(name)).into_iter().flatten();
    let mut below: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|link| Some(link.strip_prefix("lower_")?.to_owned()))
        .collect();
    below.sort();
    below
}

/// Whether the interface, or one below it, belongs to a device.
fn is_on_device(class: &Path, name: &str, depth: u8) -> bool {
    class.join(name).join("device").exists()
        || depth > 0
            && below(class, name)
                .iter()
                .any(|lower| is_on_device(class, lower, depth - 1))
}

/// The number of each VLAN interface. The kernel lists them once its module for VLANs is loaded.
fn vlans() -> BTreeMap<String, u16> {
    let text = fs::read_to_string("/proc/net/vlan/config").unwrap_or_default();
    parse_vlans(&text)
}

/// Reads lines such as `bond0.120      | 120  | bond0`, after two lines of headings.
fn parse_vlans(text: &str) -> BTreeMap<String, u16> {
    let vlan = |line: &str| {
        let mut columns = line.split('|').map(str::trim);
        Some((columns.next()?.to_owned(), columns.next()?.parse().ok()?))
    };
    text.lines().filter_map(vlan).collect()
}

fn network(address: &SockaddrStorage, netmask: Option<&SockaddrStorage>) -> Option<IpNet> {
    let ip = |storage: &SockaddrStorage| {
        let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    IpNet::with_netmask(ip(address)?, ip(netmask?)?).ok()
}

/// An IPv4 route over an interface.
struct Route {
    interface: String,
    to: Ipv4Net,
    gateway: Option<Ipv4Addr>,
    metric: u32,
}

/// The IPv4 routes of the kernel's main table that lead somewhere.
fn routes() -> Result<Vec<Route>> {
    /// The flag of routes that refuse packets (`RTF_REJECT`).
    const REJECT: u16 = 0x0200;
    let entries = procfs::net::route().context("cannot read the routes")?;
    let routes = entries
        .into_iter()
        .filter(|entry| entry.flags & REJECT == 0)
        .filter_map(|entry| {
            Some(Route {
                to: Ipv4Net::with_netmask(entry.destination, entry.mask).ok()?,
                interface: entry.iface,
                gateway: Some(entry.gateway).filter(|gateway| !gateway.is_unspecified()),
                metric: entry.metrics,
            })
        });
    Ok(routes.collect())
}

/// The IPv4 default route with the lowest metric.
fn default_route(routes: &[Route]) -> Option<&Route> {
    let defaults = routes.iter().filter(|route| route.to.prefix_len() == 0);
    // The first of several with the same metric is the one that the kernel uses.
    defaults.min_by_key(|route| route.metric)
}

/// The kernel's host name.
pub fn hostname() -> Result<String> {
    let name = nix::unistd::gethostname().context("cannot read the host name")?;
    Ok(name.to_string_lossy().into_owned())
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The file system of a path, also of one that does not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// Its number in the kernel: equal for two paths on the same file system.
    pub device: u64,
    /// Bytes in use.
    pub used: u64,
    /// Bytes free for everyone.
    pub available: u64,
    /// Bytes free for root.
    pub free: u64,
    /// How many files can still be created; `None` if it has no limit.
    pub files: Option<u64>,
}

/// How the user started this program: a path, or a name on the PATH.
pub fn program_name() -> String {
    let name = std::env::args_os().next().unwrap_or_default();
    match name.to_str() {
        Some(name) if !name.contains([' ', '\'']) && !name.is_empty() => name.to_owned(),
        _ => "appliance".to_owned(),
    }
}

/// The file system of `path`, or of its nearest parent that exists.
pub fn file_system(path: &Path) -> Result<FileSystem> {
    use std::os::unix::fs::MetadataExt;
    let existing = path
        .ancestors()
        .find(|path| path.exists())
        .context("no directory exists")?;
    let place = || format!("cannot inspect the file system of {}", existing.display());
    let stat = statvfs(existing).with_context(place)?;
    Ok(FileSystem {
        device: fs::metadata(existing).with_context(place)?.dev(),
        used: (stat.blocks() - stat.blocks_free()) * stat.fragment_size(),
        available: stat.blocks_available() * stat.fragment_size(),
        free: stat.blocks_free() * stat.fragment_size(),
        files: (stat.files() > 0).then(|| stat.files_available()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_bridge_on_a_vlan_on_a_bond_of_a_nic_stands_on_a_device() {
        let class = tempfile::tempdir().unwrap();
        let make = |path: &str| fs::create_dir_all(class.path().join(path)).unwrap();
        for path in [
            "eth0/device",
            "eth1/device",
            "bond0/lower_eth0",
            "bond0/lower_eth1",
            "bond0.120/lower_bond0",
            "br-mgmt/bridge",
            "br-mgmt/lower_bond0.120",
            "docker0/bridge",
            "docker0/lower_veth12ab",
            "veth12ab",
            "tunl0",
            "circle/lower_circle",
        ] {
            make(path);
        }
        let on_device = |name| is_on_device(class.path(), name, DEPTH);
        for name in ["eth0", "bond0", "bond0.120", "br-mgmt"] {
            assert!(on_device(name), "{name}");
        }
        for name in ["docker0", "veth12ab", "tunl0", "circle", "gone"] {
            assert!(!on_device(name), "{name}");
        }
        assert_eq!(below(class.path(), "bond0"), ["eth0", "eth1"]);
    }

    #[test]
    fn every_form_of_an_ethernet_address_is_read() {
        for text in [
            "fa:16:3e:00:aa:01",
            "FA:16:3E:00:AA:01",
            "fa-16-3E-00-AA-01",
            "fa16.3e00.aa01",
            "fa163e00AA01",
            "80:00:00:28:fe:80:00:00:00:00:00:00:fa:16:3e:ff:fe:00:aa:01",
        ] {
            assert_eq!(
                ethernet_address(text).as_deref(),
                Some("fa:16:3e:00:aa:01"),
                "{text}"
            );
        }
        for text in [
            "",
            "fa:16:3e:00:aa",
            "fa:16:3e:00:aa:0g",
            "fa:16:3e00:aa:01",
            "fa16:3e:00:aa:01:",
            "é1:16:3e:00:aa:01",
        ] {
            assert_eq!(ethernet_address(text), None, "{text}");
        }
    }

    #[test]
    fn the_kernel_shows_the_address_of_an_infiniband_interface() {
        let dir = tempfile::tempdir().unwrap();
        let show = |text: &str| fs::write(dir.path().join("address"), text).unwrap();
        show("fa:16:3e:00:aa:01\n");
        assert_eq!(infiniband(dir.path()), None);
        show("80:00:00:28:fe:80:00:00:00:00:00:00:fa:16:3e:ff:fe:00:aa:01\n");
        assert_eq!(infiniband(dir.path()).as_deref(), Some("fa:16:3e:00:aa:01"));
    }

    #[test]
    fn the_kernels_list_of_vlans_is_read() {
        let text = "VLAN Dev name\t | VLAN ID\n\
                    Name-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\n\
                    bond0.120      | 120  | bond0\n\
                    storage        | 4094  | eth1\n";
        let vlans = parse_vlans(text);
        assert_eq!(vlans.len(), 2);
        assert_eq!((vlans["bond0.120"], vlans["storage"]), (120, 4094));
    }

    #[test]
    fn of_several_default_routes_the_one_with_the_lowest_metric_is_used() {
        let route = |interface: &str, to: &str, metric| Route {
            interface: interface.to_owned(),
            to: to.parse().unwrap(),
            gateway: None,
            metric,
        };
        let routes = [
            route("eth0", "10.0.0.0/8", 0),
            route("eth0", "0.0.0.0/0", 200),
            route("eth1", "0.0.0.0/0", 100),
            route("eth2", "0.0.0.0/0", 100),
        ];
        assert_eq!(default_route(&routes).unwrap().interface, "eth1");
        assert!(default_route(&routes[..1]).is_none());
    }
}
