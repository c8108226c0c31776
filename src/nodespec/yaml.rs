//! Reads YAML: settings, and text of others that may hold settings.

use anyhow::{Result, anyhow};
use serde::de::DeserializeOwned;
use serde_saphyr::{DuplicateKeyPolicy, NonFiniteFloatPolicy};

use super::spelling::suggest;

/// Reads YAML that may hold settings. The error gives line and column, but quotes no lines: in
/// user-data they may be passwords.
pub(super) fn parse_yaml<T: DeserializeOwned>(text: &str) -> Result<T> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| described(&error))
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
            budget: serde_saphyr::budget! { enforce_alias_anchor_ratio: false },
        };
        serde_saphyr::from_str_with_options(text, options).map_err(|_| strict)
    })
}

/// What is wrong, without the parser's advice to programmers.
fn described(error: &serde_saphyr::Error) -> anyhow::Error {
    let text = error.to_string();
    let advice = ", set DuplicateKeyPolicy in Options if acceptable";
    anyhow!("{}", suggest(&text.replacen(advice, "; keep one", 1)))
}
