#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;
use std::path::Path;

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

#[test]
fn a_wrong_type_is_named_with_its_path_and_without_its_value() {
    let with = |meta: &str| {
        meta_error(
            format!(r#"{{"uuid": "u", "name": "n", "hostname": "h", "meta": {meta}}}"#).as_bytes(),
        )
    };
    assert!(
        with(r#"{"role": ["master"]}"#)
            .ends_with("`meta.role`: invalid type: sequence, expected a string")
    );
    assert!(
        with(r#"{"pin": 918273}"#)
            .ends_with("`meta.pin`: invalid type: integer, expected a string")
    );
    let secret = r#""password=hunter2, expected `nothing` at line 1 column 1""#;
    assert!(with(secret).ends_with("`meta`: invalid type: string, expected a map"));
    assert!(with("null").ends_with("`meta`: invalid type: null, expected a map"));
}

#[test]
fn a_list_is_not_taken_for_an_object() {
    let error = meta_error(br#"["u", "n", "h", {}]"#);
    assert!(
        error.ends_with("invalid type: sequence, expected a map"),
        "{error}"
    );
    let error = network_error(r#"{"links": [["tap0", "fa:16:3e:00:00:01", null]]}"#);
    assert!(
        error.contains("`links[0]`: invalid type: sequence"),
        "{error}"
    );
}

#[test]
fn a_missing_key_is_named() {
    assert!(meta_error(br#"{"name": "n", "hostname": "h"}"#).contains("missing field `uuid`"));
}

#[test]
fn a_key_of_the_input_cannot_break_or_flood_the_message() {
    let key = format!("a\\n\\u001b[31m{}", "x".repeat(10_000));
    let error = meta_error(format!(r#"{{"meta": {{"{key}": 1}}}}"#).as_bytes());
    assert!(!error.contains(char::is_control), "{error}");
    assert!(error.len() < 300, "{error}");
}

#[test]
fn an_empty_network_description_gives_no_interface() {
    let files = raw(META.as_bytes(), Some(b"{}"));
    assert_eq!(parse("service", &files).unwrap().interfaces, []);
}

#[test]
fn a_mac_is_lowered_and_an_address_may_carry_its_prefix_length() {
    let text = network(
        r#""ethernet_mac_address": "FA:16:3E:00:AB:01", "mtu": null"#,
        r#""type": "ipv4", "link": "tap0", "ip_address": "10.0.0.5/24""#,
    );
    let metadata = parse("service", &raw(META.as_bytes(), Some(text.as_bytes()))).unwrap();
    assert_eq!(metadata.interfaces[0].mac, "fa:16:3e:00:ab:01");
    assert_eq!(
        metadata.interfaces[0].addresses,
        ["10.0.0.5".parse::<IpAddr>().unwrap()]
    );
}

#[test]
fn a_bad_link_or_network_is_refused_by_name() {
    let mac = r#""ethernet_mac_address": "fa:16:3e:00:00:01""#;
    let dhcp = r#""type": "ipv4_dhcp", "link": "tap0""#;
    let cases = [
        (
            network(r#""ethernet_mac_address": "fa:16:3e""#, dhcp),
            "`links[0]`: `ethernet_mac_address` is \"fa:16:3e\"",
        ),
        (
            network(r#""mtu": 1450"#, dhcp),
            "missing field `ethernet_mac_address`",
        ),
        (
            network(&format!(r#"{mac}, "mtu": 10"#), dhcp),
            "`links[0]`: `mtu` is 10; expected 68 to 65535",
        ),
        (
            network(&format!(r#"{mac}, "mtu": -1"#), dhcp),
            "`links[0].mtu`: invalid value: integer, expected u32",
        ),
        (
            network(mac, r#""type": "ipv4_dhcp", "link": "tap9""#),
            "`networks[0].link` is \"tap9\", but the links are: tap0",
        ),
        (
            network(mac, r#""type": "ipv4", "link": "tap0""#),
            "`networks[0]`: type ipv4 without `ip_address`",
        ),
        (
            network(
                mac,
                r#""type": "ipv4", "link": "tap0", "ip_address": "10.0.0.256""#,
            ),
            "`ip_address` is \"10.0.0.256\"; expected an IPv4",
        ),
        (
            network(
                mac,
                r#""type": "ipv6", "link": "tap0", "ip_address": "10.0.0.5""#,
            ),
            "expected an IPv6 address",
        ),
        (
            format!(r#"{{"links": [{{"id": "a", {mac}}}, {{"id": "a", {mac}}}]}}"#),
            "`links[1].id`: another link has the id \"a\" too",
        ),
    ];
    for (text, expected) in cases {
        let error = network_error(&text);
        assert!(
            error.starts_with("config drive /dev/sr0: openstack/latest/network_data.json: "),
            "{error}"
        );
        assert!(error.contains(expected), "{error}\nlacks {expected}");
    }
}

/// Any JSON, with the keys that the parser looks at among its keys.
fn json() -> impl Strategy<Value = serde_json::Value> {
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
        Just(serde_json::Value::Null),
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
                .prop_map(|members| { serde_json::Value::Object(members.into_iter().collect()) }),
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
    let data = decode(&RawFile {
        name: "network_data.json".to_owned(),
        content: text.into(),
    });
    let found = interfaces(data.unwrap()).unwrap();
    let vlan = &found[2];
    assert_eq!(
        (vlan.vlan, vlan.mtu, vlan.dhcp),
        (Some(77), Some(8950), true)
    );
    assert_eq!(vlan.networks, ["0b6f0c1e-0000-4000-8000-00000000004d"]);
    assert_eq!((found[1].vlan, found[0].mtu), (None, None));
}
