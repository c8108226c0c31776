//! Who the masters of a cluster are, and what a node of it has.

use std::net::Ipv4Addr;

use appliance::nodespec::settings::Settings;
use appliance::nodespec::value::{Layer, Place};
use appliance::nodespec::{HostFacts, HostInterface, Inputs, NodeSpec, Role};

use crate::harness::Machine;

const THREE: &str = "
inventory:
- {name: server02, role: master, address: 192.168.1.102}
- {name: server01, role: worker, address: 192.168.1.101}
- {name: server04, role: master, address: 192.168.1.104}
- {name: server05, role: single, address: 192.168.1.105}
";

/// The VM of that number in the tutorial's network, with that user-data.
fn vm(number: u8, yaml: &str) -> Inputs {
    let settings = Settings::from_yaml("test", yaml).unwrap();
    let place = Place::UserData("config drive".to_owned());
    Inputs {
        layers: vec![Layer::new(place, settings)],
        host: HostFacts {
            hostname: format!("server{number:02}"),
            interfaces: Some(vec![HostInterface {
                name: "ens3".to_owned(),
                addresses: vec![format!("192.168.1.1{number:02}/24").parse().unwrap()],
                ..HostInterface::default()
            }]),
            ..HostFacts::default()
        },
        ..Inputs::default()
    }
}

fn resolved(number: u8, yaml: &str) -> NodeSpec {
    NodeSpec::resolve(&vm(number, yaml)).unwrap_or_else(|refused| panic!("{refused}"))
}

fn refusal(number: u8, yaml: &str) -> String {
    NodeSpec::resolve(&vm(number, yaml))
        .unwrap_err()
        .to_string()
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 1, 100 + number)
}

#[test]
fn one_inventory_tells_every_vm_its_masters_and_the_first_founds() {
    let all = [address(2), address(4), address(5)];
    for (number, role, founds) in [
        (2, Role::Master, true),
        (4, Role::Master, false),
        (5, Role::Single, false),
        (1, Role::Worker, false),
    ] {
        let spec = resolved(number, THREE);
        assert_eq!((*spec.role, spec.is_founder()), (role, founds), "{number}");
        assert_eq!(spec.master_addresses(), all, "{number}");
        assert!(spec.shape().balanced, "{number}");
    }
    assert_eq!(resolved(4, THREE).other_masters(), [address(2), address(5)]);
}

#[test]
fn masters_can_be_a_setting_and_their_addresses_give_the_role() {
    let yaml = "masters: [server02=192.168.1.102, server04=192.168.1.104, server05=192.168.1.105]";
    let spec = resolved(5, yaml);
    assert_eq!((*spec.role, spec.is_founder()), (Role::Master, false));
    let explained: Vec<_> = spec
        .explain()
        .into_iter()
        .filter(|row| row.name == "masters")
        .collect();
    assert!(
        explained[0].value.contains("server05=192.168.1.105"),
        "{explained:?}"
    );
}

#[test]
fn a_single_master_has_no_balancer() {
    let spec = resolved(
        2,
        "inventory: [{name: server02, role: master, address: 192.168.1.102}]",
    );
    assert!(!spec.shape().balanced && spec.is_founder());
    assert_eq!(spec.master_addresses(), [address(2)]);
}

#[test]
fn masters_that_cannot_be_are_refused_with_the_reason() {
    let two = "masters: server02=192.168.1.102,server04=192.168.1.104";
    for (number, yaml, reason) in [
        (2, two.to_owned(), "configure one or three"),
        (2, format!("profile: simple\n{THREE}"), "profile simple"),
        (
            6,
            format!("role: master\n{THREE}"),
            "which is not among the masters",
        ),
        (
            4,
            format!("role: worker\n{THREE}"),
            "is also the address of the master server04",
        ),
        (
            2,
            THREE.replace("name: server05, ", ""),
            "with several masters, each needs both",
        ),
        (
            2,
            format!("master: 192.168.1.101\n{THREE}"),
            "none of the masters has this address",
        ),
        (
            2,
            format!("balancerPort: 6444\n{THREE}"),
            "the join service uses this port",
        ),
    ] {
        let text = refusal(number, &yaml);
        assert!(text.contains(reason), "{reason:?} is not in: {text}");
    }
}

#[test]
fn etcds_data_of_another_cluster_is_neither_served_nor_lost() {
    let machine = Machine::new();
    machine.put("etc/appliance/config.yaml", THREE);
    machine.put("var/lib/etcd/member/snap/db", "another cluster's");
    let told = machine.refusal(&[]);
    assert!(
        told.contains("/var/lib/etcd/member holds etcd data")
            && told.contains("move it away: `mv /var/lib/etcd/member "),
        "{told}"
    );
    assert_eq!(
        machine.read("var/lib/etcd/member/snap/db"),
        "another cluster's"
    );
}
