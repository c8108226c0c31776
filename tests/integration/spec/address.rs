//! Which of its addresses a node uses, and the settings that depend on the interface with this
//! address.

use appliance::components::pki_request;
use appliance::metadata::model::Interface;
use appliance::nodespec::{HostInterface, Inputs, Leads};

use super::{
    DRIVE, PORT, SERVICE, assert_holds, config, interface, master, metadata, nic, property,
    refusal, resolved,
};

#[test]
fn an_address_this_machine_does_not_have_is_refused_with_those_it_has() {
    let mut inputs = master();
    inputs.host.interfaces = Some(vec![interface("ens3", 2, &["10.0.0.5/24"])]);
    assert_holds(
        &refusal(&inputs),
        &[
            "`network_data.networks.ip_address` is \"192.168.1.102\"",
            "10.0.0.5 on ens3",
            "with the line `address: ",
        ],
    );
}

/// A VM with two interfaces; OpenStack knows only their MAC addresses.
fn two_nics() -> Inputs {
    let mut inputs = master();
    inputs.metadata[0].interfaces = vec![nic(2, &[]), nic(3, &[])];
    inputs.host.interfaces = Some(vec![
        interface("ens3", 2, &["192.168.1.102/24"]),
        interface("ens4", 3, &["10.0.0.5/24"]),
        docker(),
    ]);
    inputs
}

fn docker() -> HostInterface {
    HostInterface {
        leads: Leads::Inside,
        ..interface("docker0", 9, &["172.17.0.1/16"])
    }
}

fn dhcp(end: u8) -> Interface {
    Interface {
        dhcp: true,
        ..nic(end, &[])
    }
}

fn vlan(name: &str, end: u8, number: u16, addresses: &[&str]) -> HostInterface {
    HostInterface {
        vlan: Some(number),
        ..interface(name, end, addresses)
    }
}

fn hosts(inputs: &mut Inputs) -> &mut Vec<HostInterface> {
    inputs.host.interfaces.as_mut().unwrap()
}

#[test]
fn without_openstacks_list_several_addresses_are_never_guessed_at() {
    let mut inputs = two_nics();
    inputs.metadata[0].interfaces.clear();
    inputs.metadata[0].is_live = true;
    assert_holds(
        &refusal(&inputs),
        &[
            "192.168.1.102 on ens3, 10.0.0.5 on ens4, and neither",
            "--set interface=ens3",
            "--property interface=ens3 SERVER",
        ],
    );
    // A property that is set now does not reach a server that has only a config drive.
    inputs.metadata[0].is_live = false;
    let refused = refusal(&inputs);
    assert_holds(
        &refused,
        &["the line `interface: ens3` in /etc/appliance/config.yaml"],
    );
    assert!(!refused.contains("server set"), "{refused}");
}

#[test]
fn without_master_and_default_route_openstacks_first_interface_is_used_and_said() {
    let mut inputs = two_nics();
    inputs.metadata[0].interfaces = vec![nic(3, &[]), nic(2, &[])];
    let spec = resolved(&inputs);
    assert_eq!(spec.address.to_string(), "10.0.0.5");
    assert_holds(
        &spec.address.origin.to_string(),
        &["interface ens4, which OpenStack lists first"],
    );
    assert_eq!(spec.address.overrode[0].value, "192.168.1.102");
}

#[test]
fn the_masters_subnet_then_the_default_route_decide_between_interfaces() {
    let mut inputs = two_nics();
    inputs.host.interfaces.as_mut().unwrap()[1].has_default_route = true;
    let by_route = resolved(&inputs);
    assert_eq!(by_route.address.to_string(), "10.0.0.5");
    assert_holds(
        &by_route.address.origin.to_string(),
        &["ens4", "default route"],
    );

    inputs.layers.push(config("master: 192.168.1.254"));
    let by_subnet = resolved(&inputs);
    assert_eq!(by_subnet.address.to_string(), "192.168.1.102");
    assert_holds(
        &by_subnet.address.origin.to_string(),
        &["subnet contains the master"],
    );
    assert_eq!(by_subnet.address.overrode[0].value, "10.0.0.5");

    inputs.layers.push(property(DRIVE, "address: 10.0.0.5"));
    assert_eq!(resolved(&inputs).address.to_string(), "10.0.0.5");
}

#[test]
fn a_virtual_address_is_not_the_nodes_own() {
    let mut inputs = two_nics();
    inputs.metadata[0].interfaces.pop();
    inputs.host.interfaces.as_mut().unwrap()[0].addresses = vec![
        "192.168.1.100/32".parse().unwrap(),
        "192.168.1.102/24".parse().unwrap(),
    ];
    assert_eq!(resolved(&inputs).address.to_string(), "192.168.1.102");
}

#[test]
fn a_vm_with_ipv6_only_is_told_what_it_needs() {
    let mut inputs = master();
    inputs.metadata[0].interfaces = vec![nic(2, &["2001:db8::2"])];
    let mut six = interface("ens3", 2, &[]);
    six.has_ipv6 = true;
    inputs.host.interfaces = Some(vec![six]);
    assert_holds(
        &refusal(&inputs),
        &["only IPv6 addresses, on ens3", "IPv4 subnet"],
    );
}

#[test]
fn a_dhcp_networks_address_is_read_from_the_interface_with_its_mac() {
    let mut inputs = two_nics();
    inputs.metadata[0].interfaces = vec![nic(3, &[])];
    let spec = resolved(&inputs);
    assert_eq!(spec.address.to_string(), "10.0.0.5");
    assert_eq!(
        spec.address.origin.to_string(),
        "this machine's interface ens4, which OpenStack lists first"
    );
}

/// A trunk: OpenStack knows the parent port only.
fn trunk() -> Inputs {
    let mut inputs = master();
    inputs.metadata[0].interfaces = vec![dhcp(5)];
    inputs.host.interfaces = Some(vec![
        interface("eth0", 5, &["10.0.0.5/24"]),
        HostInterface {
            has_default_route: true,
            mtu: Some(1400),
            ..vlan("eth0.101", 5, 101, &["10.20.0.5/24"])
        },
        docker(),
    ]);
    inputs
}

#[test]
fn the_vlan_of_a_trunk_is_found_by_route_master_address_network_and_interface() {
    let spec = resolved(&trunk());
    assert_eq!(spec.address.to_string(), "10.20.0.5");
    assert_eq!(
        spec.address.origin.to_string(),
        "this machine's interface eth0.101, which has the default route"
    );
    // The VLAN is not the port that OpenStack describes: neither its MTU nor its port counts.
    assert_eq!(*spec.mtu, 1400);
    assert!(
        !spec.warnings.join("\n").contains(PORT),
        "{:?}",
        spec.warnings
    );

    for (yaml, address, words) in [
        (
            "master: 10.20.0.4",
            "10.20.0.5",
            "subnet contains the master",
        ),
        ("master: 10.0.0.4", "10.0.0.5", "subnet contains the master"),
        ("address: 10.20.0.5", "10.20.0.5", "`address`"),
        ("address: 10.20.0.5/24", "10.20.0.5", "`address`"),
        (
            "address: 10.0.0.0/24",
            "10.0.0.5",
            "chosen by configuration site.yaml: `address`",
        ),
        (
            "network: 10.0.0.0/16",
            "10.0.0.5",
            "chosen by configuration site.yaml: `network`",
        ),
        (
            "interface: eth0",
            "10.0.0.5",
            "interface eth0, chosen by configuration",
        ),
        ("interface: eth0.101", "10.20.0.5", "`interface`"),
        (
            "interface: FA-16-3E-00-00-05",
            "10.20.0.5",
            "`interface` and which has the default route",
        ),
    ] {
        let mut inputs = trunk();
        inputs.layers.push(config(yaml));
        let spec = resolved(&inputs);
        assert_eq!(spec.address.to_string(), address, "{yaml}");
        assert_holds(&spec.address.origin.to_string(), &[words]);
    }
}

#[test]
fn the_only_address_may_be_on_a_vlan_or_a_bond() {
    let mut inputs = trunk();
    hosts(&mut inputs)[0].addresses.clear();
    hosts(&mut inputs)[1].has_default_route = false;
    inputs.metadata[0].interfaces[0].dhcp = false;
    let spec = resolved(&inputs);
    assert_eq!(spec.address.to_string(), "10.20.0.5");
    assert_holds(
        &spec.address.origin.to_string(),
        &["eth0.101, the only address"],
    );
}

/// A bond with OpenStack's first network, its members, and one more interface.
fn bonded() -> Inputs {
    let mut inputs = master();
    let member = |end| Interface {
        mtu: None,
        ..nic(end, &[])
    };
    let bond = Interface {
        mtu: Some(9000),
        ..dhcp(1)
    };
    inputs.metadata[0].interfaces = vec![member(1), bond, dhcp(3), member(2)];
    inputs.host.interfaces = Some(vec![
        HostInterface {
            mtu: Some(9000),
            ..interface("eth0", 1, &[])
        },
        interface("eth2", 3, &["10.2.0.5/24"]),
        HostInterface {
            mtu: Some(9000),
            has_default_route: true,
            ..interface("bond0", 1, &["10.0.0.5/24"])
        },
    ]);
    inputs
}

#[test]
fn a_bond_counts_as_the_interface_that_openstack_describes() {
    let spec = resolved(&bonded());
    assert_eq!(
        (spec.address.to_string(), *spec.mtu),
        ("10.0.0.5".to_owned(), 9000)
    );
    assert_holds(
        &spec.address.origin.to_string(),
        &["bond0, which has the default route"],
    );

    let mut inputs = bonded();
    hosts(&mut inputs)[2].has_default_route = false;
    let spec = resolved(&inputs);
    assert_eq!(
        (spec.address.to_string(), *spec.mtu),
        ("10.0.0.5".to_owned(), 9000)
    );
    assert_holds(
        &spec.address.origin.to_string(),
        &["bond0, which OpenStack lists first"],
    );
}

#[test]
fn an_interface_that_waits_for_dhcp_is_not_passed_over() {
    let mut inputs = bonded();
    hosts(&mut inputs)[2].addresses.clear();
    hosts(&mut inputs)[2].has_default_route = false;
    assert_holds(
        &refusal(&inputs),
        &["lists eth0 before eth2", "DHCP", "--set interface=eth2"],
    );
    // What speaks for the other one is enough.
    inputs.layers.push(config("master: 10.2.0.4"));
    assert_eq!(resolved(&inputs).address.to_string(), "10.2.0.5");
    inputs.layers.pop();
    inputs.layers.push(config("interface: eth2"));
    assert_eq!(resolved(&inputs).address.to_string(), "10.2.0.5");
    inputs.layers.pop();
    hosts(&mut inputs)[1].addresses.clear();
    hosts(&mut inputs).push(docker());
    assert_holds(
        &refusal(&inputs),
        &["no IPv4 address", "by DHCP", "ip address show eth0"],
    );
}

#[test]
fn of_two_ports_in_the_masters_subnet_the_default_route_decides_then_openstacks_order() {
    let mut inputs = master();
    inputs.metadata[0].interfaces = vec![nic(2, &[]), nic(3, &[]), nic(4, &[])];
    inputs.host.interfaces = Some(vec![
        HostInterface {
            has_default_route: true,
            ..interface("ens5", 4, &["203.0.113.9/24"])
        },
        interface("ens4", 3, &["10.0.0.6/24"]),
        interface("ens3", 2, &["10.0.0.5/24"]),
    ]);
    inputs.layers.push(config("master: 10.0.0.4"));
    let spec = resolved(&inputs);
    assert_eq!(spec.address.to_string(), "10.0.0.5");
    assert_holds(
        &spec.address.origin.to_string(),
        &["whose subnet contains the master and which OpenStack lists first"],
    );
    hosts(&mut inputs)[0].has_default_route = false;
    hosts(&mut inputs)[1].has_default_route = true;
    assert_eq!(resolved(&inputs).address.to_string(), "10.0.0.6");
}

#[test]
fn a_route_to_the_master_decides_before_the_default_route() {
    let mut inputs = two_nics();
    hosts(&mut inputs)[0].has_default_route = true;
    hosts(&mut inputs)[1].routes = vec!["10.50.0.0/16".parse().unwrap()];
    inputs.layers.push(config("master: 10.50.0.4"));
    let spec = resolved(&inputs);
    assert_eq!(spec.address.to_string(), "10.0.0.5");
    assert_holds(
        &spec.address.origin.to_string(),
        &["whose route leads to the master"],
    );
}

#[test]
fn a_network_is_found_by_its_uuid() {
    const SECOND: &str = "5e1f0000-0000-4000-8000-000000000002";
    let mut inputs = two_nics();
    inputs.metadata[0].interfaces[1].networks = vec![SECOND.to_owned()];
    inputs.layers.push(config(&format!("network: {SECOND}")));
    assert_eq!(resolved(&inputs).address.to_string(), "10.0.0.5");

    for (yaml, words) in [
        (
            "network: 5e1f0000-0000-4000-8000-000000000003",
            "it has 192.168.1.102 on ens3",
        ),
        (
            "network: 172.17.0.0/16",
            "it has 192.168.1.102 on ens3, 10.0.0.5 on ens4",
        ),
        (
            "interface: docker0",
            "it has 192.168.1.102 on ens3, 10.0.0.5 on ens4",
        ),
        (
            "interface: \"ens3; reboot\"",
            "expected the name of an interface",
        ),
        ("network: nodes", "expected an IPv4 range"),
        ("network: 10.0.0.5/24", "did you mean 10.0.0.0/24"),
        (
            "address: 172.17.0.1",
            "the address of docker0, which leads to containers",
        ),
        (
            "{address: 10.0.0.5, interface: ens3}",
            "remove one of the two",
        ),
    ] {
        let mut inputs = two_nics();
        inputs.layers.push(config(yaml));
        assert_holds(&refusal(&inputs), &[words]);
    }
}

#[test]
fn two_addresses_of_one_interface_are_the_kernels_first_or_refused() {
    let mut inputs = master();
    inputs.metadata[0].interfaces = vec![nic(2, &[])];
    inputs.host.interfaces = Some(vec![interface("ens3", 2, &["10.0.0.5/24", "10.0.0.9/24"])]);
    let spec = resolved(&inputs);
    assert_eq!(spec.address.to_string(), "10.0.0.5");
    assert_holds(
        &spec.address.origin.to_string(),
        &["the first address of ens3 in 10.0.0.0/24"],
    );
    inputs.host.interfaces = Some(vec![interface("ens3", 2, &["10.0.0.5/24", "10.9.0.9/24"])]);
    assert_holds(
        &refusal(&inputs),
        &["10.0.0.5 on ens3, 10.9.0.9 on ens3", "address=10.0.0.5"],
    );
}

#[test]
fn the_mtu_is_that_of_the_interface_with_the_address() {
    let mut inputs = two_nics();
    inputs
        .layers
        .push(property(DRIVE, "address: 192.168.1.102"));
    inputs.metadata[0].interfaces[0].mtu = Some(1442);
    inputs.metadata[0].interfaces[1].mtu = Some(1300);
    inputs.host.interfaces.as_mut().unwrap()[0].mtu = Some(1442);
    let spec = resolved(&inputs);
    assert_eq!((*spec.mtu, spec.pod_mtu()), (1442, 1422));

    // The metadata has no addresses of DHCP networks: the kernel has them.
    inputs.metadata[0].interfaces[0].mtu = None;
    let spec = resolved(&inputs);
    assert_eq!(*spec.mtu, 1442);
    assert_eq!(
        spec.mtu.origin.to_string(),
        "this machine's MTU of interface ens3"
    );

    inputs.metadata[0].interfaces[0].mtu = Some(9000);
    inputs.layers.push(config("ipip: off"));
    let spec = resolved(&inputs);
    assert_eq!((*spec.mtu, spec.pod_mtu()), (1442, 1442));
    assert_holds(
        &spec.warnings.join("\n"),
        &["is 1442", "is 9000", "the smaller one is used"],
    );

    inputs.layers.push(config("mtu: 1400"));
    inputs.layers.swap(2, 3);
    assert_eq!(*resolved(&inputs).mtu, 1400);
}

#[test]
fn a_floating_ip_is_known_though_only_the_second_source_says_it() {
    let mut inputs = master();
    let mut service = metadata(SERVICE);
    service.public_ipv4 = Some([203, 0, 113, 7].into());
    inputs.metadata.push(service);
    let spec = resolved(&inputs);
    let request = pki_request(&spec).unwrap();
    let api_server = request.certificates.iter().find(|c| c.name == "kubernetes");
    let addresses = &api_server.unwrap().ip_addresses;
    assert!(
        addresses.contains(&[203, 0, 113, 7].into()),
        "{addresses:?}"
    );
    let floating = spec.floating_ip.unwrap();
    assert_eq!(floating.to_string(), "203.0.113.7");
    assert_eq!(
        floating.origin.to_string(),
        format!("{SERVICE}: `public-ipv4`")
    );
}
