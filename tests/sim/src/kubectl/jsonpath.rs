//! Simple templates of `-o jsonpath`: text, `{.a.b}`, `[0]`, `[*]`, `['a']`,
//! `[?(@.a=="b")]`, `{"text"}` and `{range …}…{end}`.

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The output of a template for an object.
///
/// # Errors A template that cannot be read.
pub fn evaluate(template: &str, object: &Value) -> Result<String> {
    // A path alone needs no braces.
    let whole = if template.contains('{') {
        template.to_owned()
    } else {
        format!("{{{template}}}")
    };
    let mut text = String::new();
    let rest = block(&whole, object, &mut text)?;
    if !rest.is_empty() {
        bail!("error parsing jsonpath {template}, {{end}} without {{range}}");
    }
    Ok(text)
}

/// Evaluates up to the end, or up to `{end}`; returns the rest after it.
fn block<'a>(mut rest: &'a str, object: &Value, text: &mut String) -> Result<&'a str> {
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let (inside, after) = after
            .split_once('}')
            .context("unclosed action in jsonpath")?;
        let inside = inside.trim();
        if inside == "end" {
            return Ok(if after.is_empty() { "" } else { after });
        }
        if let Some(path) = inside.strip_prefix("range ") {
            let mut behind = skip(after)?;
            for item in find(path.trim(), object)? {
                behind = block(after, item, text)?;
            }
            rest = behind;
            continue;
        }
        rest = after;
        if let Some(quoted) = inside.strip_prefix('"').and_then(|q| q.strip_suffix('"')) {
            text.push_str(&quoted.replace("\\n", "\n").replace("\\t", "\t"));
            continue;
        }
        let found: Vec<String> = find(inside, object)?.into_iter().map(shown).collect();
        text.push_str(&found.join(" "));
    }
    text.push_str(rest);
    Ok("")
}

/// The rest after the `{end}` of a range without items.
fn skip(rest: &str) -> Result<&str> {
    let (_, after) = rest.split_once("{end}").context("{range} without {end}")?;
    Ok(after)
}

fn shown(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => value.to_string(),
    }
}

fn find<'a>(path: &str, object: &'a Value) -> Result<Vec<&'a Value>> {
    let mut found = vec![object];
    let mut rest = path.trim_start_matches(['$', '@']);
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let end = if inside.starts_with("?(") { ")]" } else { "]" };
            let (inside, after) = inside.split_once(end).context("unterminated array")?;
            found = selected(&found, inside)?;
            rest = after;
            continue;
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
        let mut name = String::new();
        let mut letters = rest.char_indices();
        let mut end = rest.len();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\\' => name.extend(letters.next().map(|(_, escaped)| escaped)),
                '.' | '[' => {
                    end = at;
                    break;
                }
                other => name.push(other),
            }
        }
        rest = &rest[end..];
        if !name.is_empty() {
            found = members(&found, &name);
        }
    }
    Ok(found)
}

fn members<'a>(found: &[&'a Value], name: &str) -> Vec<&'a Value> {
    let all = found.iter().flat_map(|&value| match (name, value) {
        ("*", Value::Array(items)) => items.iter().collect(),
        ("*", Value::Object(members)) => members.values().collect(),
        _ => value.get(name).into_iter().collect::<Vec<_>>(),
    });
    all.collect()
}

fn selected<'a>(found: &[&'a Value], inside: &str) -> Result<Vec<&'a Value>> {
    if inside == "*" {
        return Ok(members(found, "*"));
    }
    let quoted = inside.trim_matches(['\'', '"']);
    if quoted.len() < inside.len() && !inside.starts_with('?') {
        return Ok(members(found, quoted));
    }
    if let Some(condition) = inside.strip_prefix("?(") {
        let (path, wanted) = condition.split_once("==").context("a filter without ==")?;
        let wanted = wanted.trim().trim_matches(['\'', '"']);
        let mut fitting = Vec::new();
        for item in members(found, "*") {
            if find(path.trim(), item)?
                .into_iter()
                .any(|value| shown(value) == wanted)
            {
                fitting.push(item);
            }
        }
        return Ok(fitting);
    }
    let index: i64 = inside
        .parse()
        .with_context(|| format!("invalid array index {inside}"))?;
    let at = |items: &'a Vec<Value>| {
        let back = usize::try_from(-index).ok().filter(|&back| back > 0);
        match back {
            Some(back) => items.len().checked_sub(back).and_then(|at| items.get(at)),
            None => items.get(usize::try_from(index).ok()?),
        }
    };
    let items = found.iter().filter_map(|value| value.as_array());
    Ok(items.filter_map(at).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn templates_find_what_they_name() {
        let object = json!({
            "items": [
                {"metadata": {"name": "a", "labels": {"x.y/z": "l"}}, "n": 1},
                {"metadata": {"name": "b"}, "conditions": [
                    {"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"},
                ]},
            ],
        });
        for (template, expected) in [
            ("{.items[*].metadata.name}", "a b"),
            (".items[0].n", "1"),
            ("{.items[-1:].metadata.name}", ""),
            ("{.items[-1].metadata.name}", "b"),
            ("{.items[0].metadata.labels['x.y/z']}", "l"),
            ("{.items[0].metadata.labels.x\\.y/z}", "l"),
            (
                "{.items[1].conditions[?(@.type==\"Ready\")].status}!",
                "True!",
            ),
            (
                "{range .items[*]}{.metadata.name}{\"\\n\"}{end}.",
                "a\nb\n.",
            ),
            ("{range .none[*]}x{end}-", "-"),
            ("{.none}", ""),
        ] {
            let made = evaluate(template, &object);
            assert_eq!(made.unwrap_or_default(), expected, "{template}");
        }
        assert!(evaluate("{.items", &object).is_err());
    }
}
