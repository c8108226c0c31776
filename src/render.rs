//! Renders the templates. Each kind of file has its own escaper, so that no value can become
//! syntax. Pure.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rust_embed::RustEmbed;
use serde::Serialize;
use serde_json::Value;
use tera::{Context, Filter, Tera};

use crate::language::is_hidden;

/// The maximum length of a line of base64 in a MIME part, in bytes (RFC 2045).
const MIME_LINE: usize = 76;
/// The start of the names of templates in [`ForCloudInit`].
const CLOUD_INIT: &str = "cloud-init/";

/// What templates include: what several units have in common, and the style of a page.
const PARTS: [&str; 3] = [
    "page/style.css",
    "parts/no-proxy.conf",
    "parts/sandbox.conf",
];

/// The templates of a node's files.
#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/bundle/templates"]
struct Templates;

/// The templates of user-data.
#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/cloud-init"]
struct ForCloudInit;

/// The text of the template of that name.
fn source(template: &str) -> Result<String> {
    let file = match template.strip_prefix(CLOUD_INIT) {
        Some(name) => ForCloudInit::get(name),
        None => Templates::get(template),
    };
    let data = file
        .with_context(|| format!("no template {template}"))?
        .data;
    String::from_utf8(data.into_owned()).with_context(|| format!("template {template}"))
}

/// The kind of file that a template makes. The name of the template decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Syntax {
    /// A systemd unit: values are words of `ExecStart=`.
    Unit,
    /// YAML or JSON: values are inside double quotes.
    Quoted,
    /// A shell script: values are words.
    Shell,
    /// A YAML document: a value is a scalar, or any YAML with the filter `yaml`.
    Document,
    /// A page for a browser: values are text, or the value of an attribute in quotes.
    Html,
    /// A MIME message: values are the bodies of its parts, in base64.
    Mime,
    /// Lines of words: values must not have white space.
    Plain,
}

impl Syntax {
    fn of(template: &str) -> Syntax {
        let name = template.strip_suffix(".tera").unwrap_or(template);
        match name.rsplit_once('.').map(|(_, extension)| extension) {
            Some("service") => Syntax::Unit,
            Some("yaml" | "json") => Syntax::Quoted,
            Some("sh") => Syntax::Shell,
            Some("cfg") => Syntax::Document,
            Some("html") => Syntax::Html,
            Some("mime") => Syntax::Mime,
            _ => Syntax::Plain,
        }
    }

    fn escape(self) -> fn(&str) -> String {
        match self {
            Syntax::Unit => escape_unit_word,
            Syntax::Quoted => escape_quoted,
            Syntax::Shell => escape_shell_word,
            Syntax::Document => |text| Value::from(text).to_string(),
            Syntax::Html => escape_markup,
            Syntax::Mime => encode_body,
            Syntax::Plain => str::to_owned,
        }
    }

    /// Whether any text is safe in it, also with line breaks and control characters.
    fn takes_any_text(self) -> bool {
        matches!(self, Syntax::Document | Syntax::Html | Syntax::Mime)
    }
}

/// Renders the template of that name, such as `units/etcd.service`, with `values`.
///
/// A name in the template that `values` does not have is an error, and so is a control
/// character, such as a newline, in any value that is not encoded as a whole.
pub fn render(template: &str, values: &impl Serialize) -> Result<String> {
    let values = serde_json::to_value(values)?;
    let syntax = Syntax::of(template);
    refuse_unfit(syntax, "", &values).with_context(|| format!("template {template}"))?;
    let mut tera = Tera::default();
    tera.autoescape_on(vec![""]);
    tera.set_escape_fn(syntax.escape());
    tera.register_filter("yaml", Yaml);
    if template.starts_with(CLOUD_INIT) {
        // For templates that include another.
        for name in ForCloudInit::iter().map(|name| format!("{CLOUD_INIT}{name}")) {
            tera.add_raw_template(&name, &source(&name)?)?;
        }
    } else {
        let text = source(template)?;
        // Parsing takes most of the time, and few templates include a part.
        for part in PARTS.into_iter().filter(|part| text.contains(part)) {
            tera.add_raw_template(part, &source(part)?)?;
        }
        tera.add_raw_template(template, &text)?;
    }
    tera.render(template, &Context::from_value(values)?)
        .with_context(|| format!("template {template}"))
}

fn refuse_unfit(syntax: Syntax, place: &str, value: &Value) -> Result<()> {
    match value {
        Value::String(text) => {
            let unfit = |c: &char| c.is_control() && !syntax.takes_any_text();
            if let Some(bad) = text.chars().find(unfit) {
                bail!("value `{place}` has the control character {bad:?}; remove it");
            }
            ensure!(
                syntax != Syntax::Plain || !text.contains(char::is_whitespace),
                "value `{place}` has white space; remove it"
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

/// Makes any text (without control characters) one word of an `ExecStart=` line, without
/// specifiers, variables, quotes and separators for systemd (systemd.service(5), "Command
/// lines", as of systemd 229).
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

/// Makes any text (without control characters) one word of a POSIX shell.
pub fn escape_shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "%+,-./:=@_".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Makes any text safe in HTML and SVG, between tags and between the quotes of an attribute. Characters without a shape, and
/// those that change the order of what follows, are shown by their numbers: nobody can hide a part of a name.
pub fn escape_markup(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            '\n' => html.push('\n'),
            c if is_hidden(c) => html.extend(c.escape_unicode()),
            c => html.push(c),
        }
    }
    html
}

/// Makes any text the body of a MIME part: no line of base64 begins like a boundary.
fn encode_body(text: &str) -> String {
    let mut body = String::new();
    for (index, c) in STANDARD.encode(text).chars().enumerate() {
        if index > 0 && index % MIME_LINE == 0 {
            body.push('\n');
        }
        body.push(c);
    }
    body
}

/// `{{ value | yaml(indent=2) }}`: the value as YAML, lists and maps in block style, text with
/// quotes if it could be read as another type. All lines except the first are indented by that
/// many spaces.
struct Yaml;

impl Filter for Yaml {
    fn filter(&self, value: &Value, arguments: &HashMap<String, Value>) -> tera::Result<Value> {
        let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
        let text =
            serde_saphyr::to_string_with_options(value, options).map_err(tera::Error::msg)?;
        let indent = arguments.get("indent").and_then(Value::as_u64).unwrap_or(0);
        let prefix = " ".repeat(usize::try_from(indent).map_err(tera::Error::msg)?);
        // The template ends the last line, so its line break is cut here.
        let mut lines = text.strip_suffix('\n').unwrap_or(&text).split('\n');
        let first = lines.next().unwrap_or_default().to_owned();
        let rest = lines.map(|line| match line {
            "" => "\n".to_owned(),
            line => format!("\n{prefix}{line}"),
        });
        Ok(rest.fold(first, |text, line| text + &line).into())
    }

    fn is_safe(&self) -> bool {
        true
    }
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
    fn no_text_becomes_a_part_of_a_page() {
        let hostile = "</td><script>alert(1)</script>\" onload='x' &lt; \u{202e}\u{0}\u{1b}[31m";
        assert_eq!(
            escape_markup(hostile),
            "&lt;/td&gt;&lt;script&gt;alert(1)&lt;/script&gt;&quot; onload=&#39;x&#39; &amp;lt; \\u{202e}\\u{0}\\u{1b}[31m"
        );
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
        assert!(error.contains("calico_endpoints"), "{error}");
    }
}
