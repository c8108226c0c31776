//! Reads fields of the API's objects.

use serde_json::Value;

/// The objects of a list.
pub fn listed(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

/// The objects of a list, or the single object.
pub fn items(answer: &Value) -> Vec<&Value> {
    if answer["items"].is_array() {
        listed(answer).collect()
    } else {
        vec![answer]
    }
}

/// The entry of this type in a list of conditions or addresses.
pub fn of_type<'a>(entries: &'a Value, kind: &str) -> Option<&'a Value> {
    let mut entries = entries.as_array().into_iter().flatten();
    entries.find(|entry| entry["type"] == kind)
}

/// The condition of this type, if it has this status.
pub fn condition<'a>(conditions: &'a Value, kind: &str, status: &str) -> Option<&'a Value> {
    of_type(conditions, kind).filter(|condition| condition["status"] == status)
}

/// The text of a value, or an empty text if it is not a string.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
