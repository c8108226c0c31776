//! Writes settings, for the user-data of a new server.

use anyhow::Result;
use serde_json::{Map, Value};

use super::settings::{SecretText, Settings};

/// Settings as one map, the secrets among them included.
pub struct Written(Value);

impl Written {
    /// Merges these settings, the strongest first: the first value of each setting is used.
    pub fn of(layers: &[&Settings]) -> Result<Written> {
        let mut all = Map::new();
        for settings in layers {
            for (key, value) in exposed(settings)? {
                all.entry(key).or_insert(value);
            }
        }
        Ok(Written(Value::Object(all)))
    }

    /// The map, for the code that writes it.
    pub fn expose(&self) -> &Value {
        &self.0
    }

    /// The settings in it.
    pub fn settings(&self) -> Result<Settings> {
        Ok(serde_json::from_value(self.0.clone())?)
    }
}

/// The settings that have a value.
fn exposed(settings: &Settings) -> Result<Map<String, Value>> {
    let mut value = serde_json::to_value(settings)?;
    let token = settings.join.as_ref().and_then(|join| join.token.as_ref());
    if let Some(token) = token.map(SecretText::expose) {
        value["join"]["token"] = token.into();
    }
    match made(value) {
        Value::Object(fields) => Ok(fields),
        _ => Ok(Map::new()),
    }
}

/// The value without everything that is not set: no setting is null or an empty list.
fn made(value: Value) -> Value {
    let is_said = |value: &Value| !value.is_null() && *value != Value::Array(Vec::new());
    match value {
        Value::Array(items) => items.into_iter().map(made).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, field)| is_said(field))
            .map(|(key, field)| (key, made(field)))
            .collect::<Map<_, _>>()
            .into(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::nodespec::reference;

    #[test]
    fn whatever_can_be_set_is_written_and_read_again() {
        let text = reference::in_force();
        let settings = Settings::from_yaml("example", &text).unwrap();
        let written = Written::of(&[&settings]).unwrap();
        assert_eq!(written.settings().unwrap(), settings);
        let schema = serde_json::to_value(reference::schema()).unwrap();
        for key in schema["properties"].as_object().unwrap().keys() {
            assert!(written.expose().get(key).is_some(), "{key}");
        }
    }

    #[test]
    fn the_first_that_makes_a_setting_counts() {
        let of = |text: &str| Settings::from_yaml("test", text).unwrap();
        let (flags, file) = (of("mtu: 1400"), of("mtu: 1500\nrole: master"));
        let written = Written::of(&[&flags, &file]).unwrap();
        assert_eq!(
            written.expose(),
            &serde_json::json!({"mtu": "1400", "role": "master"})
        );
    }

    #[test]
    fn a_token_is_written_where_it_is_meant_to_be_and_nowhere_else() {
        let settings = Settings::from_yaml("test", "join: {token: hidden}").unwrap();
        assert!(!serde_json::to_string(&settings).unwrap().contains("hidden"));
        let written = Written::of(&[&settings]).unwrap();
        assert_eq!(written.expose()["join"]["token"], "hidden");
    }
}
