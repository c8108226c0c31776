//! A pod's link to its node: a pair of virtual interfaces. The node has a route to the pod; the pod
//! has a gateway whose address does not really exist.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Result;

use crate::net::ip::{ip, ip_in};

/// The gateway of every pod, as in the real plugin.
const GATEWAY: &str = "169.254.1.1";

/// The MAC address of the node's end of every link, which only its pod sees. If the kernel chose
/// one, udev would change it (`MACAddressPolicy=persistent`, systemd 242 and newer) some time after
/// the pod learnt it.
const HARDWARE: &str = "ee:ee:ee:ee:ee:ee";

/// Sets `lo` up or down.
///
/// # Errors An error of `ip`.
pub fn set_loopback(namespace: &Path, up: bool) -> Result<()> {
    let state = if up { "up" } else { "down" };
    ip_in(namespace, &format!("link set lo {state}")).map(|_| ())
}

/// Connects a namespace. If a part of it fails, removes the rest again.
///
/// # Errors An interface that exists already, and errors of `ip`.
pub fn connect(
    namespace: &Path,
    interface: &str,
    host: &str,
    address: Ipv4Addr,
    mtu: u32,
) -> Result<()> {
    // The interface of an earlier container of the same pod.
    if ip(&format!("link show {host}")).is_ok() {
        ip(&format!("link delete {host}"))?;
    }
    ip(&format!(
        "link add {host} address {HARDWARE} mtu {mtu} type veth peer name {interface} mtu {mtu} netns {}",
        namespace.display()
    ))?;
    let made = set_up(namespace, interface, host, address);
    if made.is_err() {
        // Report the first failure.
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
        // The node answers ARP requests for the gateway only if it has a default route itself.
        format!("neighbour replace {GATEWAY} lladdr {HARDWARE} dev {interface} nud permanent"),
    ] {
        ip_in(namespace, &words)?;
    }
    ip(&format!("route replace {address}/32 dev {host} scope link")).map(|_| ())
}

/// Removes the pod's end, and with it the node's end and its route.
///
/// # Errors An error of `ip`. A missing interface is no error.
pub fn remove(namespace: &Path, interface: &str) -> Result<()> {
    if ip_in(namespace, &format!("link show {interface}")).is_err() {
        return Ok(());
    }
    ip_in(namespace, &format!("link delete {interface}")).map(|_| ())
}
