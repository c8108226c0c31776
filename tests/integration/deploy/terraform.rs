//! The Terraform module, read by a parser of its language.

use std::collections::BTreeSet;

use appliance::nodespec::ports::{OPENINGS, When};
use appliance::user_data::SIZE_LIMIT;
use serde_json::{Value, json};

use super::{Rule, protocol, python, rule};
use crate::harness::said;

/// The text of a quoted string of the parser.
fn unquoted(value: &Value) -> Option<&str> {
    value.as_str()?.strip_prefix('"')?.strip_suffix('"')
}

/// The Terraform module: all blocks of that kind in all its files.
fn blocks(module: &Value, kind: &str) -> Vec<Value> {
    let files = module.as_object().unwrap().values();
    let blocks = files.filter_map(|file| file[kind].as_array());
    blocks.flatten().cloned().collect()
}

fn module() -> Value {
    let output = python("parse_hcl.py", &["deploy/terraform"]);
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn find(blocks: &[Value], path: &[&str]) -> Value {
    let mut found = blocks.iter().filter_map(|block| {
        path.iter().try_fold(block, |block, key| {
            block.get(format!("\"{key}\"")).or(block.get(*key))
        })
    });
    found
        .next()
        .unwrap_or_else(|| panic!("no {path:?}"))
        .clone()
}

#[test]
fn the_terraform_module_opens_what_the_table_says() {
    let module = module();
    let locals = blocks(&module, "locals");
    assert_eq!(
        find(&locals, &["holds"]),
        json!({
            "always": true,
            "tls": true,
            "routed": r#"${var.ipip != "always"}"#,
            "tunnelled": r#"${var.ipip != "off"}"#,
        })
    );
    let variables = blocks(&module, "variable");
    let node_ports = find(&variables, &["node_ports", "default"]);
    let openings = find(&locals, &["openings"]);
    let made = OPENINGS.iter();
    let made: Vec<_> = made.filter(|one| one.when != When::Simple).collect();
    for opening in &made {
        let found = &openings[opening.name];
        let text = |key: &str| unquoted(&found[key]).unwrap_or_default().to_owned();
        let ports = match &found["ports"] {
            Value::String(_) => node_ports.clone(),
            ports => ports.clone(),
        };
        let port = |index: usize| {
            ports[index]
                .as_u64()
                .map(|port| u16::try_from(port).unwrap())
        };
        let protocol = unquoted(&found["protocol"]).and_then(protocol);
        let rule_found: Rule = (text("on"), text("from"), protocol, port(0).zip(port(1)));
        assert_eq!(rule_found, rule(opening), "{}", opening.name);
        let when = format!("{:?}", opening.when).to_lowercase();
        assert_eq!(text("when"), when, "{}", opening.name);
    }
    assert_eq!(openings.as_object().unwrap().len(), made.len());
}

#[test]
fn the_terraform_modules_rules_are_made_of_its_openings() {
    let module = module();
    let resources = blocks(&module, "resource");
    let rules = find(
        &resources,
        &["openstack_networking_secgroup_rule_v2", "openings"],
    );
    for (key, value) in [
        (
            "for_each",
            "${{for name, opening in local.openings : name => opening if local.holds[opening.when]}}",
        ),
        ("security_group_id", "${local.groups[each.value.on]}"),
        ("protocol", "${each.value.protocol}"),
        ("port_range_min", "${try(each.value.ports[0], null)}"),
        ("port_range_max", "${try(each.value.ports[1], null)}"),
        (
            "remote_group_id",
            "${lookup(local.groups, each.value.from, null)}",
        ),
        (
            "remote_ip_prefix",
            "${lookup(local.prefixes, each.value.from, null)}",
        ),
        ("direction", "\"ingress\""),
    ] {
        assert_eq!(rules[key], value, "{key}");
    }
    let kinds: BTreeSet<&str> = resources
        .iter()
        .flat_map(|block| block.as_object().unwrap().keys())
        .map(|kind| kind.trim_matches('"'))
        .filter(|kind| kind.starts_with("openstack_"))
        .collect();
    for kind in [
        "openstack_compute_instance_v2",
        "openstack_compute_servergroup_v2",
        "openstack_networking_floatingip_associate_v2",
        "openstack_networking_port_v2",
        "openstack_networking_secgroup_v2",
    ] {
        assert!(kinds.contains(kind), "{kind}");
    }
    for variable in blocks(&module, "variable") {
        let (name, variable) = variable.as_object().unwrap().iter().next().unwrap();
        assert!(variable["description"].is_string(), "{name}");
    }
}

/// The variables whose values the module refuses.
fn refused(values: &Value) -> Vec<String> {
    let mut all = json!({
        "user_data": "#cloud-config\n", "clients": "192.0.2.0/24", "image": "i",
        "master_flavor": "m", "worker_flavor": "w", "network_id": "n", "subnet_id": "s",
    });
    for (name, value) in values.as_object().unwrap() {
        all[name] = value.clone();
    }
    let output = python(
        "check_variables.py",
        &["deploy/terraform", &all.to_string()],
    );
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_terraform_module_refuses_what_cannot_be() {
    for good in [
        json!({}),
        json!({"clients": "0.0.0.0/0", "pod_cidr": "10.128.0.0/9", "service_cidr": "10.68.0.0/24"}),
        json!({"masters": 3, "workers": 0, "node_ports": [30000, 30000], "security_groups": ["g"]}),
        json!({"user_data": "x".repeat(SIZE_LIMIT)}),
    ] {
        assert!(refused(&good).is_empty(), "{good}");
    }
    for (name, bad) in [
        (
            "clients",
            json!([
                "2001:db8::/32",
                "192.0.2.5/24",
                "192.0.2.0/33",
                "192.0.2.0",
                "",
                "all"
            ]),
        ),
        (
            "pod_cidr",
            json!(["172.20.0.1/16", "fd00::/48", "172.20.0.0"]),
        ),
        ("service_cidr", json!(["10.68.0.0/12", "::/0"])),
        (
            "node_ports",
            json!([
                [40000, 20000],
                [],
                [20000],
                [1, 2, 3],
                [0, 1],
                [1, 65536],
                [1.5, 2]
            ]),
        ),
        ("masters", json!([0, 2, 1.5])),
        ("workers", json!([2.5, -1])),
        (
            "name",
            json!(["", "Kubernetes", "1st", "k-", "a.b", "k\n", "k".repeat(31)]),
        ),
        ("security_groups", json!([[""], ["g", ""]])),
        ("ipip", json!(["", "sometimes"])),
        ("server_group_policy", json!(["affinity"])),
        ("user_data", json!(["", "x".repeat(SIZE_LIMIT + 1)])),
        ("image", json!([""])),
        ("subnet_id", json!([""])),
    ] {
        for value in bad.as_array().unwrap() {
            assert_eq!(refused(&json!({ name: value })), [name], "{value}");
        }
    }
}
