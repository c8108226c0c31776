//! `scale`, `label`, `taint`, `cordon` and `uncordon`: small changes of objects.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::kinds::Kind;

use super::command::{Command, accepted};
use super::{get, write};

fn patch(command: &Command, kind: &Kind, name: &str, patch: &Value) -> Result<()> {
    let path = kind.path(Some(command.namespace()), Some(name));
    accepted(command.send(|client| client.patch(&path, patch))?).map(drop)
}

/// `scale KIND NAME --replicas=COUNT`.
///
/// # Errors No number, or a missing object.
pub fn scale(command: &Command, wanted: &[&str]) -> Result<()> {
    let replicas = command.option("--replicas");
    let Some(replicas) = replicas.and_then(|text| text.parse::<u64>().ok()) else {
        bail!(
            "error: The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0"
        );
    };
    for (kind, name) in get::named(wanted)? {
        let name = name.context("error: a name is required")?;
        if !["deployments", "replicasets"].contains(&kind.resource) {
            bail!("error: {} cannot be scaled", kind.resource);
        }
        patch(
            command,
            kind,
            name,
            &json!({"spec": {"replicas": replicas}}),
        )?;
        write::tell(command, kind, name, "scaled");
    }
    Ok(())
}

/// `label KIND NAME LABEL=VALUE… LABEL-…`.
///
/// # Errors A label that exists with another value, without `--overwrite`.
pub fn label(command: &Command, wanted: &[&str]) -> Result<()> {
    let is_change = |word: &&&str| word.contains('=') || word.ends_with('-');
    let changes: Vec<&str> = wanted.iter().filter(is_change).copied().collect();
    let objects: Vec<&str> = wanted
        .iter()
        .filter(|word| !is_change(word))
        .copied()
        .collect();
    if changes.is_empty() {
        bail!("error: at least one label update is required");
    }
    let mut named = Vec::new();
    for (kind, name) in get::named(&objects)? {
        match name {
            Some(name) => named.push((kind, name.to_owned())),
            None => {
                let items = get::list(command, kind)?;
                let names = items
                    .iter()
                    .filter_map(|item| item["metadata"]["name"].as_str());
                named.extend(names.map(|name| (kind, name.to_owned())));
            }
        }
    }
    for (kind, name) in named {
        let live = command
            .ask(&kind.path(Some(command.namespace()), Some(&name)))?
            .json()?;
        let mut labels = json!({});
        for change in &changes {
            let Some((label, value)) = change.split_once('=') else {
                labels[change.trim_end_matches('-')] = Value::Null;
                continue;
            };
            let had = live["metadata"]["labels"][label].as_str();
            if had.is_some_and(|had| had != value && !command.overwrite) {
                bail!(
                    "error: '{label}' already has a value ({}), and --overwrite is false",
                    had.unwrap_or_default()
                );
            }
            labels[label] = json!(value);
        }
        patch(
            command,
            kind,
            &name,
            &json!({"metadata": {"labels": labels}}),
        )?;
        write::tell(command, kind, &name, "labeled");
    }
    Ok(())
}

fn nodes() -> Result<&'static Kind> {
    Kind::named("nodes").context("no kind of nodes")
}

/// `taint nodes NAME KEY=VALUE:EFFECT… KEY[:EFFECT]-…`.
///
/// # Errors An invalid taint, or a missing node.
pub fn taint(command: &Command, name: &str, changes: &[&str]) -> Result<()> {
    let kind = nodes()?;
    let node = command.ask(&kind.path(None, Some(name)))?.json()?;
    let mut taints = node["spec"]["taints"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let mut removes = true;
    for change in changes {
        if let Some(gone) = change.strip_suffix('-') {
            let (key, effect) = gone.split_once(':').unwrap_or((gone, ""));
            let before = taints.len();
            taints
                .retain(|one| one["key"] != key || (!effect.is_empty() && one["effect"] != effect));
            if taints.len() == before {
                bail!("error: taint {key:?} not found");
            }
            continue;
        }
        removes = false;
        let (pair, effect) = change
            .rsplit_once(':')
            .context("error: invalid taint spec")?;
        if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
            bail!("error: invalid taint effect: {effect}, unsupported taint effect");
        }
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let had = taints
            .iter()
            .position(|one| one["key"] == key && one["effect"] == effect);
        if let Some(index) = had {
            if !command.overwrite {
                bail!(
                    "error: Node {name} already has {key} taint(s) with same effect(s) and \
                     --overwrite is false"
                );
            }
            taints.remove(index);
        }
        taints.push(json!({"key": key, "value": value, "effect": effect}));
    }
    patch(command, kind, name, &json!({"spec": {"taints": taints}}))?;
    write::tell(
        command,
        kind,
        name,
        if removes { "untainted" } else { "tainted" },
    );
    Ok(())
}

/// `cordon NODE` and `uncordon NODE`.
///
/// # Errors A missing node.
pub fn cordon(command: &Command, name: &str, on: bool) -> Result<()> {
    let value = if on { json!(true) } else { Value::Null };
    let kind = nodes()?;
    patch(
        command,
        kind,
        name,
        &json!({"spec": {"unschedulable": value}}),
    )?;
    write::tell(
        command,
        kind,
        name,
        if on { "cordoned" } else { "uncordoned" },
    );
    Ok(())
}
