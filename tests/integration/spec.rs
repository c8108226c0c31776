//! What is refused before anything is written, and what a node is made of when nothing is.

use std::collections::BTreeMap;

use appliance::metadata::{Interface, Metadata};
use appliance::spec::settings::{Origin, Settings};
use appliance::spec::{HostFacts, HostInterface, Inputs, NodeSpec};

const DRIVE: &str = "config drive /dev/sr0";

/// What the tutorial's master is given: its role as a server property, a static address.
fn master() -> Inputs {
    Inputs {
        metadata: Some((
            Metadata {
                source: DRIVE.to_owned(),
                uuid: "8d1a7f36-6a26-4b7a-8c1c-2f4c6f0e9b11".to_owned(),
                name: "Server 02".to_owned(),
                hostname: "server02.novalocal".to_owned(),
                meta: BTreeMap::new(),
                interfaces: vec![Interface {
                    mac: "fa:16:3e:00:00:02".to_owned(),
                    mtu: Some(1450),
                    addresses: vec!["192.168.1.102".parse().unwrap()],
                }],
            },
            Settings {
                role: Some("master".to_owned()),
                ..Settings::default()
            },
        )),
        host: HostFacts {
            hostname: "localhost".to_owned(),
            interfaces: Some(vec![interface("ens3", "192.168.1.102/24")]),
        },
        ..Inputs::default()
    }
}

fn interface(name: &str, address: &str) -> HostInterface {
    HostInterface {
        name: name.to_owned(),
        address: address.parse().unwrap(),
    }
}

fn configured(settings: Settings) -> Inputs {
    Inputs {
        config: Some(("site.yaml".to_owned(), settings)),
        ..master()
    }
}

fn refusal(inputs: &Inputs) -> String {
    NodeSpec::resolve(inputs).unwrap_err().to_string()
}

#[test]
fn the_tutorials_master_needs_its_role_only() {
    let spec = NodeSpec::resolve(&master()).unwrap();
    assert_eq!(spec.name.value, "server02");
    assert_eq!(spec.address.to_string(), "192.168.1.102");
    assert_eq!(*spec.mtu, 1450);
    assert_eq!(spec.cluster.api_server_ip().to_string(), "10.68.0.1");
    assert_eq!(spec.cluster.dns_ip().to_string(), "10.68.0.2");
    assert_eq!(spec.role.origin, Origin::Property(DRIVE.to_owned(), "role"));
}

#[test]
fn a_flag_wins_over_the_file_and_the_file_over_a_property() {
    let mut inputs = configured(Settings {
        role: Some("single".to_owned()),
        ..Settings::default()
    });
    assert!(refusal(&inputs).contains("configuration site.yaml: `role` is \"single\""));
    inputs.role = Some("master".to_owned());
    let spec = NodeSpec::resolve(&inputs).unwrap();
    assert_eq!(spec.role.origin, Origin::Flag("--role"));
}

#[test]
fn an_unknown_role_names_its_place_and_the_command_that_mends_it() {
    let mut inputs = master();
    inputs.metadata.as_mut().unwrap().1.role = Some("mastre".to_owned());
    let text = refusal(&inputs);
    assert!(
        text.contains("config drive /dev/sr0: `meta.role` is \"mastre\""),
        "{text}"
    );
    assert!(
        text.contains("openstack server set --property role=master"),
        "{text}"
    );
}

#[test]
fn without_a_role_every_place_that_was_looked_at_is_listed() {
    let mut inputs = master();
    let (metadata, settings) = inputs.metadata.as_mut().unwrap();
    settings.role = None;
    metadata.meta.insert("rloe".to_owned(), "master".to_owned());
    let text = refusal(&inputs);
    assert!(
        text.contains("flag --role") && text.contains(DRIVE),
        "{text}"
    );
    assert!(
        text.contains("`meta.rloe` is there: is it misspelt?"),
        "{text}"
    );

    inputs.metadata = None;
    inputs.looked_at = vec!["no config drive".to_owned()];
    assert!(refusal(&inputs).contains("no config drive"));
}

#[test]
fn an_address_this_machine_does_not_have_is_refused_with_those_it_has() {
    let mut inputs = master();
    inputs.host.interfaces = Some(vec![interface("ens3", "10.0.0.5/24")]);
    let text = refusal(&inputs);
    assert!(
        text.contains("192.168.1.102") && text.contains("10.0.0.5 on ens3"),
        "{text}"
    );
}

#[test]
fn several_addresses_are_never_guessed_at() {
    let mut inputs = master();
    inputs.metadata.as_mut().unwrap().0.interfaces.clear();
    inputs.host.interfaces = Some(vec![
        interface("ens3", "192.168.1.102/24"),
        interface("ens4", "10.0.0.5/24"),
    ]);
    let text = refusal(&inputs);
    assert!(
        text.contains("192.168.1.102 on ens3, 10.0.0.5 on ens4"),
        "{text}"
    );
}

#[test]
fn a_dhcp_networks_address_is_read_from_the_only_interface() {
    let mut inputs = master();
    inputs.metadata.as_mut().unwrap().0.interfaces[0]
        .addresses
        .clear();
    let spec = NodeSpec::resolve(&inputs).unwrap();
    assert_eq!(spec.address.origin, Origin::Host("only network interface"));
}

#[test]
fn ranges_that_share_an_address_are_refused_by_name() {
    let cases = [
        (
            "10.68.0.0/15",
            "podCIDR 10.68.0.0/15",
            "serviceCIDR 10.68.0.0/16",
        ),
        (
            "192.168.0.0/16",
            "podCIDR 192.168.0.0/16",
            "this node's subnet 192.168.1.0/24",
        ),
    ];
    for (range, one, other) in cases {
        let inputs = configured(Settings {
            pod_cidr: Some(range.to_owned()),
            ..Settings::default()
        });
        let text = refusal(&inputs);
        assert!(
            text.contains(one) && text.contains(other) && text.contains("overlaps"),
            "{text}"
        );
    }
}

#[test]
fn values_that_could_break_a_unit_are_refused_as_typed() {
    for hostile in ["a\nExecStartPre=/bin/evil", "50%", "quo\"te", "it's"] {
        let inputs = configured(Settings {
            node_name: Some(hostile.to_owned()),
            ..Settings::default()
        });
        let text = refusal(&inputs);
        assert!(
            text.contains(&format!("`nodeName` is {hostile:?}")),
            "{text}"
        );
        assert!(!text.contains("a\nExec"), "{text}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let settings = Settings {
        pod_cidr: Some("172.20.0.0".to_owned()),
        profile: Some("simpel".to_owned()),
        ipip: Some("on".to_owned()),
        ..Settings::default()
    };
    let text = refusal(&configured(settings));
    for key in ["`podCIDR`", "`profile`", "`ipip`"] {
        assert!(text.contains(key), "{key} is missing: {text}");
    }
}

#[test]
fn every_value_can_be_explained() {
    let inputs = configured(Settings {
        pod_cidr: Some("172.21.0.0/16".to_owned()),
        ..Settings::default()
    });
    let spec = NodeSpec::resolve(&inputs).unwrap();
    let rows = spec.explain();
    let pods = rows.iter().find(|(name, ..)| *name == "podCIDR").unwrap();
    assert_eq!(pods.2.to_string(), "configuration site.yaml: `podCIDR`");
}
