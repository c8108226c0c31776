//! Selectors of lists: by name, and by labels with `a=b`, `a==b`,
//! `a!=b`, `a` and `!a`, joined by commas.

use anyhow::{Context, Result, bail};
use reqwest::Url;
use serde_json::Value;

/// What a list is narrowed to.
#[derive(Default)]
pub struct Selector {
    terms: Vec<Term>,
    name: Option<String>,
}

struct Term {
    label: String,
    value: Option<String>,
    negated: bool,
}

impl Selector {
    /// The selector in a request's query.
    ///
    /// # Errors
    /// A selector by fields, or by sets of values.
    pub fn of(query: &str) -> Result<Self> {
        let mut selector = Self::default();
        let url = Url::parse(&format!("http://query/?{query}"))?;
        for (name, value) in url.query_pairs() {
            match name.as_ref() {
                "labelSelector" => selector.terms = terms(&value)?,
                "fieldSelector" if !value.is_empty() => {
                    let name = value.strip_prefix("metadata.name=");
                    selector.name = Some(
                        name.context("the stand-in selects by no field but metadata.name")?
                            .trim_start_matches('=')
                            .to_owned(),
                    );
                }
                "watch" if value != "false" => bail!("the stand-in knows no watches"),
                _ => {}
            }
        }
        Ok(selector)
    }

    /// Whether an object has the labels.
    pub fn selects(&self, object: &Value) -> bool {
        let wanted = self.name.as_deref();
        if wanted.is_some_and(|name| object["metadata"]["name"] != name) {
            return false;
        }
        let labels = &object["metadata"]["labels"];
        self.terms.iter().all(|term| {
            let found = labels[&term.label].as_str();
            let holds = match &term.value {
                Some(value) => found == Some(value),
                None => found.is_some(),
            };
            holds != term.negated
        })
    }
}

fn terms(text: &str) -> Result<Vec<Term>> {
    let parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    parts.map(term).collect()
}

fn term(text: &str) -> Result<Term> {
    let (label, value, negated) = match text.split_once("!=") {
        Some((label, value)) => (label, Some(value), true),
        None => match text.split_once('=') {
            Some((label, value)) => (label, Some(value.trim_start_matches('=')), false),
            None => (text.trim_start_matches('!'), None, text.starts_with('!')),
        },
    };
    if label.trim().is_empty() || label.contains(char::is_whitespace) {
        bail!("unable to parse requirement: {text:?}");
    }
    Ok(Term {
        label: label.trim().to_owned(),
        value: value.map(|value| value.trim().to_owned()),
        negated,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn selects_by_equality_and_presence() {
        let object = json!({"metadata": {"name": "n", "labels": {"a": "b", "c/d": "e"}}});
        let selects = |selector: &str| {
            let query = format!("limit=5&labelSelector={selector}");
            Selector::of(&query).unwrap().selects(&object)
        };
        for yes in ["", "a%3Db", "a==b", "a", "!x", "x!=y", "a=b,c%2Fd=e"] {
            assert!(selects(yes), "{yes}");
        }
        for no in ["a=c", "x", "!a", "a!=b", "a=b,x=y"] {
            assert!(!selects(no), "{no}");
        }
        let named = |field: &str| Selector::of(&format!("fieldSelector={field}"));
        assert!(named("metadata.name%3Dn").unwrap().selects(&object));
        assert!(!named("metadata.name%3Dm").unwrap().selects(&object));
        assert!(named("spec.x=y").is_err());
        assert!(Selector::of("labelSelector=a in (b)").is_err());
        assert!(Selector::of("watch=true").is_err());
    }
}
