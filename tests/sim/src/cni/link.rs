//! A pod's link to its node: a pair of virtual interfaces, with a route to the pod on
//! the node's side and a gateway that is no real address on the pod's.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Result;

use crate::net::ip::{ip, ip_in};

/// The gateway of every pod, as with the real plugin.
const GATEWAY: &str = "169.254.1.1";

/// The node's end of every link, which only its pod sees. One that the kernel chose would be changed by
/// udev (`MACAddressPolicy=persistent`, systemd 242 and newer) at some time after the pod learnt it.
const HARDWARE: &str = "ee:ee:ee:ee:ee:ee";

/// Sets `lo` up or down.
///
/// # Errors
/// What `ip` refuses.
pub fn set_loopback(namespace: &Path, up: bool) -> Result<()> {
    let state = if up { "up" } else { "down" };
    ip_in(namespace, &format!("link set lo {state}")).map(|_| ())
}

/// Connects a namespace; what was made is removed again where a part of it fails.
///
/// # Errors
/// An interface that is there already, and what `ip` refuses.
pub fn connect(
    namespace: &Path,
    interface: &str,
    host: &str,
    address: Ipv4Addr,
    mtu: u32,
) -> Result<()> {
    // That of a former container of the same pod.
    if ip(&format!("link show {host}")).is_ok() {
        ip(&format!("link delete {host}"))?;
    }
    ip(&format!(
        "link add {host} address {HARDWARE} mtu {mtu} type veth peer name {interface} mtu {mtu} netns {}",
        namespace.display()
    ))?;
    let made = set_up(namespace, interface, host, address);
    if made.is_err() {
        // The first failure is the one to tell.
        let _ = ip(&format!("link delete {host}"));
    }
    made
}

fn set_up(namespace: &Path, interface: &str, host: &str, address: Ipv4Addr) -> Result<()> {
    ip(&format!("link set {host} up"))?;
    for words in [
        format!("link set {interface} up"),
        format!("address add {address}/32 dev {interface}"),
        format!("route add {GATEWAY} dev {interface} scope link"),
        format!("route add default via {GATEWAY} dev {interface}"),
        // The node answers for the gateway only where it has a default route of its own.
        format!("neighbour replace {GATEWAY} lladdr {HARDWARE} dev {interface} nud permanent"),
    ] {
        ip_in(namespace, &words)?;
    }
    ip(&format!("route replace {address}/32 dev {host} scope link")).map(|_| ())
}

/// Removes the pod's end, and with it the node's and its route.
///
/// # Errors
/// What `ip` refuses; that the interface is gone is no error.
pub fn remove(namespace: &Path, interface: &str) -> Result<()> {
    if ip_in(namespace, &format!("link show {interface}")).is_err() {
        return Ok(());
    }
    ip_in(namespace, &format!("link delete {interface}")).map(|_| ())
}
