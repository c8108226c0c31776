//! Patches of objects: merge patches, and strategic merge patches, which merge the elements of some
//! lists by a key.

use serde_json::{Value, json};

/// The lists that strategic merge patches merge: the list's name, and the member that tells its
/// elements apart. All other lists are replaced as a whole.
const MERGED: [(&str, &[&str]); 12] = [
    ("addresses", &["type"]),
    ("conditions", &["type"]),
    ("containers", &["name"]),
    ("env", &["name"]),
    ("hostAliases", &["ip"]),
    ("imagePullSecrets", &["name"]),
    ("initContainers", &["name"]),
    ("ownerReferences", &["uid"]),
    // Of a container, and of a service.
    ("ports", &["containerPort", "port"]),
    ("secrets", &["name"]),
    ("volumeMounts", &["mountPath"]),
    ("volumes", &["name"]),
];
/// A directive for the element or the object that it is in.
const DIRECTIVE: &str = "$patch";
/// The order of a list, in a directive next to the list.
const ORDER: &str = "$setElementOrder/";
/// The members that an object keeps.
const RETAINED: &str = "$retainKeys";

/// Merges a patch into an object: objects member by member; null removes a member; any other value
/// replaces the old one.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in members {
        if value.is_null() {
            remove(target, name);
        } else {
            merge(&mut target[name], value);
        }
    }
}

/// Merges a strategic merge patch into an object.
///
/// # Errors A directive that the stand-in does not know, or an element without its key.
pub fn merge_strategically(target: &mut Value, patch: &Value) -> Result<(), String> {
    let Value::Object(members) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    match patch[DIRECTIVE].as_str() {
        None | Some("merge") => {}
        Some("replace") => {
            *target = patch.clone();
            remove(target, DIRECTIVE);
            return Ok(());
        }
        Some(other) => return Err(format!("{DIRECTIVE}: {other} of an object")),
    }
    if !target.is_object() {
        *target = json!({});
    }
    if let (Some(kept), Some(old)) = (patch[RETAINED].as_array(), target.as_object_mut()) {
        old.retain(|name, _| kept.iter().any(|kept| kept == name));
    }
    for (name, value) in members {
        if name == DIRECTIVE || name == RETAINED || name.starts_with(ORDER) {
            continue;
        }
        match (key_of(name, value), value) {
            (_, Value::Null) => remove(target, name),
            (Some(key), Value::Array(elements)) => {
                merge_list(&mut target[name], elements, key)?;
            }
            _ if name.starts_with('$') => return Err(format!("the directive {name}")),
            (_, Value::Object(_)) => merge_strategically(&mut target[name], value)?,
            _ => target[name] = value.clone(),
        }
    }
    for (name, order) in members {
        if let (Some(list), Some(order)) = (name.strip_prefix(ORDER), order.as_array()) {
            sort(&mut target[list], order);
        }
    }
    Ok(())
}

fn remove(target: &mut Value, name: &str) {
    if let Some(members) = target.as_object_mut() {
        members.remove(name);
    }
}

/// The key of a list that is merged.
fn key_of(name: &str, list: &Value) -> Option<&'static str> {
    let (_, keys) = MERGED.iter().find(|(known, _)| *known == name)?;
    let elements = list.as_array()?;
    let has = |key: &&&str| elements.iter().all(|element| !element[**key].is_null());
    keys.iter().find(has).copied()
}

fn merge_list(target: &mut Value, elements: &[Value], key: &str) -> Result<(), String> {
    let mut merged = target.as_array().cloned().unwrap_or_default();
    for element in elements {
        let place = merged.iter().position(|old| old[key] == element[key]);
        match (element[DIRECTIVE].as_str(), place) {
            (Some("delete"), Some(place)) => drop(merged.remove(place)),
            (Some("delete"), None) => {}
            (_, Some(place)) => merge_strategically(&mut merged[place], element)?,
            (_, None) => {
                let mut new = json!({});
                merge_strategically(&mut new, element)?;
                merged.push(new);
            }
        }
    }
    *target = json!(merged);
    Ok(())
}

/// Brings the elements of a list into an order; elements that are not in it stay at the end.
fn sort(list: &mut Value, order: &[Value]) {
    let place = |element: &Value| {
        let fits = |wanted: &Value| match wanted.as_object() {
            Some(keys) => keys.iter().all(|(key, value)| element[key] == *value),
            None => element == wanted,
        };
        order.iter().position(fits).unwrap_or(order.len())
    };
    if let Some(elements) = list.as_array_mut() {
        elements.sort_by_key(place);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_patch_changes_what_it_names() {
        let mut object = json!({"a": {"b": 1, "c": [1, 2]}, "d": 1});
        merge(
            &mut object,
            &json!({"a": {"c": [3], "e": {"f": null, "g": 1}}, "d": null}),
        );
        assert_eq!(object, json!({"a": {"b": 1, "c": [3], "e": {"g": 1}}}));
    }

    #[track_caller]
    fn merged(mut object: Value, patch: &Value) -> Value {
        merge_strategically(&mut object, patch).unwrap();
        object
    }

    #[test]
    fn containers_are_merged_by_name_and_other_lists_replaced() {
        let object = json!({"containers": [
            {"name": "a", "image": "1", "args": ["x", "y"]}, {"name": "b", "image": "1"}]});
        let patch = json!({
            "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
            "containers": [
                {"name": "a", "args": ["z"]},
                {"name": "c", "image": "2"},
                {"name": "b", "$patch": "delete"},
            ],
        });
        let expected = json!({"containers": [
            {"name": "c", "image": "2"}, {"name": "a", "image": "1", "args": ["z"]}]});
        assert_eq!(merged(object, &patch), expected);
    }

    #[test]
    fn ports_of_services_and_of_containers_have_keys_of_their_own() {
        let service = json!({"ports": [{"port": 80, "nodePort": 30080}]});
        let found = merged(service, &json!({"ports": [{"port": 80, "name": "web"}]}));
        let expected = json!({"ports": [{"port": 80, "nodePort": 30080, "name": "web"}]});
        assert_eq!(found, expected);
        let container = json!({"ports": [{"containerPort": 80}]});
        let found = merged(container, &json!({"ports": [{"containerPort": 81}]}));
        assert_eq!(found["ports"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn members_that_are_not_retained_go() {
        let strategy = json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"a": 1}}});
        let patch = json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}});
        assert_eq!(
            merged(strategy, &patch),
            json!({"strategy": {"type": "Recreate"}})
        );
    }

    #[test]
    fn a_directive_that_is_not_known_is_refused_and_never_stored() {
        let mut object = json!({});
        let patch = json!({"$deleteFromPrimitiveList/finalizers": ["a"]});
        assert!(merge_strategically(&mut object, &patch).is_err());
        let patch = json!({"a": {"$patch": "delete"}});
        assert!(merge_strategically(&mut object, &patch).is_err());
        assert_eq!(
            merged(json!({"a": 1}), &json!({"a": null, "b": {}})),
            json!({"b": {}})
        );
    }
}
