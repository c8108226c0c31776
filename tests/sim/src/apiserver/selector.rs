//! Selectors of lists: by some fields, and by labels with `a=b`, `a==b`, `a!=b`, `a`,
//! `!a`, `a in (b,c)` and `a notin (b,c)`, joined by commas.

use anyhow::{Result, bail};
use reqwest::Url;
use serde_json::Value;

/// The fields that the stand-in can select by.
const FIELDS: [&str; 8] = [
    "involvedObject.kind",
    "involvedObject.name",
    "involvedObject.uid",
    "metadata.name",
    "metadata.namespace",
    "spec.nodeName",
    "status.phase",
    "type",
];

/// The conditions for the objects of a list.
#[derive(Default)]
pub struct Selector {
    labels: Vec<Term>,
    fields: Vec<Term>,
}

struct Term {
    name: String,
    /// The allowed values; `None` if any value is allowed.
    values: Option<Vec<String>>,
    negated: bool,
}

impl Term {
    fn holds(&self, found: Option<&str>) -> bool {
        let holds = match (&self.values, found) {
            (Some(values), Some(found)) => values.iter().any(|value| value == found),
            (Some(_), None) => false,
            (None, found) => found.is_some(),
        };
        holds != self.negated
    }
}

impl Selector {
    /// The selector in a request's query.
    ///
    /// # Errors A selector that cannot be read, or that uses other fields.
    pub fn of(query: &str) -> Result<Self> {
        let mut selector = Self::default();
        let url = Url::parse(&format!("http://query/?{query}"))?;
        for (name, value) in url.query_pairs() {
            match name.as_ref() {
                "labelSelector" => selector.labels = terms(&value)?,
                "fieldSelector" => selector.fields = terms(&value)?,
                _ => {}
            }
        }
        for field in &selector.fields {
            if !FIELDS.contains(&field.name.as_str()) || field.values.is_none() {
                bail!("field label not supported: {}", field.name);
            }
        }
        Ok(selector)
    }

    /// Whether an object has the labels and fields.
    pub fn selects(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        let field = |name: &str| {
            let found = name.split('.').fold(object, |value, part| &value[part]);
            found.as_str().unwrap_or_default()
        };
        self.labels
            .iter()
            .all(|term| term.holds(labels[&term.name].as_str()))
            && self
                .fields
                .iter()
                .all(|term| term.holds(Some(field(&term.name))))
    }
}

fn terms(text: &str) -> Result<Vec<Term>> {
    let mut depth = 0_u32;
    let parts = text.split(|c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    let parts = parts.map(str::trim).filter(|part| !part.is_empty());
    parts.map(term).collect()
}

fn term(text: &str) -> Result<Term> {
    let one = |value: &str| Some(vec![value.trim_start_matches('=').trim().to_owned()]);
    let set = |word: &str| {
        let (name, list) = text.split_once(&format!(" {word} "))?;
        let list = list.trim().strip_prefix('(')?.strip_suffix(')')?;
        let values = list.split(',').map(|value| value.trim().to_owned());
        Some((name, Some(values.collect())))
    };
    let (name, values, negated) = if let Some((name, values)) = set("notin") {
        (name, values, true)
    } else if let Some((name, values)) = set("in") {
        (name, values, false)
    } else if let Some((name, value)) = text.split_once("!=") {
        (name, one(value), true)
    } else if let Some((name, value)) = text.split_once('=') {
        (name, one(value), false)
    } else {
        (text.trim_start_matches('!'), None, text.starts_with('!'))
    };
    if name.trim().is_empty() || name.trim().contains(char::is_whitespace) {
        bail!("unable to parse requirement: {text:?}");
    }
    Ok(Term {
        name: name.trim().to_owned(),
        values,
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
        for yes in [
            "",
            "a%3Db",
            "a==b",
            "a",
            "!x",
            "x!=y",
            "a=b,c%2Fd=e",
            "a in (x, b),c/d notin (f)",
        ] {
            assert!(selects(yes), "{yes}");
        }
        for no in [
            "a=c",
            "x",
            "!a",
            "a!=b",
            "a=b,x=y",
            "a in (c,d)",
            "a notin (b)",
        ] {
            assert!(!selects(no), "{no}");
        }
        let named = |field: &str| Selector::of(&format!("fieldSelector={field}"));
        assert!(named("metadata.name%3Dn").unwrap().selects(&object));
        assert!(!named("metadata.name%3Dm").unwrap().selects(&object));
        assert!(named("spec.x=y").is_err());
        assert!(!named("spec.nodeName!=").unwrap().selects(&object));
        assert!(Selector::of("labelSelector=a is (b)").is_err());
    }
}
