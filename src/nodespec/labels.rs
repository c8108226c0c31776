//! Labels and taints with which a node registers. Checked by the rules of kube-apiserver v1.9, which
//! would refuse the whole node.

use std::fmt;

use crate::language::tr;

use super::Role;
use super::network::dns_name;
use super::resolver::Resolver;
use super::value::{Origin, Sourced};

const MAX_NAME: usize = 63;
const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// A label, or a taint without its effect: `KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its key, which may begin with a DNS name and `/`.
    pub key: String,
    /// Its value; may be empty.
    pub value: String,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

impl Label {
    fn parse(text: &str) -> Result<Label, String> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        let (prefix, name) = match key.split_once('/') {
            Some((prefix, name)) => (Some(prefix), name),
            None => (None, key),
        };
        if let Some(prefix) = prefix {
            dns_name(prefix).map_err(|why| format!("{key:?}: {prefix:?}: {why}"))?;
        }
        if name.is_empty() || !is_qualified(name) {
            return Err(tr!(
                "{key} is not a label's name: expected at most {MAX_NAME} letters, digits, `-`, \
                 `_` and `.`, which may follow a DNS name and `/`",
                key = format_args!("{key:?}"),
                MAX_NAME
            ));
        }
        if !is_qualified(value) {
            return Err(tr!(
                "{value} is not a label's value: expected at most {MAX_NAME} letters, digits, \
                 `-`, `_` and `.`",
                value = format_args!("{value:?}"),
                MAX_NAME
            ));
        }
        Ok(Label {
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// A taint: `KEY=VALUE:EFFECT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    /// Its key and value.
    pub label: Label,
    /// Its effect on pods that do not tolerate it.
    pub effect: &'static str,
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.label, self.effect)
    }
}

impl Taint {
    fn parse(text: &str) -> Result<Taint, String> {
        let expected = || {
            tr!(
                "{text} is not a taint: expected KEY=VALUE:EFFECT, where EFFECT is one of {}",
                EFFECTS.join(", "),
                text = format_args!("{text:?}")
            )
        };
        let (label, effect) = text.rsplit_once(':').ok_or_else(expected)?;
        let effect = EFFECTS.iter().find(|known| **known == effect);
        Ok(Taint {
            label: Label::parse(label)?,
            effect: effect.ok_or_else(expected)?,
        })
    }
}

/// Empty, or letters, digits and `-_.` between letters and digits.
fn is_qualified(text: &str) -> bool {
    let bytes = text.as_bytes();
    let outer = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    bytes.len() <= MAX_NAME
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        && outer(bytes.first())
        && outer(bytes.last())
}

fn items<T>(text: &str, parse: fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let items = text.split(',').map(str::trim);
    items.filter(|item| !item.is_empty()).map(parse).collect()
}

impl Resolver<'_> {
    /// The configured labels, else the one that shows the role in `kubectl get nodes`.
    pub(super) fn labels(&mut self, role: Option<Role>) -> Option<Sourced<Vec<Label>>> {
        match self.said("nodeLabels", |s| &s.node_labels) {
            Some(said) => self.parsed(said, |text| items(text, Label::parse)),
            None => {
                let shown = if role.is_some_and(Role::is_master) {
                    "master"
                } else {
                    "worker"
                };
                let label = Label {
                    key: format!("node-role.kubernetes.io/{shown}"),
                    value: String::new(),
                };
                Some(Sourced::new(vec![label], Origin::Default))
            }
        }
    }

    pub(super) fn taints(&mut self) -> Option<Sourced<Vec<Taint>>> {
        match self.said("nodeTaints", |s| &s.node_taints) {
            Some(said) => self.parsed(said, |text| items(text, Taint::parse)),
            None => Some(Sourced::new(vec![], Origin::Default)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn labels_are_what_kubernetes_takes() {
        for good in [
            "a=b",
            "node-role.kubernetes.io/worker=",
            "zone",
            "a/b=C_d.e-1",
        ] {
            Label::parse(good).unwrap();
        }
        let long = "a".repeat(MAX_NAME + 1);
        for bad in [
            "", "=b", "a b=c", "a=b c", "A_/x=y", "a/b/c=d", "-a=b", "a=-b", "a=\"b", &long,
        ] {
            assert!(Label::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn taints_have_an_effect_that_exists() {
        let taint = Taint::parse("node-role.kubernetes.io/master=:NoSchedule").unwrap();
        assert_eq!(
            taint.to_string(),
            "node-role.kubernetes.io/master=:NoSchedule"
        );
        for bad in ["a=b", "a=b:Never", "a=b:", ":NoSchedule"] {
            assert!(Taint::parse(bad).is_err(), "{bad:?}");
        }
    }
}
