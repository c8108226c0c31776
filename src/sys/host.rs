//! Facts about this machine: its name, its interfaces, its user, its disks.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::{Context, Result};
use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::socket::{LinkAddr, SockaddrStorage};
use nix::sys::statvfs::{FsFlags, statvfs};

/// A network interface that is up and is not the loopback.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name in the kernel.
    pub name: String,
    /// Its number in the kernel, which is the zone of its link-local addresses.
    pub index: u32,
    /// Whether it belongs to a device; a bridge or a tunnel does not.
    pub has_device: bool,
    /// Its MAC address, in lower case; a tunnel has none.
    pub mac: Option<String>,
    /// Its MTU, in bytes.
    pub mtu: Option<u32>,
    /// Its addresses, each with the subnet it is in.
    pub addresses: Vec<IpNet>,
    /// Whether the best IPv4 default route uses it.
    pub has_default_route: bool,
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

/// The IPv4 addresses of this machine, without the loopback's.
pub fn addresses() -> Result<Vec<Ipv4Addr>> {
    let networks = interfaces()?.into_iter().flat_map(|one| one.addresses);
    let addresses = networks.filter_map(|network| match network {
        IpNet::V4(network) => Some(network.addr()),
        IpNet::V6(_) => None,
    });
    Ok(addresses.collect())
}

/// The interfaces that are up, without the loopback, in the kernel's order.
pub fn interfaces() -> Result<Vec<Interface>> {
    let mut found: Vec<Interface> = Vec::new();
    let default_route = default_route_interface()?;
    for entry in getifaddrs().context("cannot list the network interfaces")? {
        if !entry.flags.contains(InterfaceFlags::IFF_UP)
            || entry.flags.contains(InterfaceFlags::IFF_LOOPBACK)
        {
            continue;
        }
        let position = found.iter().position(|i| i.name == entry.interface_name);
        let position = position.unwrap_or_else(|| {
            found.push(interface(&entry.interface_name, default_route.as_deref()));
            found.len() - 1
        });
        let interface = &mut found[position];
        let Some(address) = entry.address else {
            continue;
        };
        if let Some(mac) = address.as_link_addr().and_then(LinkAddr::addr) {
            let pairs = mac.map(|byte| format!("{byte:02x}"));
            interface.mac = (mac != [0; 6]).then(|| pairs.join(":"));
        }
        interface
            .addresses
            .extend(network(&address, entry.netmask.as_ref()));
    }
    Ok(found)
}

/// The facts about the interface, without its addresses.
fn interface(name: &str, default_route: Option<&str>) -> Interface {
    let dir = Path::new("/sys/class/net").join(name);
    Interface {
        name: name.to_owned(),
        index: if_nametoindex(name).unwrap_or_default(),
        has_device: dir.join("device").exists(),
        mtu: fs::read_to_string(dir.join("mtu"))
            .ok()
            .and_then(|text| text.trim().parse().ok()),
        has_default_route: default_route == Some(name),
        ..Interface::default()
    }
}

fn network(address: &SockaddrStorage, netmask: Option<&SockaddrStorage>) -> Option<IpNet> {
    let ip = |storage: &SockaddrStorage| {
        let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    IpNet::with_netmask(ip(address)?, ip(netmask?)?).ok()
}

/// The interface of the IPv4 default route with the lowest metric.
fn default_route_interface() -> Result<Option<String>> {
    let routes = procfs::net::route().context("cannot read the routes")?;
    let default = routes
        .into_iter()
        .filter(|route| route.destination.is_unspecified() && route.mask.is_unspecified())
        .min_by_key(|route| route.metrics);
    Ok(default.map(|route| route.iface))
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
    /// Bytes free for root.
    pub free: u64,
    /// Whether programs on it may run.
    pub exec: bool,
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
        free: stat.blocks_free() * stat.fragment_size(),
        exec: !stat.flags().contains(FsFlags::ST_NOEXEC),
    })
}
