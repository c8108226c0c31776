//! Which of its addresses is the node's own, and what hangs on the interface that has it.

use appliance::components::pki_request;
use appliance::nodespec::Inputs;
use appliance::nodespec::value::Origin;

use super::{
    DRIVE, PORT, SERVICE, assert_holds, config, configured, interface, master, metadata, nic,
    property, refusal, resolved,
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
            "--property address=",
        ],
    );
}

/// A VM with two interfaces, of which OpenStack knows the MAC addresses only.
fn two_nics() -> Inputs {
    let mut inputs = master();
    inputs.metadata[0].interfaces = vec![nic(2, &[]), nic(3, &[])];
    inputs.host.interfaces = Some(vec![
        interface("ens3", 2, &["192.168.1.102/24"]),
        interface("ens4", 3, &["10.0.0.5/24"]),
        interface("docker0", 9, &["172.17.0.1/16"]),
    ]);
    inputs
}

#[test]
fn several_addresses_are_never_guessed_at() {
    assert_holds(
        &refusal(&two_nics()),
        &[
            "192.168.1.102 on ens3, 10.0.0.5 on ens4, and not exactly one",
            "address=192.168.1.102 SERVER",
        ],
    );
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
        spec.address.origin,
        Origin::Host("interface ens4".to_owned())
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
    assert_eq!((*spec.mtu, spec.pod_mtu()), (1442, 1442));

    // DHCP networks have none in the metadata: the kernel knows.
    inputs.metadata[0].interfaces[0].mtu = None;
    let spec = resolved(&inputs);
    assert_eq!(*spec.mtu, 1442);
    assert_eq!(
        spec.mtu.origin.to_string(),
        "this machine's MTU of interface ens3"
    );

    inputs.metadata[0].interfaces[0].mtu = Some(9000);
    inputs.layers.push(config("ipip: always"));
    let spec = resolved(&inputs);
    assert_eq!((*spec.mtu, spec.pod_mtu()), (1442, 1422));
    assert_holds(
        &spec.warnings.join("\n"),
        &["is 1442", "is 9000", "the smaller one is used"],
    );

    inputs.layers.push(config("mtu: 1400"));
    inputs.layers.swap(2, 3);
    assert_eq!(*resolved(&inputs).mtu, 1400);
}

#[test]
fn without_tunnels_the_command_for_address_pairs_is_shown() {
    let pairs = format!(
        "openstack port set --allowed-address ip-address=172.20.0.0/16 --allowed-address \
         ip-address=10.68.0.0/16 {PORT}"
    );
    assert_holds(&resolved(&master()).warnings.join("\n"), &[&pairs]);
    for ipip in ["always", "cross-subnet"] {
        let spec = resolved(&configured(&format!("ipip: {ipip}")));
        assert_eq!(spec.warnings, Vec::<String>::new());
    }
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
