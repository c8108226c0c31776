//! Reads YAML: settings, and text of others that may hold settings.

use std::fmt;

use anyhow::{Result, anyhow};
use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use serde_saphyr::{DuplicateKeyPolicy, NonFiniteFloatPolicy};

use crate::language::tr;

use super::spelling::{narrower_line, suggest};

/// How many levels the content of others may have. PyYAML, with which cloud-init reads, takes about as many.
const DEPTH: usize = 300;

/// Reads YAML that may hold settings. The error gives line and column, but quotes no lines: in
/// user-data they may be passwords.
pub(super) fn parse_yaml<T: DeserializeOwned>(text: &str) -> Result<T> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| described(&error, text))
}

/// Reads YAML in which only a part belongs to this program. What others write there has to please their
/// program: of keys that occur twice the last one counts, `.inf` is text, and bytes are their base64.
pub(super) fn parse_others_yaml<T: DeserializeOwned>(text: &str) -> Result<T> {
    parse_yaml(text).or_else(|strict| {
        let options = serde_saphyr::options! {
            with_snippet: false,
            duplicate_keys: DuplicateKeyPolicy::LastWins,
            non_finite_float_policy: NonFiniteFloatPolicy::AsString,
            ignore_binary_tag_for_string: true,
            // What is repeated in total stays limited.
            budget: serde_saphyr::budget! { enforce_alias_anchor_ratio: false, max_depth: DEPTH },
        };
        serde_saphyr::from_str_with_options(text, options).map_err(|_| strict)
    })
}

/// A value of others. Its keys may be anything.
#[derive(Default)]
pub(super) struct Others(pub(super) Value);

impl<'de> Deserialize<'de> for Others {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Others, D::Error> {
        deserializer.deserialize_any(OfOthers).map(Others)
    }
}

impl Others {
    /// The value as a key. Two keys that differ may become one: nobody asks for them.
    pub(super) fn into_key(self) -> String {
        match self.0 {
            Value::String(text) => text,
            other => other.to_string(),
        }
    }
}

struct OfOthers;

impl<'de> Visitor<'de> for OfOthers {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&tr!("any value"))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(value.to_string().into())
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(value.to_string().into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Others(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some((key, Others(value))) = members.next_entry::<Others, Others>()? {
            values.insert(key.into_key(), value);
        }
        Ok(values.into())
    }
}

/// What is wrong, without the parser's advice to programmers.
fn described(error: &serde_saphyr::Error, text: &str) -> anyhow::Error {
    let complaint = error.to_string();
    let advice = ", set DuplicateKeyPolicy in Options if acceptable";
    let complaint = suggest(&complaint.replacen(advice, "; keep one", 1));
    match narrower_line(text, &complaint) {
        Some(meant) => anyhow!("{complaint}\n{meant}"),
        None => anyhow!("{complaint}"),
    }
}
