//! What is looked for in the API's objects.

use serde_json::Value;

/// The objects of a list.
pub fn listed(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

/// The objects of a list, or the one object that is no list.
pub fn items(answer: &Value) -> Vec<&Value> {
    if answer["items"].is_array() {
        listed(answer).collect()
    } else {
        vec![answer]
    }
}

/// The entry of that type: of conditions, of addresses.
pub fn of_type<'a>(entries: &'a Value, kind: &str) -> Option<&'a Value> {
    let mut entries = entries.as_array().into_iter().flatten();
    entries.find(|entry| entry["type"] == kind)
}

/// The condition of that type, if it is at that status.
pub fn condition<'a>(conditions: &'a Value, kind: &str, status: &str) -> Option<&'a Value> {
    of_type(conditions, kind).filter(|condition| condition["status"] == status)
}

/// A text, empty if it is none.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
