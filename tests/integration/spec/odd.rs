//! Machines and metadata that are odd, but say enough.

use super::{DRIVE, assert_holds, config, interface, master, property, refusal, resolved};
use appliance::nodespec::{Inputs, Role};

/// A master whose metadata says nothing about addresses.
fn with_addresses(addresses: &[&str]) -> Inputs {
    let mut inputs = master();
    inputs.metadata[0].interfaces.clear();
    inputs.host.interfaces = Some(vec![interface("ens3", 2, addresses)]);
    inputs
}

#[test]
fn a_link_local_address_is_not_the_nodes_unless_it_is_the_only_one() {
    let spec = resolved(&with_addresses(&["169.254.7.7/16", "192.168.1.102/24"]));
    assert_eq!(spec.address.to_string(), "192.168.1.102");
    assert_holds(&spec.address.origin.to_string(), &["not link-local"]);

    let mut two = with_addresses(&["192.168.1.102/24"]);
    let nics = two.host.interfaces.as_mut().unwrap();
    nics.insert(0, interface("ens4", 3, &["169.254.7.7/16"]));
    nics[0].has_default_route = true;
    assert_eq!(resolved(&two).address.to_string(), "192.168.1.102");

    let only = resolved(&with_addresses(&["169.254.7.7/16"]));
    assert_eq!(only.address.to_string(), "169.254.7.7");
}

#[test]
fn of_two_subnets_on_one_interface_that_of_the_gateway_counts() {
    let mut inputs = with_addresses(&["10.9.0.12/24", "192.168.1.102/24"]);
    assert_holds(
        &refusal(&inputs),
        &["10.9.0.12 on ens3, 192.168.1.102 on ens3"],
    );
    let nic = &mut inputs.host.interfaces.as_mut().unwrap()[0];
    nic.has_default_route = true;
    nic.gateway = Some("192.168.1.1".parse().unwrap());
    let spec = resolved(&inputs);
    assert_eq!(spec.address.to_string(), "192.168.1.102");
    assert_holds(
        &spec.address.origin.to_string(),
        &["default route's gateway"],
    );
    // The master is nearer.
    inputs.layers.push(config("master: 10.9.0.1"));
    assert_eq!(resolved(&inputs).address.to_string(), "10.9.0.12");
}

#[test]
fn an_mtu_that_no_network_has_is_passed_over_unless_an_operator_says_it() {
    for mtu in [20, 70_000] {
        let mut inputs = master();
        inputs.metadata[0].interfaces[0].mtu = Some(mtu);
        let spec = resolved(&inputs);
        assert!((576..=9216).contains(&*spec.mtu));
        let warnings = spec.warnings.join("\n");
        assert_holds(&warnings, &[&format!("is {mtu}: expected"), "passed over"]);
        inputs.layers.push(config(&format!("mtu: {mtu}")));
        assert_holds(&refusal(&inputs), &["`mtu` is"]);
    }
}

#[test]
fn a_property_with_spaces_around_its_value_is_read() {
    let mut inputs = master();
    inputs.layers[0] = property(DRIVE, "{}");
    let meta = [("role".to_owned(), " worker\n".to_owned())].into();
    inputs.layers[0] = appliance::nodespec::value::Layer::of_properties(DRIVE, &meta).unwrap();
    inputs.layers.push(config("master: 192.168.1.10"));
    assert_eq!(*resolved(&inputs).role, Role::Worker);
}

#[test]
fn a_machine_without_a_name_of_its_own_has_that_of_user_data() {
    let mut inputs = master();
    inputs.metadata[0].hostname.clear();
    inputs.metadata[0].name.clear();
    inputs.metadata[0].user_data = Some(b"#cloud-config\nhostname: Rack-7\n".to_vec());
    inputs.host.hostname = "web-3".to_owned();
    assert_eq!(*resolved(&inputs).name, "web-3");
    for nameless in ["", "localhost", "localhost.localdomain"] {
        inputs.host.hostname = nameless.to_owned();
        let spec = resolved(&inputs);
        assert_eq!(*spec.name, "rack-7");
        assert_holds(&spec.name.origin.to_string(), &["user-data: `hostname`"]);
    }
    inputs.metadata[0].user_data = None;
    assert_holds(&refusal(&inputs), &["nodeName"]);
}
