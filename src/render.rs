//! The templates and the only way values enter them: each kind of file has its escaper,
//! so that no value can become syntax. Pure.

use anyhow::{Context as _, Result, bail, ensure};
use rust_embed::RustEmbed;
use serde::Serialize;
use serde_json::Value;
use tera::{Context, Tera};

#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/bundle/templates"]
struct Templates;

/// What kind of file a template makes, told by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Syntax {
    /// A systemd unit: values are words of `ExecStart=`.
    Unit,
    /// YAML or JSON: values stand inside double quotes.
    Quoted,
    /// Lines of words: values may hold nothing that separates them.
    Plain,
}

impl Syntax {
    fn of(template: &str) -> Syntax {
        match template.rsplit_once('.').map(|(_, extension)| extension) {
            Some("service") => Syntax::Unit,
            Some("yaml" | "json") => Syntax::Quoted,
            _ => Syntax::Plain,
        }
    }

    fn escape(self) -> fn(&str) -> String {
        match self {
            Syntax::Unit => escape_unit_word,
            Syntax::Quoted => escape_quoted,
            Syntax::Plain => str::to_owned,
        }
    }
}

/// Renders the template of that name, such as `units/etcd.service`, with `values`.
///
/// A name in the template that `values` does not have is an error, and so is a control
/// character, such as a newline, in any value.
pub fn render(template: &str, values: &impl Serialize) -> Result<String> {
    let source = Templates::get(template).with_context(|| format!("no template {template}"))?;
    let text = str::from_utf8(&source.data).with_context(|| format!("template {template}"))?;
    let values = serde_json::to_value(values)?;
    let syntax = Syntax::of(template);
    refuse_unfit(syntax, "", &values).with_context(|| format!("template {template}"))?;
    let mut tera = Tera::default();
    tera.autoescape_on(vec![""]);
    tera.set_escape_fn(syntax.escape());
    tera.add_raw_template(template, text)?;
    tera.render(template, &Context::from_value(values)?)
        .with_context(|| format!("template {template}"))
}

fn refuse_unfit(syntax: Syntax, place: &str, value: &Value) -> Result<()> {
    match value {
        Value::String(text) => {
            if let Some(bad) = text.chars().find(|c| c.is_control()) {
                bail!("value `{place}` holds the control character {bad:?}");
            }
            ensure!(
                syntax != Syntax::Plain || !text.contains(char::is_whitespace),
                "value `{place}` holds white space"
            );
            Ok(())
        }
        Value::Array(items) => items
            .iter()
            .try_for_each(|item| refuse_unfit(syntax, place, item)),
        Value::Object(fields) => fields
            .iter()
            .try_for_each(|(name, field)| refuse_unfit(syntax, &format!("{place}.{name}"), field)),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

/// Makes any text (without control characters) one word of an `ExecStart=` line: systemd
/// sees neither specifiers nor variables nor quotes nor separators in it
/// (systemd.service(5), "Command lines", as of systemd 229).
pub fn escape_unit_word(text: &str) -> String {
    let mut word = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '%' => word.push_str("%%"),
            '$' => word.push_str("$$"),
            '\\' | '"' | '\'' => word.extend(['\\', c]),
            ' ' => word.push_str("\\x20"),
            ';' => word.push_str("\\x3b"),
            _ => word.push(c),
        }
    }
    word
}

/// Makes any text safe between the double quotes of a YAML or JSON string.
fn escape_quoted(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::{prop_assert_eq, proptest};
    use serde_json::json;

    proptest! {
        #[test]
        fn any_value_stays_one_yaml_string(value in "[^\\p{Cc}]{0,40}") {
            let document = format!("key: \"{}\"\n", escape_quoted(&value));
            let map: std::collections::BTreeMap<String, String> = serde_saphyr::from_str(&document).unwrap();
            prop_assert_eq!(&map["key"], &value);
        }
    }

    #[test]
    fn a_newline_in_a_value_is_refused_by_name() {
        let values = json!({"hosts": [{"name": "a\nb", "address": "192.0.2.1"}]});
        let error = format!("{:#}", render("config/hosts.block", &values).unwrap_err());
        assert!(
            error.contains("hosts.name") && error.contains("control character"),
            "{error}"
        );
    }

    #[test]
    fn white_space_in_a_value_of_a_plain_file_is_refused() {
        let values = json!({"hosts": [{"name": "a evil", "address": "192.0.2.1"}]});
        let error = format!("{:#}", render("config/hosts.block", &values).unwrap_err());
        assert!(error.contains("white space"), "{error}");
    }

    #[test]
    fn a_name_the_values_lack_is_an_error() {
        let error = format!(
            "{:#}",
            render("config/calicoctl.cfg.yaml", &json!({"tls": false})).unwrap_err()
        );
        assert!(error.contains("calicoctl.cfg.yaml"), "{error}");
        assert!(error.contains("etcd_endpoints"), "{error}");
    }
}
