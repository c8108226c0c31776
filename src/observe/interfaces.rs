//! Tells the interfaces that lead to other machines from those that lead to containers of this one.

use ipnet::IpNet;

use crate::nodespec::{HostInterface, Leads};
use crate::sys::host::Interface;

/// How names begin that docker, Calico, libvirt and others give to interfaces of containers and VMs.
const OF_CONTAINERS: [&str; 14] = [
    "docker",
    "veth",
    "cali",
    "tunl",
    "vxlan.calico",
    "cni",
    "cbr",
    "flannel",
    "kube-",
    "virbr",
    "vnet",
    "lxcbr",
    "lxdbr",
    "podman",
];

/// The interfaces as a specification takes them, each with what it leads to. Members of a bond or
/// bridge without an address are left out: the bond or bridge speaks for them.
pub(super) fn of_host(interfaces: Vec<Interface>) -> Vec<HostInterface> {
    let leads: Vec<Leads> = interfaces.iter().map(|i| leads(i, &interfaces)).collect();
    let both = interfaces.into_iter().zip(leads);
    both.map(|(interface, leads)| (interface.is_member, host_interface(interface, leads)))
        .filter(|(is_member, interface)| !is_member || !interface.addresses.is_empty())
        .map(|(_, interface)| interface)
        .collect()
}

/// What the interface leads to, as far as the kernel shows it.
fn leads(interface: &Interface, all: &[Interface]) -> Leads {
    if interface.is_loopback {
        return Leads::Nowhere;
    }
    if interface.on_device {
        return Leads::Outside;
    }
    // Open vSwitch does not show which NIC is a port of its bridge. The bridge has the NIC's MAC address.
    let is_twin =
        |other: &Interface| other.on_device && other.mac.is_some() && other.mac == interface.mac;
    if all.iter().any(is_twin) {
        return Leads::Outside;
    }
    let has_name = |name: &str| OF_CONTAINERS.iter().any(|begin| name.starts_with(begin));
    let has_only_containers =
        interface.is_bridge && interface.below.iter().all(|port| has_name(port));
    if has_name(&interface.name) || has_only_containers {
        return Leads::Inside;
    }
    Leads::Unknown
}

fn host_interface(interface: Interface, leads: Leads) -> HostInterface {
    let is_global =
        |net: &IpNet| matches!(net, IpNet::V6(net) if !net.addr().is_unicast_link_local());
    let ipv4 = |net: &IpNet| match net {
        IpNet::V4(net) => Some(*net),
        IpNet::V6(_) => None,
    };
    HostInterface {
        leads,
        has_ipv6: interface.addresses.iter().any(is_global),
        addresses: interface.addresses.iter().filter_map(ipv4).collect(),
        name: interface.name,
        mac: interface.mac,
        vlan: interface.vlan,
        mtu: interface.mtu,
        has_default_route: interface.has_default_route,
        gateway: interface.gateway,
        routes: interface.routes,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn interface(name: &str, mac: &str, on_device: bool) -> Interface {
        Interface {
            name: name.to_owned(),
            mac: Some(mac.to_owned()),
            on_device,
            ..Interface::default()
        }
    }

    fn bridge(name: &str, below: &[&str]) -> Interface {
        Interface {
            is_bridge: true,
            below: below.iter().map(|&port| port.to_owned()).collect(),
            ..interface(name, "02:42:ac:11:00:01", false)
        }
    }

    #[test]
    fn interfaces_of_containers_never_lead_outside() {
        let nic = "fa:16:3e:00:00:05";
        let all = of_host(vec![
            interface("eth0", nic, true),
            Interface {
                is_member: true,
                ..interface("eth1", nic, true)
            },
            interface("eth0.101", nic, true),
            interface("br-ex", nic, false),
            bridge("docker0", &[]),
            bridge("br-3f0c9a7d21aa", &["veth77aa01"]),
            interface("veth77aa01", "02:00:00:00:00:09", false),
            interface("cali0f1e", "ee:ee:ee:ee:ee:ee", false),
            Interface {
                mac: None,
                ..interface("tunl0", "", false)
            },
            interface("dummy0", "02:00:00:00:00:0a", false),
            bridge("br0", &["ens3"]),
            Interface {
                is_loopback: true,
                ..interface("lo", "", false)
            },
        ]);
        let named = |leads: Leads| {
            let names = all.iter().filter(|i| i.leads == leads);
            names.map(|i| i.name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(named(Leads::Outside), ["eth0", "eth0.101", "br-ex"]);
        assert_eq!(
            named(Leads::Inside),
            [
                "docker0",
                "br-3f0c9a7d21aa",
                "veth77aa01",
                "cali0f1e",
                "tunl0"
            ]
        );
        assert_eq!(named(Leads::Unknown), ["dummy0", "br0"]);
        assert_eq!(named(Leads::Nowhere), ["lo"]);
    }
}
