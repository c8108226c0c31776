//! The Heat stack, evaluated by Heat's own engine.

use std::collections::BTreeSet;

use appliance::nodespec::Ipip;
use appliance::user_data::SIZE_LIMIT;
use serde_json::{Value, json};

use super::{
    CLIENTS, EVERY_IPIP, POD_CIDR, Rule, SERVICE_CIDR, peer_of_range, protocol, python, wanted,
};
use crate::harness::said;

/// The stack with each set of parameters, as Heat's engine evaluates it; `Err` contains the error of a
/// stack that it refuses.
fn stacks(parameters: &[Value]) -> Vec<Result<Value, String>> {
    let all = parameters.iter().map(|parameters| {
        let mut all = json!({
            "user_data": "#cloud-config\n", "image": "image", "master_flavor": "m", "worker_flavor": "w",
            "network": "network", "subnet": "subnet", "clients": CLIENTS,
        });
        for (name, value) in parameters.as_object().unwrap() {
            all[name] = value.clone();
        }
        all
    });
    let all = Value::from_iter(all).to_string();
    let output = python("validate_stack.py", &["deploy/heat/cluster.yaml", &all]);
    assert!(output.status.success(), "{}", said(&output));
    let stacks: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let result = |stack: Value| match stack {
        Value::String(error) => Err(error),
        stack => Ok(stack),
    };
    stacks.into_iter().map(result).collect()
}

fn rules_of_stack(stack: &Value) -> BTreeSet<Rule> {
    let mut rules = BTreeSet::new();
    for (name, group) in stack.as_object().unwrap() {
        if group["type"] != "OS::Neutron::SecurityGroup" {
            continue;
        }
        let own = name.strip_suffix("_group").unwrap();
        for rule in group["properties"]["rules"].as_array().unwrap() {
            assert_eq!(
                (&rule["direction"], &rule["ethertype"]),
                (&json!("ingress"), &json!("IPv4"))
            );
            let from = match rule["remote_mode"].as_str().unwrap() {
                // Without a name it means the group itself.
                "remote_group_id" => rule["remote_group_id"]
                    .as_str()
                    .map_or(own, |group| group.strip_suffix("_group").unwrap())
                    .to_owned(),
                _ => peer_of_range(rule["remote_ip_prefix"].as_str().unwrap()),
            };
            let port = |key: &str| rule[key].as_u64().map(|port| u16::try_from(port).unwrap());
            let ports = port("port_range_min").zip(port("port_range_max"));
            let protocol = rule["protocol"].as_str().and_then(protocol);
            let is_new = rules.insert((own.to_owned(), from, protocol, ports));
            assert!(is_new, "{name} has a rule twice: {rule}");
        }
    }
    rules
}

#[test]
fn the_heat_stack_is_valid_and_opens_what_the_table_says() {
    let wanted_stacks = EVERY_IPIP.map(|ipip| json!({"ipip": ipip.to_string(), "masters": 3}));
    for (ipip, stack) in EVERY_IPIP.into_iter().zip(stacks(&wanted_stacks)) {
        let stack = stack.unwrap();
        assert_eq!(rules_of_stack(&stack), wanted(ipip), "{ipip}");
        let pairs = match ipip {
            Ipip::Always => json!(null),
            _ => json!([POD_CIDR, SERVICE_CIDR]),
        };
        for (name, role) in [("master_1", "masters"), ("master_3", "masters")] {
            let port = &stack[&format!("{name}_port")]["properties"];
            assert_eq!(
                port["security_groups"],
                json!(["nodes_group", format!("{role}_group")])
            );
            let allowed = port["allowed_address_pairs"].as_array();
            let allowed: Option<Vec<&Value>> = allowed
                .filter(|pairs| !pairs.is_empty())
                .map(|pairs| pairs.iter().map(|pair| &pair["ip_address"]).collect());
            assert_eq!(json!(allowed), pairs, "{ipip} {name}");
            let server = &stack[name]["properties"];
            assert_eq!(server["metadata"]["role"], "master");
            assert_eq!(server["metadata"]["ipip"], ipip.to_string());
            assert_eq!(server["user_data_format"], "RAW");
            assert_eq!(server["scheduler_hints"]["group"], "master_servers");
            assert_eq!(server["networks"][0]["port"], format!("{name}_port"));
        }
        let masters = stack["settings"]["properties"]["value"]["masters"]
            .as_str()
            .unwrap();
        assert_eq!(
            masters.matches("kubernetes-master-").count(),
            3,
            "{masters}"
        );
    }
}

#[test]
fn the_heat_stack_has_what_its_parameters_ask_for_and_refuses_what_cannot_be() {
    let mut good = stacks(&[
        json!({}),
        json!({"external_network": "outside"}),
        json!({"clients": "0.0.0.0/0", "workers": 0}),
        json!({"clients": "192.0.2.1/32", "node_port_last": 20000}),
        json!({"clients": "10.128.0.0/9"}),
    ]);
    assert!(good.iter().all(Result::is_ok), "{good:?}");
    let floating = good.swap_remove(1).unwrap();
    let one = good.swap_remove(0).unwrap();
    assert!(one.get("master_2").is_none() && one.get("floating_ip").is_none());
    let masters = &one["settings"]["properties"]["value"]["masters"];
    assert!(
        masters
            .as_str()
            .unwrap()
            .starts_with("kubernetes-master-1="),
        "{masters}"
    );
    let workers = &one["worker_nodes"]["properties"];
    assert_eq!(workers["count"], 2);
    let definition = &workers["resource_def"]["properties"];
    assert_eq!(
        definition["security_groups"],
        json!(["nodes_group", "workers_group"])
    );
    assert_eq!(
        one["master_servers"]["properties"]["policies"],
        json!(["anti-affinity"])
    );

    assert_eq!(
        floating["floating_ip"]["properties"]["port_id"],
        "master_1_port"
    );

    let cases = [
        (json!({"masters": 2}), "masters"),
        (json!({"ipip": "sometimes"}), "ipip"),
        (json!({"name": "Kubernetes"}), "name"),
        (json!({"clients": "everyone"}), "clients"),
        (
            json!({"user_data": "x".repeat(SIZE_LIMIT + 1)}),
            "user_data",
        ),
        // What Neutron or the nodes would refuse later.
        (json!({"clients": "2001:db8::/32"}), "An IPv4 range"),
        (json!({"clients": "192.0.2.0/33"}), "An IPv4 range"),
        (json!({"clients": ""}), "An IPv4 range"),
        (
            json!({"clients": "192.0.2.5/24"}),
            "clients is not the first",
        ),
        (
            json!({"pod_cidr": "172.20.0.0/12"}),
            "pod_cidr is not the first",
        ),
        (json!({"service_cidr": "fd00::/108"}), "An IPv4 range"),
        (json!({"workers": 2.5}), "a whole number"),
        (json!({"workers": -1}), "out of range"),
        (
            json!({"node_port_first": 40000, "node_port_last": 20000}),
            "exchange them",
        ),
        (json!({"node_port_first": 0}), "out of range"),
        (json!({"node_port_last": 65536}), "out of range"),
        (json!({"node_port_last": 30000.5}), "a whole number"),
    ];
    let parameters = cases.each_ref().map(|(parameters, _)| parameters.clone());
    for ((parameters, why), stack) in cases.iter().zip(stacks(&parameters)) {
        let error = stack.unwrap_err();
        assert!(
            error.contains(why),
            "{parameters}: {why} is not in: {error}"
        );
    }
}
