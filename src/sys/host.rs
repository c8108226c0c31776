//! What this machine is: its name, its interfaces, its user, its disks.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{SockaddrIn, SockaddrStorage};
use nix::sys::statvfs::{FsFlags, statvfs};

/// An IPv4 address of a network interface that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The kernel's name of the interface.
    pub name: String,
    /// Whether a device stands behind it; a bridge or a tunnel has none.
    pub has_device: bool,
    /// The address.
    pub address: Ipv4Addr,
    /// The number of leading bits of the address that name its subnet.
    pub prefix_len: u8,
}

/// The IPv4 addresses of all interfaces that are up, without the loopback.
pub fn interface_addresses() -> Result<Vec<InterfaceAddress>> {
    let mut found = Vec::new();
    for entry in getifaddrs().context("list network interfaces")? {
        let wanted = entry.flags.contains(InterfaceFlags::IFF_UP)
            && !entry.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        let ipv4 = |storage: &SockaddrStorage| storage.as_sockaddr_in().map(SockaddrIn::ip);
        let address = entry.address.as_ref().and_then(ipv4);
        let netmask = entry.netmask.as_ref().and_then(ipv4);
        if let (true, Some(address), Some(netmask)) = (wanted, address, netmask) {
            found.push(InterfaceAddress {
                has_device: Path::new("/sys/class/net")
                    .join(&entry.interface_name)
                    .join("device")
                    .exists(),
                name: entry.interface_name,
                address,
                prefix_len: netmask.to_bits().leading_ones() as u8,
            });
        }
    }
    Ok(found)
}

/// The kernel's host name.
pub fn hostname() -> Result<String> {
    let name = nix::unistd::gethostname().context("ask for the host name")?;
    Ok(name.to_string_lossy().into_owned())
}

/// Whether this process may do everything.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The file system a path is on, or would be on once made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// The kernel's number of it: equal for two paths on the same file system.
    pub device: u64,
    /// Bytes free for root.
    pub free: u64,
    /// Whether programs on it may be run.
    pub exec: bool,
}

/// The file system of `path`, or of its nearest parent that exists.
pub fn file_system(path: &Path) -> Result<FileSystem> {
    use std::os::unix::fs::MetadataExt;
    let existing = path
        .ancestors()
        .find(|path| path.exists())
        .context("no directory exists")?;
    let place = || format!("inspect the file system of {}", existing.display());
    let stat = statvfs(existing).with_context(place)?;
    Ok(FileSystem {
        device: fs::metadata(existing).with_context(place)?.dev(),
        free: stat.blocks_free() * stat.fragment_size(),
        exec: !stat.flags().contains(FsFlags::ST_NOEXEC),
    })
}
