#![allow(clippy::unwrap_used)]
use super::*;

#[test]
fn a_misspelt_key_of_the_configuration_is_refused_with_a_suggestion() {
    let error =
        Settings::from_yaml("configuration site.yaml", "podCDIR: 172.20.0.0/16\n").unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("configuration site.yaml"), "{text}");
    assert!(text.contains("did you mean `podCIDR`?"), "{text}");
}

#[test]
fn every_misspelt_key_is_refused_with_the_nearest_one_that_is_possible_there() {
    for (text, meant) in [
        ("inventroy: []\n", "inventory"),
        ("inventory: [{nmae: x, role: worker}]\n", "name"),
        ("roleRules: [{hostname: x, role: worker}]\n", "hostName"),
        ("join: {tokn: x}\n", "token"),
    ] {
        let error = Settings::from_yaml("site.yaml", text).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains(&format!("did you mean `{meant}`?")), "{text}");
    }
}

#[test]
fn full_width_punctuation_is_named_with_its_line() {
    let text = "# 角色：主节点\nrole：master\n";
    let error = Settings::from_yaml("site.yaml", text).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("line 2: `：` is"), "{text}");
}

#[test]
fn a_configuration_is_written_as_people_write_yaml() {
    let text = "mtu: 1450\nipip: off\napiServerSANs: [api.example.org, 203.0.113.7]\n\
        hosts:\n  server01: 192.168.1.101\nroleRules:\n- launchIndex: 0\n  role: master\n";
    let settings = Settings::from_yaml("site.yaml", text).unwrap();
    assert_eq!(settings.mtu.as_deref(), Some("1450"));
    assert_eq!(settings.ipip.as_deref(), Some("off"));
    assert_eq!(
        settings.api_server_sans.as_deref(),
        Some("api.example.org,203.0.113.7")
    );
    assert_eq!(settings.hosts.unwrap()["server01"], "192.168.1.101");
    assert_eq!(
        settings.role_rules.unwrap()[0].launch_index.as_deref(),
        Some("0")
    );
}
