//! The nodes on which a pod may run.

use serde_json::Value;

/// Whether the node is ready.
pub fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The reason why a pod with this spec cannot run on the node, in the words of the scheduler;
/// `None` if it can.
pub fn unfit(spec: &Value, node: &Value) -> Option<&'static str> {
    let labels = &node["metadata"]["labels"];
    let mut wanted = spec["nodeSelector"].as_object().into_iter().flatten();
    if wanted.any(|(name, value)| labels[name] != *value) {
        return Some("MatchNodeSelector");
    }
    let tolerations = spec["tolerations"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let taints = node["spec"]["taints"].as_array().into_iter().flatten();
    for taint in taints.filter(|taint| taint["effect"] != "PreferNoSchedule") {
        if !tolerations
            .iter()
            .any(|toleration| tolerates(toleration, taint))
        {
            return Some("PodToleratesNodeTaints");
        }
    }
    None
}

fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (effect, key) = (text(&toleration["effect"]), text(&toleration["key"]));
    let exists = toleration["operator"] == "Exists";
    (effect.is_empty() || effect == text(&taint["effect"]))
        && (key == text(&taint["key"]) || (key.is_empty() && exists))
        && (exists || text(&toleration["value"]) == text(&taint["value"]))
}

/// The host ports of a pod with this spec.
pub fn host_ports(spec: &Value) -> Vec<(String, u64)> {
    let containers = spec["containers"].as_array().into_iter().flatten();
    let ports =
        containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
    ports
        .filter_map(|port| {
            let number = port["hostPort"].as_u64().filter(|&number| number != 0)?;
            let protocol = port["protocol"].as_str().unwrap_or("TCP");
            Some((protocol.to_owned(), number))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn taints_keep_pods_away_that_do_not_tolerate_them() {
        let node = json!({"spec": {"taints": [
            {"key": "master", "value": "", "effect": "NoSchedule"},
            {"key": "soft", "value": "", "effect": "PreferNoSchedule"},
        ]}});
        let fits =
            |tolerations: Value| unfit(&json!({"tolerations": tolerations}), &node).is_none();
        assert!(!fits(json!([])));
        assert!(fits(json!([{"key": "master", "effect": "NoSchedule"}])));
        assert!(fits(json!([{"operator": "Exists"}])));
        assert!(!fits(
            json!([{"key": "master", "value": "x", "effect": "NoSchedule"}])
        ));
        assert!(!fits(
            json!([{"key": "master", "operator": "Exists", "effect": "NoExecute"}])
        ));
    }

    #[test]
    fn a_selector_names_labels_of_the_node() {
        let node = json!({"metadata": {"labels": {"a": "b"}}});
        let of = |selector: Value| unfit(&json!({"nodeSelector": selector}), &node);
        assert_eq!(of(json!({"a": "b"})), None);
        assert_eq!(of(json!({"a": "c"})), Some("MatchNodeSelector"));
    }
}
