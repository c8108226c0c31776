#![allow(clippy::unwrap_used)]
use serde_json::json;

use super::*;

/// The interfaces that the links make, with a network on the link `used`; and how much was told.
fn described(links: &Value) -> (Vec<Interface>, Vec<String>) {
    let network = json!({"id": "n0", "type": "ipv4", "link": "used", "ip_address": "198.51.100.4"});
    let mut warnings = Warnings::new("file".to_owned());
    let data = json!({"links": links, "networks": [network]});
    let interfaces = interfaces(&data, &mut warnings);
    (interfaces, warnings.list())
}

#[test]
fn vlans_and_bonds_without_an_address_have_that_of_the_link_below_in_any_order() {
    let port = json!({"id": "p0", "type": "phy", "ethernet_mac_address": "52:54:00:00:00:01", "mtu": 8900});
    let other = json!({"id": "p1", "type": "phy", "ethernet_mac_address": "52:54:00:00:00:02"});
    let bond = json!({"id": "b", "type": "bond", "bond_links": ["p0", "p1"], "ethernet_mac_address": null});
    let used = |link: Value| {
        let mut link = link;
        link["id"] = "used".into();
        link
    };
    let vlan = |below: &str| json!({"type": "vlan", "vlan_id": 7, "vlan_link": below});
    let cases = [
        (used(bond.clone()), json!([port, other]), None),
        (used(vlan("p0")), json!([port]), Some(8900)),
        (used(vlan("b")), json!([bond, port, other]), Some(8900)),
    ];
    for (link, rest, mtu) in cases {
        let rest = rest.as_array().unwrap();
        let before: Vec<Value> = [std::slice::from_ref(&link), rest.as_slice()].concat();
        let after: Vec<Value> = rest.iter().cloned().chain([link]).collect();
        for links in [before, after] {
            let (interfaces, warnings) = described(&links.clone().into());
            assert_eq!(warnings, [""; 0], "{links:?}");
            let mut with_network = interfaces.iter().filter(|i| !i.addresses.is_empty());
            let interface = with_network.next().unwrap();
            assert_eq!(interface.mac, "52:54:00:00:00:01");
            assert_eq!(interface.mtu, mtu, "{links:?}");
        }
    }
}

#[test]
fn links_that_stand_on_each_other_in_a_circle_have_no_address() {
    let vlan = |id: &str, below: &str| json!({"id": id, "type": "vlan", "vlan_link": below});
    let (interfaces, warnings) = described(&json!([vlan("used", "b"), vlan("b", "used")]));
    assert_eq!(interfaces, []);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

#[test]
fn links_that_are_no_list_are_told_once() {
    let (interfaces, warnings) = described(&json!("tap0"));
    assert_eq!(interfaces, []);
    assert_eq!(
        warnings,
        ["file: `links` is text; expected a list; it is passed over"]
    );
}
