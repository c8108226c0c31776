//! `logs`, `exec` and `describe`: a closer look at objects.

use std::io::Write;

use anyhow::{Result, bail};
use reqwest::Url;
use serde_json::{Value, json};

use crate::kinds::Kind;

use super::command::{Command, accepted};
use super::get;

fn query(pairs: &[(&str, &str)]) -> Result<String> {
    let mut url = Url::parse("http://query/")?;
    url.query_pairs_mut().extend_pairs(pairs);
    Ok(url.query().unwrap_or_default().to_owned())
}

fn path(command: &Command, name: &str, part: &str, pairs: &[(&str, &str)]) -> Result<String> {
    let name = name.trim_start_matches("pods/").trim_start_matches("pod/");
    let namespace = command.namespace();
    let query = query(pairs)?;
    Ok(format!(
        "/api/v1/namespaces/{namespace}/pods/{name}/{part}?{query}"
    ))
}

/// `logs POD [CONTAINER]`.
///
/// # Errors A missing pod or container, or a kubelet that does not answer.
pub fn logs(command: &Command, name: &str, container: &[&str]) -> Result<()> {
    let mut pairs = Vec::new();
    let container = command.option("--container").or(container.first().copied());
    pairs.extend(container.map(|container| ("container", container)));
    pairs.extend(command.option("--tail").map(|lines| ("tailLines", lines)));
    let previous = command.option("--previous").or(command.option("-p"));
    pairs.extend(previous.map(|previous| ("previous", previous)));
    let reply = command.ask(&path(command, name, "log", &pairs)?)?;
    std::io::stdout().write_all(&reply.body)?;
    Ok(())
}

/// `exec POD -- COMMAND`: without a terminal.
///
/// # Errors No command, a missing pod, or a command that fails.
pub fn exec(command: &Command, name: &str, words: &[&str]) -> Result<()> {
    let rest = command.rest.iter().map(String::as_str);
    let words: Vec<&str> = words.iter().copied().chain(rest).collect();
    if words.is_empty() {
        bail!("error: you must specify at least one command for the container");
    }
    let mut pairs: Vec<(&str, &str)> = words.iter().map(|&word| ("command", word)).collect();
    let container = command.option("--container");
    pairs.extend(container.map(|container| ("container", container)));
    let path = path(command, name, "exec", &pairs)?;
    let reply = accepted(command.send(|client| client.post(&path, &json!(null)))?)?;
    std::io::stdout().write_all(&reply.body)?;
    Ok(())
}

/// `describe KIND [NAME…]`: the object, and its events.
///
/// # Errors An unknown kind, or a missing object.
pub fn describe(command: &Command, wanted: &[&str]) -> Result<()> {
    for (kind, name) in get::named(wanted)? {
        let objects = match name {
            Some(name) => {
                let path = kind.path(Some(command.namespace()), Some(name));
                vec![command.ask(&path)?.json()?]
            }
            None => get::list(command, kind)?,
        };
        for object in objects {
            print!("{}", described(&object)?);
            events(command, kind, &object)?;
        }
    }
    Ok(())
}

fn described(object: &Value) -> Result<String> {
    let metadata = &object["metadata"];
    let mut text = String::new();
    for (title, member) in [("Name", "name"), ("Namespace", "namespace")] {
        if let Some(value) = metadata[member].as_str() {
            text = format!("{text}{:<16}{value}\n", format!("{title}:"));
        }
    }
    let mut shown = object.clone();
    if let Some(members) = shown.as_object_mut() {
        for member in ["kind", "apiVersion", "metadata"] {
            members.remove(member);
        }
        for (title, member) in [("Labels", "labels"), ("Annotations", "annotations")] {
            members.insert(title.to_owned(), metadata[member].clone());
        }
    }
    Ok(text + &get::yaml(&shown)?)
}

fn events(command: &Command, kind: &Kind, object: &Value) -> Result<()> {
    if !kind.namespaced {
        return Ok(());
    }
    let text = |member: &str| object["metadata"][member].as_str().unwrap_or_default();
    let fields = format!("involvedObject.uid={}", text("uid"));
    let query = query(&[("fieldSelector", &fields)])?;
    let path = format!("/api/v1/namespaces/{}/events?{query}", text("namespace"));
    let list = command.ask(&path)?.json()?;
    let events = list["items"].as_array().cloned().unwrap_or_default();
    if events.is_empty() {
        println!("Events:         <none>");
        return Ok(());
    }
    println!("Events:");
    for event in events {
        let text = |member: &str| event[member].as_str().unwrap_or_default();
        println!(
            "  {}  {}  {}",
            text("type"),
            text("reason"),
            text("message")
        );
    }
    Ok(())
}
