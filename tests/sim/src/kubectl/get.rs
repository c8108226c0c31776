//! `get`: objects as tables, names or JSON.

use anyhow::{Context, Result, bail};
use reqwest::Url;
use serde::Serialize;
use serde_json::ser::PrettyFormatter;
use serde_json::{Serializer, Value, json};

use crate::kinds::Kind;
use crate::program::usage;

use super::command::{Command, accepted};
use super::table::{self, Table};
use super::{jsonpath, manifests, views};

/// The objects of one kind, which are shown together.
struct Group {
    kind: &'static Kind,
    items: Vec<Value>,
    /// Whether the objects were named one by one.
    named: bool,
}

/// `get KIND [NAME…]`, `get KIND/NAME…`, `get KIND,KIND` or `get -f FILE`.
///
/// # Errors An unknown kind, or a missing object.
pub fn run(command: &Command, wanted: &[&str]) -> Result<()> {
    let mut groups: Vec<Group> = Vec::new();
    let mut add = |kind: &'static Kind, items: Vec<Value>, named| match groups.last_mut() {
        Some(group) if group.kind == kind => group.items.extend(items),
        _ => groups.push(Group { kind, items, named }),
    };
    if command.files.is_empty() {
        for (kind, name) in named(wanted)? {
            let items = match name {
                Some(_) => object(command, &path(command, kind, name)?)?
                    .into_iter()
                    .collect(),
                None => list(command, kind)?,
            };
            add(kind, items, name.is_some());
        }
    } else {
        for manifest in manifests::read(command)? {
            let object = object(command, &manifest.path())?;
            add(manifest.kind, object.into_iter().collect(), true);
        }
    }
    if groups.is_empty() {
        bail!("error: You must specify the type of resource to get.");
    }
    if command.ignore_not_found && groups.iter().all(|group| group.items.is_empty()) {
        return Ok(());
    }
    print(command, &groups)
}

/// The object at a path; `None` if it is missing and `--ignore-not-found` is set.
fn object(command: &Command, path: &str) -> Result<Option<Value>> {
    let reply = command.send(|client| client.get(path))?;
    if reply.status == 404 && command.ignore_not_found {
        return Ok(None);
    }
    Ok(Some(accepted(reply)?.json()?))
}

/// The kinds and names on a command line.
///
/// # Errors An unknown kind.
pub fn named<'a>(words: &[&'a str]) -> Result<Vec<(&'static Kind, Option<&'a str>)>> {
    let kind = |word: &str| {
        let kind = Kind::named(word);
        kind.with_context(|| format!("error: the server doesn't have a resource type {word:?}"))
    };
    let Some((first, names)) = words.split_first() else {
        return Ok(Vec::new());
    };
    if first.contains('/') {
        return words
            .iter()
            .map(|word| {
                let (of, name) = word.split_once('/').with_context(|| {
                    format!("error: there is no need to specify a resource type as {word:?}")
                })?;
                Ok((kind(of)?, Some(name)))
            })
            .collect();
    }
    let mut found = Vec::new();
    let all = "daemonsets,deployments,replicasets,pods,services";
    let first = if *first == "all" { all } else { *first };
    for word in first.split(',') {
        let kind = kind(word)?;
        if names.is_empty() {
            found.push((kind, None));
        }
        found.extend(names.iter().map(|name| (kind, Some(*name))));
    }
    Ok(found)
}

fn path(command: &Command, kind: &Kind, name: Option<&str>) -> Result<String> {
    if command.everywhere && name.is_some() {
        bail!("error: a resource cannot be retrieved by name across all namespaces");
    }
    let namespace = (!command.everywhere).then(|| command.namespace());
    Ok(kind.path(namespace, name))
}

/// The requested objects of a kind.
///
/// # Errors A server that cannot be reached or refuses.
pub fn list(command: &Command, kind: &Kind) -> Result<Vec<Value>> {
    let mut path = path(command, kind, None)?;
    if let Some(selector) = &command.selector {
        let mut url = Url::parse("http://query/")?;
        url.query_pairs_mut().append_pair("labelSelector", selector);
        path = format!("{path}?{}", url.query().unwrap_or_default());
    }
    let mut list = command.ask(&path)?.json()?;
    Ok(match list["items"].take() {
        Value::Array(mut items) => {
            for item in &mut items {
                item["kind"] = json!(kind.kind);
                item["apiVersion"] = json!(kind.api_version());
            }
            items
        }
        _ => Vec::new(),
    })
}

/// `get componentstatuses`.
///
/// # Errors
/// A server that cannot be reached or refuses.
pub fn component_statuses(command: &Command) -> Result<()> {
    let list = command.ask("/api/v1/componentstatuses")?.json()?;
    let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    match command.output.as_deref() {
        Some("json") => println!("{}", pretty(&list)?),
        Some("name") => names("componentstatuses", items),
        None | Some("wide") => {
            print!(
                "{}",
                table::component_statuses(items).text(!command.no_headers)
            );
        }
        Some(other) => return Err(unknown_output(other)),
    }
    Ok(())
}

fn unknown_output(output: &str) -> anyhow::Error {
    usage(format!("the stand-in knows no output {output:?}"))
}

fn names(resource: &str, items: &[Value]) {
    for item in items {
        println!(
            "{resource}/{}",
            item["metadata"]["name"].as_str().unwrap_or("?")
        );
    }
}

fn print(command: &Command, groups: &[Group]) -> Result<()> {
    match command.output.as_deref() {
        Some("json") => println!("{}", pretty(&joined(groups))?),
        Some("yaml") => print!("{}", yaml(&joined(groups))?),
        Some(output) if output.starts_with("jsonpath=") => {
            let template = output.trim_start_matches("jsonpath=");
            print!("{}", jsonpath::evaluate(template, &joined(groups))?);
        }
        Some("name") => {
            for group in groups {
                names(group.kind.resource, &group.items);
            }
        }
        output @ (None | Some("wide")) => {
            if groups.iter().all(|group| group.items.is_empty()) {
                eprintln!("No resources found.");
            }
            let shown = groups.iter().filter(|group| !group.items.is_empty());
            for (index, group) in shown.enumerate() {
                if index > 0 {
                    println!();
                }
                let mut table = views::table(group.kind, &group.items, output.is_some());
                adorn(command, &mut table, group, groups.len() > 1);
                print!("{}", table.text(!command.no_headers));
            }
        }
        Some(other) => return Err(unknown_output(other)),
    }
    Ok(())
}

/// Adds the kind of each object if there are several, and the namespace if there may be several.
fn adorn(command: &Command, table: &mut Table, group: &Group, several: bool) {
    if several {
        let kind = group.kind;
        table.prefix(kind.names.get(1).unwrap_or(&kind.resource));
    }
    if command.show_labels {
        let labels = |item: &Value| views::labels(&item["metadata"]["labels"]);
        table.follow("LABELS", group.items.iter().map(labels).collect());
    }
    if command.everywhere && group.kind.namespaced {
        let namespace = |item: &Value| {
            let namespace = item["metadata"]["namespace"].as_str();
            namespace.unwrap_or_default().to_owned()
        };
        table.precede("NAMESPACE", group.items.iter().map(namespace).collect());
    }
}

/// One object that was named is printed alone, all others in a list.
fn joined(groups: &[Group]) -> Value {
    if let [group] = groups
        && let [object] = &group.items[..]
        && group.named
    {
        return object.clone();
    }
    let items: Vec<&Value> = groups.iter().flat_map(|group| &group.items).collect();
    json!({
        "apiVersion": "v1", "items": items, "kind": "List",
        "metadata": {"resourceVersion": "", "selfLink": ""},
    })
}

/// YAML of an object.
///
/// # Errors An object that cannot be written as YAML.
pub fn yaml(value: &Value) -> Result<String> {
    Ok(serde_saphyr::to_string(value)?)
}

/// JSON as kubectl indents it.
fn pretty(value: &Value) -> Result<String> {
    let mut text = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut Serializer::with_formatter(&mut text, formatter))?;
    Ok(String::from_utf8(text)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn kinds_and_names_are_told_apart() {
        let of = |words: &[&'static str]| {
            let found = named(words).unwrap();
            let shown = found.iter().map(|(kind, name)| (kind.resource, *name));
            shown.collect::<Vec<_>>()
        };
        assert_eq!(of(&["no"]), [("nodes", None)]);
        assert_eq!(
            of(&["no", "a", "b"]),
            [("nodes", Some("a")), ("nodes", Some("b"))]
        );
        assert_eq!(
            of(&["cm,sa"]),
            [("configmaps", None), ("serviceaccounts", None)]
        );
        assert_eq!(
            of(&["sa/a", "cm/b"]),
            [("serviceaccounts", Some("a")), ("configmaps", Some("b"))]
        );
        let error = named(&["foo"]).unwrap_err().to_string();
        assert!(error.contains("resource type \"foo\""), "{error}");
    }

    #[test]
    fn one_named_object_is_no_list() {
        let kind = Kind::named("sa").unwrap();
        let group = |named| Group {
            kind,
            items: vec![json!({"a": 1})],
            named,
        };
        assert_eq!(joined(&[group(true)]), json!({"a": 1}));
        assert_eq!(joined(&[group(false)])["kind"], "List");
        assert_eq!(pretty(&json!({"a": 1})).unwrap(), "{\n    \"a\": 1\n}");
    }
}
