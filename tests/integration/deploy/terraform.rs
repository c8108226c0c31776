//! The Terraform module, read by a parser of its language.

use std::collections::BTreeSet;

use appliance::nodespec::ports::{OPENINGS, When};
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
