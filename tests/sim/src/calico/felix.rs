//! Felix's part: the kernel settings that pods need, in addition to the routes from BIRD.

use std::net::Ipv4Addr;

use anyhow::{Result, bail};
use ipnet::Ipv4Net;

use super::datastore::variable;
use super::ipam::Pool;
use crate::net::{ip, iptables};

/// The routing protocol number of the tunnel's routes. It differs from BIRD's, because BIRD would
/// remove them.
const PROTOCOL: u8 = 80;
const TUNNEL: &str = "tunl0";

/// Felix 2.6 exits if the kernel uses loose reverse path filtering, unless a setting allows that.
///
/// # Errors Settings with which pods cannot reach anything.
pub fn check_kernel() -> Result<()> {
    let value = |setting: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{setting}"));
        text.unwrap_or_default().trim().to_owned()
    };
    let borne = variable("FELIX_IGNORELOOSERPF").is_some_and(|value| value == "true");
    if value("conf/all/rp_filter") == "2" && !borne {
        bail!(
            "Kernel's RPF check is set to 'loose'. Calico requires net.ipv4.conf.all.rp_filter \
             to be set to 0 or 1 (or FELIX_IGNORELOOSERPF=true)"
        );
    }
    if value("ip_forward") != "1" {
        bail!("net.ipv4.ip_forward is not 1: this node would not forward packets from or to pods");
    }
    Ok(())
}

/// Accepts pods' packets, and masquerades those that leave the pools.
///
/// # Errors An error of `iptables`.
pub fn filter(pools: &[Pool]) -> Result<()> {
    iptables::restore(&rules(pools))?;
    iptables::jump("filter", "FORWARD", "cali-FORWARD")?;
    iptables::jump("nat", "POSTROUTING", "cali-nat-outgoing")
}

/// Docker drops forwarded packets, so accept those from and to pods.
fn rules(pools: &[Pool]) -> String {
    let inside: String = pools
        .iter()
        .map(|pool| format!("-A cali-nat-outgoing -d {} -j RETURN\n", pool.cidr))
        .collect();
    let outgoing: String = pools
        .iter()
        .filter(|pool| pool.masquerade)
        .map(|pool| format!("-A cali-nat-outgoing -s {} -j MASQUERADE\n", pool.cidr))
        .collect();
    format!(
        "*filter\n:cali-FORWARD - [0:0]\n-A cali-FORWARD -i cali+ -j ACCEPT\n\
         -A cali-FORWARD -o cali+ -j ACCEPT\nCOMMIT\n\
         *nat\n:cali-nat-outgoing - [0:0]\n{inside}{outgoing}COMMIT\n"
    )
}

/// Creates the tunnel's device, with this address and MTU.
///
/// # Errors A kernel without IPIP.
pub fn set_up_tunnel(address: Ipv4Addr, mtu: u32) -> Result<()> {
    if ip::ip(&format!("link show {TUNNEL}")).is_err() {
        // Loading the module creates the device, before this adds it.
        let added = ip::ip(&format!("link add {TUNNEL} type ipip"));
        if ip::ip(&format!("link show {TUNNEL}")).is_err() {
            added?;
        }
    }
    ip::ip(&format!("link set {TUNNEL} mtu {mtu} up"))?;
    let others = ip::ip(&format!("-4 -o address show dev {TUNNEL}"))?;
    if !others.contains(&format!(" {address}/32 ")) {
        ip::ip(&format!("address flush dev {TUNNEL}"))?;
        ip::ip(&format!("address add {address}/32 dev {TUNNEL}"))?;
    }
    Ok(())
}

/// Makes these the tunnel's only routes: to each block through its node.
///
/// # Errors An error of `ip`.
pub fn route_through_tunnel(wanted: &[(Ipv4Net, Ipv4Addr)]) -> Result<()> {
    let found = ip::ip(&format!(
        "-4 route show dev {TUNNEL} proto {PROTOCOL} table main"
    ))?;
    for route in gone(&found, wanted) {
        ip::ip(&format!(
            "route del {route} dev {TUNNEL} proto {PROTOCOL} table main"
        ))?;
    }
    for (block, node) in wanted {
        ip::ip(&format!(
            "route replace {block} via {node} dev {TUNNEL} onlink proto {PROTOCOL} table main"
        ))?;
    }
    Ok(())
}

/// The destinations among `found`, in the format of `ip route`, that are not wanted.
fn gone<'a>(found: &'a str, wanted: &[(Ipv4Net, Ipv4Addr)]) -> Vec<&'a str> {
    let destinations = found
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    destinations
        .filter(|found| !wanted.iter().any(|(block, _)| block.to_string() == **found))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_a_pool_that_says_so_is_masqueraded_and_only_when_leaving_all_pools() {
        let pool = |text: &str| serde_json::from_str(text).unwrap();
        let rules = rules(&[
            pool(r#"{"cidr": "172.20.0.0/16", "masquerade": true}"#),
            pool(r#"{"cidr": "172.21.0.0/16"}"#),
        ]);
        let outgoing: Vec<&str> = rules
            .lines()
            .filter(|line| line.contains("A cali-nat-outgoing"))
            .collect();
        assert_eq!(
            outgoing,
            [
                "-A cali-nat-outgoing -d 172.20.0.0/16 -j RETURN",
                "-A cali-nat-outgoing -d 172.21.0.0/16 -j RETURN",
                "-A cali-nat-outgoing -s 172.20.0.0/16 -j MASQUERADE",
            ]
        );
    }

    #[test]
    fn a_route_to_a_node_that_is_gone_goes() {
        let found = "172.20.0.64/26 via 192.0.2.2 onlink \n172.20.0.128/26 via 192.0.2.3 onlink \n";
        let wanted = [(
            "172.20.0.64/26".parse().unwrap(),
            Ipv4Addr::new(192, 0, 2, 2),
        )];
        assert_eq!(gone(found, &wanted), ["172.20.0.128/26"]);
    }
}
