#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;
use std::net::IpAddr;
use std::path::Path;

use crate::metadata::model::Interface;

const META: &str = r#"{"uuid": "u", "name": "n", "hostname": "n.novalocal"}"#;

fn fixture(name: &str) -> Metadata {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/metadata")
        .join(name);
    crate::metadata::directory::read(&dir).unwrap()
}

fn raw(meta_data: &[u8], network_data: Option<&[u8]>) -> RawFiles {
    let file = |name: &str, content: &[u8]| RawFile {
        name: format!("openstack/latest/{name}"),
        content: content.to_vec(),
    };
    RawFiles {
        meta_data: file(META_DATA, meta_data),
        network_data: network_data.map(|content| file(NETWORK_DATA, content)),
        user_data: None,
        vendor_data: Vec::new(),
        public_ipv4: None,
        passed_over: Vec::new(),
    }
}

fn meta_error(meta_data: &[u8]) -> String {
    format!(
        "{:#}",
        parse("config drive /dev/sr0", &raw(meta_data, None)).unwrap_err()
    )
}

fn network_error(network_data: &str) -> String {
    let files = raw(META.as_bytes(), Some(network_data.as_bytes()));
    format!("{:#}", parse("config drive /dev/sr0", &files).unwrap_err())
}

/// A `network_data.json` of one link and one network, with these members.
fn network(link: &str, network: &str) -> String {
    format!(
        r#"{{"links": [{{"id": "tap0", {link}}}], "networks": [{{"id": "network0", {network}}}]}}"#
    )
}

#[test]
fn reads_a_queens_server_with_a_static_address() {
    let metadata = fixture("queens-static");
    assert_eq!(metadata.uuid, "4b6b2a9e-0d0c-4b7f-9b0e-5b6f1f1f2c02");
    assert_eq!(metadata.name, "server02");
    assert_eq!(metadata.hostname, "server02.novalocal");
    assert_eq!(metadata.meta["role"], "master");
    assert_eq!(
        metadata.interfaces,
        [Interface {
            mac: "fa:16:3e:4c:2c:02".to_owned(),
            mtu: Some(1450),
            addresses: vec!["192.168.1.102".parse().unwrap()],
            default_route: true,
            port: Some("1c2d3e4f-0202-4a4a-8b8b-000000000002".to_owned()),
            networks: vec!["7d6c5b4a-1111-4222-8333-444455556666".to_owned()],
            ..Interface::default()
        }]
    );
}

#[test]
fn a_dhcp_network_gives_an_interface_without_address_or_mtu() {
    let metadata = fixture("queens-dhcp");
    assert_eq!(
        metadata.interfaces,
        [Interface {
            mac: "fa:16:3e:9d:11:03".to_owned(),
            dhcp: true,
            networks: vec!["7d6c5b4a-1111-4222-8333-444455556666".to_owned()],
            port: Some("2d3e4f50-0303-4a4a-8b8b-000000000003".to_owned()),
            ..Interface::default()
        }]
    );
    assert_eq!(metadata.meta, BTreeMap::new());
}

#[test]
fn reads_a_server_of_2025_with_two_interfaces_and_both_address_families() {
    let metadata = fixture("2025-static");
    let addresses: Vec<_> = metadata
        .interfaces
        .iter()
        .map(|i| i.addresses.clone())
        .collect();
    assert_eq!(
        addresses,
        [
            vec![
                "192.168.1.101".parse::<IpAddr>().unwrap(),
                "2001:db8:1::65".parse().unwrap()
            ],
            vec!["10.20.0.7".parse().unwrap()],
        ]
    );
    assert_eq!(metadata.interfaces[0].mtu, Some(1442));
    assert_eq!(metadata.meta["role"], "worker");
}

#[test]
fn an_address_given_by_slaac_or_dhcp_is_not_a_static_one() {
    let metadata = fixture("2025-dhcp");
    assert_eq!(metadata.interfaces.len(), 1);
    assert_eq!(metadata.interfaces[0].addresses, Vec::<IpAddr>::new());
}

#[test]
fn debug_output_shows_no_property_and_no_password() {
    let metadata = fixture("queens-static");
    assert_eq!(metadata.meta["note"], "Sup3rSecretNote");
    let shown = format!("{metadata:?}");
    assert!(shown.contains("\"note\""), "{shown}");
    assert!(!shown.contains("Sup3rSecretNote"), "{shown}");
    assert!(!shown.contains("Sup3rSecretPassword"), "{shown}");
}

#[test]
fn broken_json_is_located() {
    let cut = "{\n  \"uuid\": \"u\",\n  \"meta\": {\"role\": \"mas";
    assert_eq!(
        meta_error(cut.as_bytes()),
        "config drive /dev/sr0: openstack/latest/meta_data.json: line 3 column 23: \
         `meta.role`: EOF while parsing a string"
    );
    assert!(meta_error(b"").contains("meta_data.json: line 1 column 0: EOF"));
    let twice = format!("{META}\n{META}");
    assert!(meta_error(twice.as_bytes()).ends_with("line 2 column 1: trailing characters"));
}

#[test]
fn text_that_is_not_utf8_is_located_even_where_it_is_not_used() {
    assert!(meta_error(b"{\"keys\": \"\xff\"}").ends_with("meta_data.json: byte 11 is not UTF-8"));
}

/// The metadata of this `meta_data.json`.
fn server(meta_data: &str) -> Metadata {
    parse("drive", &raw(meta_data.as_bytes(), None)).unwrap()
}

#[test]
fn a_server_needs_no_more_than_an_object() {
    for empty in [
        "{}",
        r#"{"uuid": null, "name": "", "hostname": null, "meta": null}"#,
    ] {
        let metadata = server(empty);
        assert_eq!(
            (metadata.uuid, metadata.name, metadata.hostname),
            Default::default()
        );
        assert_eq!(metadata.warnings, [""; 0], "{empty}");
    }
    let metadata = server(r#"{"name": "n", "local-hostname": "rack1-node-0"}"#);
    assert_eq!(metadata.hostname, "rack1-node-0");
    assert_eq!(server(r#"{"meta": []}"#).warnings, [""; 0]);
    assert!(meta_error(b"[1]").ends_with("meta_data.json: is a list; expected an object"));
    assert!(meta_error(b"null").ends_with("is null; expected an object"));
}

#[test]
fn a_value_of_a_wrong_type_is_passed_over_with_one_warning_that_hides_it() {
    for (key, value) in [
        ("uuid", "7"),
        ("hostname", r#"["hunter2"]"#),
        ("meta", r#""hunter2""#),
        ("launch_index", r#""hunter2""#),
        ("project_id", "{}"),
    ] {
        let metadata = server(&format!(r#"{{"name": "n", "{key}": {value}}}"#));
        assert_eq!(metadata.name, "n");
        let warnings = metadata.warnings.join("\n");
        assert_eq!(metadata.warnings.len(), 1, "{key}: {warnings}");
        assert!(
            warnings.starts_with("drive: openstack/latest/meta_data.json: `"),
            "{warnings}"
        );
        assert!(
            warnings.contains(key) && !warnings.contains("hunter2"),
            "{warnings}"
        );
    }
}

#[test]
fn a_property_is_text_or_what_nova_would_make_of_it() {
    let metadata = server(
        r#"{"meta": {"mtu": 1450, "on": true, "none": null, "role": ["master"], "x": {"y": 1}}}"#,
    );
    assert_eq!(metadata.meta["mtu"], "1450");
    assert_eq!(metadata.meta["on"], "true");
    assert_eq!(metadata.meta.len(), 2);
    assert_eq!(metadata.unusable["role"], "a list");
    assert_eq!(metadata.unusable["x"], "an object");
    assert_eq!(metadata.warnings, [""; 0]);
}

#[test]
fn what_nobody_needs_is_passed_over() {
    let mut files = raw(META.as_bytes(), None);
    files.public_ipv4 = Some(RawFile {
        name: "latest/meta-data/public-ipv4".to_owned(),
        content: b"<html>".to_vec(),
    });
    files.passed_over = vec!["vendor_data2.json: answers 500".to_owned()];
    let metadata = parse("drive", &files).unwrap();
    assert_eq!(metadata.public_ipv4, None);
    let warnings = metadata.warnings.join("\n");
    assert!(
        warnings.contains("public-ipv4: is \"<html>\"; expected an IPv4"),
        "{warnings}"
    );
    assert!(
        warnings.contains("drive: vendor_data2.json: answers 500"),
        "{warnings}"
    );
}

#[test]
fn a_key_of_the_input_cannot_break_or_flood_the_message() {
    let key = format!("a\\n\\u001b[31m{}", "x".repeat(10_000));
    let error = meta_error(format!(r#"{{"meta": {{"{key}": tru}}}}"#).as_bytes());
    assert!(!error.contains(char::is_control), "{error}");
    assert!(error.len() < 300, "{error}");
}

/// The interfaces in this `network_data.json`, and the warnings.
fn described(network_data: &str) -> (Vec<Interface>, Vec<String>) {
    let files = raw(META.as_bytes(), Some(network_data.as_bytes()));
    let metadata = parse("drive", &files).unwrap();
    (metadata.interfaces, metadata.warnings)
}

#[test]
fn what_is_null_or_empty_says_nothing() {
    for empty in [
        "",
        " \n",
        "null",
        "{}",
        "[]",
        r#"{"links": null, "networks": null, "services": null}"#,
        r#"{"links": [], "networks": "", "services": {}}"#,
        r#"{"links": [null, {}], "networks": [null]}"#,
    ] {
        let (interfaces, warnings) = described(empty);
        assert_eq!(interfaces, [], "{empty}");
        // An object without a member is a link without an id.
        assert_eq!(
            warnings.len(),
            usize::from(empty.contains("{}]")),
            "{warnings:?}"
        );
    }
    assert!(network_error("{\"links\": [").contains("network_data.json: line 1 column 11"));
}

#[test]
fn all_that_the_schemas_allow_is_understood() {
    let text = network(
        r#""ethernet_mac_address": "FA-16-3E-00-AB-01", "mtu": 1450.0"#,
        r#""type": "ipv4", "link": "tap0", "ip_address": "10.0.0.5/24", "routes": null},
           {"type": "ipv4", "link": "tap0", "network_id": "z"},
           {"type": "ipv6", "link": "tap0", "ip_address": "fe80::1%eth0"},
           {"type": "a new one", "link": "tap0"},
           {"type": "ipv6_dhcp", "link": "tap0", "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0"}]"#,
    );
    let (interfaces, warnings) = described(&text);
    assert_eq!(warnings, [""; 0]);
    assert_eq!(interfaces[0].mac, "fa:16:3e:00:ab:01");
    assert_eq!(interfaces[0].mtu, Some(1450));
    assert!(interfaces[0].default_route);
    assert_eq!(
        interfaces[0].addresses,
        ["10.0.0.5", "fe80::1"].map(|address| address.parse::<IpAddr>().unwrap())
    );
}

#[test]
fn a_vlan_and_a_bond_are_interfaces_with_their_own_addresses() {
    let text = r#"{"links": [
        {"id": "b", "type": "bond", "ethernet_mac_address": "fa:16:3e:00:00:01", "bond_mode": "802.3ad",
         "bond_links": ["p1"], "mtu": 9000},
        {"id": "p1", "type": "phy", "ethernet_mac_address": "fa:16:3e:00:00:01"},
        {"id": "v", "type": "vlan", "vlan_mac_address": "fa:16:3e:00:00:02", "vlan_id": 301, "vlan_link": "b"}
    ]}"#;
    let (interfaces, warnings) = described(text);
    assert_eq!(warnings, [""; 0]);
    let macs: Vec<&str> = interfaces.iter().map(|i| &i.mac[15..]).collect();
    assert_eq!(macs, ["01", "01", "02"]);
}

#[test]
fn an_mtu_of_zero_is_none() {
    for mtu in ["0", "null", "\"\""] {
        let text = network(
            &format!(r#""ethernet_mac_address": "fa:16:3e:00:00:01", "mtu": {mtu}"#),
            r#""type": "ipv4_dhcp", "link": "tap0""#,
        );
        let (interfaces, warnings) = described(&text);
        assert_eq!((interfaces[0].mtu, warnings.len()), (None, 0), "{mtu}");
    }
}

#[test]
fn a_bad_link_or_network_is_passed_over_by_name_and_the_others_stay() {
    let mac = r#""ethernet_mac_address": "fa:16:3e:00:00:01""#;
    let link = |members: &str| format!(r#"{{"id": "tap0", {members}}}"#);
    let network = |kind: &str, members: &str| format!(r#"{{"type": "{kind}", {members}}}"#);
    let dhcp = network("ipv4_dhcp", r#""link": "tap0""#);
    let with = |address: &str| {
        let members = format!(r#""link": "tap0", "ip_address": "{address}""#);
        network("ipv4", &members)
    };
    let longer = r#""ethernet_mac_address": "a0:00:02:20:fe:80:00:00""#;
    let cases = [
        (
            link(longer),
            dhcp.clone(),
            "`links[1].ethernet_mac_address` is \"a0:00:02",
        ),
        (
            link(r#""mtu": 1450"#),
            dhcp.clone(),
            "`links[1].ethernet_mac_address` is missing",
        ),
        (
            link(&format!(r#"{mac}, "mtu": -1"#)),
            dhcp.clone(),
            "`links[1].mtu` is not a number",
        ),
        (
            link(mac),
            network("ipv4_dhcp", r#""link": "tap9""#),
            "`networks[0].link` is \"tap9\", but no link has this id",
        ),
        (
            link(mac),
            with("10.0.0.256"),
            "`networks[0].ip_address` is \"10.0.0.256\"",
        ),
        (link(mac), with("2001:db8::1"), "expected an IPv4 address"),
        (
            format!("{}, {}", link(mac), link(mac)),
            dhcp,
            "`links[2].id`: another link has the id \"tap0\" too",
        ),
        (
            r#"["tap0"]"#.to_owned(),
            "null".to_owned(),
            "`links[1]` is a list; expected an object",
        ),
        (
            link(mac),
            "7".to_owned(),
            "`networks[0]` is a number; expected an object",
        ),
    ];
    for (link, network, expected) in cases {
        let good = r#"{"id": "good", "ethernet_mac_address": "fa:16:3e:00:00:09"}"#;
        let text = format!(r#"{{"links": [{good}, {link}], "networks": [{network}]}}"#);
        let (interfaces, warnings) = described(&text);
        assert_eq!(interfaces[0].mac, "fa:16:3e:00:00:09");
        assert_eq!(warnings.len(), 1, "{text}: {warnings:?}");
        assert!(warnings[0].starts_with("drive: openstack/latest/network_data.json: "));
        assert!(
            warnings[0].contains(expected),
            "{warnings:?}\nlacks {expected}"
        );
    }
}

#[test]
fn a_thousand_bad_links_do_not_flood_the_output() {
    let links = vec!["7"; 1000].join(",");
    let (_, warnings) = described(&format!(r#"{{"links": [{links}]}}"#));
    assert_eq!(warnings.len(), 9);
    assert!(
        warnings[8].ends_with("992 more are passed over"),
        "{warnings:?}"
    );
}

/// Any JSON, with the keys that the parser looks at among its keys.
fn json() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        prop::sample::select(vec![
            "uuid",
            "name",
            "hostname",
            "meta",
            "links",
            "networks",
            "id",
            "link",
            "mtu",
            "type",
            "ethernet_mac_address",
            "ip_address",
        ])
        .prop_map(str::to_owned),
        ".{0,6}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        prop::sample::select(vec!["ipv4", "ipv6", "10.0.0.5/24", "fa:16:3e:00:00:01"])
            .prop_map(Into::into),
        ".{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|members| { Value::Object(members.into_iter().collect()) }),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse("s", &raw(&bytes, None));
        let _ = parse("s", &raw(META.as_bytes(), Some(&bytes)));
    }

    #[test]
    fn any_json_is_parsed_or_refused_in_one_line(value in json()) {
        let text = value.to_string();
        for files in [raw(text.as_bytes(), None), raw(META.as_bytes(), Some(text.as_bytes()))] {
            if let Err(error) = parse("s", &files) {
                let error = format!("{error:#}");
                prop_assert!(!error.contains(char::is_control), "{}", error);
            }
        }
    }

    #[test]
    fn a_file_cut_anywhere_is_refused(at in 0..META.len()) {
        prop_assert!(parse("s", &raw(&META.as_bytes()[..at], None)).is_err());
    }

    #[test]
    fn every_property_arrives_as_it_was_set(
        meta in prop::collection::btree_map("[a-zA-Z0-9_:. -]{1,20}", ".{0,40}", 0..8),
    ) {
        let text = serde_json::json!({"uuid": "u", "name": "n", "hostname": "h", "meta": meta});
        let metadata = parse("s", &raw(text.to_string().as_bytes(), None)).unwrap();
        prop_assert_eq!(metadata.meta, meta);
    }
}

#[test]
fn a_vlan_on_a_bond_has_its_number_and_the_mtu_of_the_bond() {
    let text = r#"{"links": [
        {"id": "nic", "type": "phy", "ethernet_mac_address": "52:54:00:10:00:01"},
        {"id": "bond", "type": "bond", "ethernet_mac_address": "52:54:00:10:00:01", "mtu": 8950,
         "bond_links": ["nic"], "bond_mode": "active-backup"},
        {"id": "tagged", "type": "vlan", "vlan_link": "bond", "vlan_id": 77,
         "ethernet_mac_address": "52:54:00:10:00:01"}],
      "networks": [{"id": "n", "type": "ipv4_dhcp", "link": "tagged",
        "network_id": "0b6f0c1e-0000-4000-8000-00000000004d"}]}"#;
    let (found, warnings) = described(text);
    assert_eq!(warnings, [""; 0]);
    let vlan = &found[2];
    assert_eq!(
        (vlan.vlan, vlan.mtu, vlan.dhcp),
        (Some(77), Some(8950), true)
    );
    assert_eq!(vlan.networks, ["0b6f0c1e-0000-4000-8000-00000000004d"]);
    assert_eq!((found[1].vlan, found[0].mtu), (None, None));
}

#[test]
fn what_python_takes_for_json_stops_nothing() {
    let odd = format!(
        r#"{}NaN{}, "odd": "\udc80""#,
        "[".repeat(300),
        "]".repeat(300)
    );
    let meta = format!(r#"{{"name": "n", "keys": {odd}}}"#);
    let link = r#"{"id": "tap0", "ethernet_mac_address": "fa:16:3e:00:00:01"}"#;
    let network = format!(r#"{{"services": {odd}, "links": [{link}]}}"#);
    let found = parse("s", &raw(meta.as_bytes(), Some(network.as_bytes()))).unwrap();
    assert_eq!((found.name.as_str(), found.interfaces.len()), ("n", 1));
}
