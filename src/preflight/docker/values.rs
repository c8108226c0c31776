//! The values of dockerd's settings, as dockerd judges them before it starts.

use core::net::IpAddr;
use std::collections::BTreeMap;

use serde_json::Value;

use super::keys::{Type, kind_of};
use crate::language::{message, tr};

/// The levels of its log (`ParseLevel` in `logrus`).
const LEVELS: &[&str] = &[
    "panic", "fatal", "error", "warn", "warning", "info", "debug", "trace",
];
/// The runtime that docker brings.
const RUNC: &str = "runc";
/// How the names of containerd's runtimes begin, which need no entry in `runtimes`.
const OF_CONTAINERD: &str = "io.containerd.";

/// What the value of a key in `daemon.json` must be; `None` if it is that.
pub fn misfit(key: &str, kind: Type, value: &Value) -> Option<&'static str> {
    if value.is_null() {
        return None;
    }
    let (fits, form) = match kind {
        Type::Switch => (
            value.is_boolean(),
            message!("true or false, without quotes"),
        ),
        Type::Number => (value.is_i64(), message!("a whole number, without quotes")),
        Type::Text => (value.is_string(), message!("a text in quotes")),
        Type::List => (value.is_array(), message!("a list: `[…]`")),
        Type::Object => (value.is_object(), message!("an object: `{…}`")),
    };
    match fits {
        true => inner(key, value),
        false => Some(form),
    }
}

/// What is wrong inside of a value of the right type.
fn inner(key: &str, value: &Value) -> Option<&'static str> {
    let (fits, form): (fn(&Value) -> bool, _) = match key {
        "default-address-pools" => (
            is_pool,
            message!("a list of objects such as `{\"base\": \"10.1.0.0/16\", \"size\": 24}`"),
        ),
        "labels" => (is_label, message!("a list of texts such as \"key=value\"")),
        "dns" => (is_address, message!("a list of IP addresses in quotes")),
        "features" => (
            |value| value.is_boolean() || value.is_null(),
            message!("an object whose values are true or false, without quotes"),
        ),
        "log-opts" | "cluster-store-opts" => {
            (is_text, message!("an object whose values are in quotes"))
        }
        "default-ulimits" | "runtimes" | "default-network-opts" => (
            is_object,
            message!("an object of objects: `{\"NAME\": {…}}`"),
        ),
        "builder" => (is_object, message!("an object, and so must be its `gc`")),
        "proxies" => return None,
        key if key.starts_with("max-") => {
            return value
                .as_i64()
                .filter(|number| *number < 0)
                .map(|_| message!("no negative number"));
        }
        "log-level" => {
            let level = value.as_str().unwrap_or_default();
            return (!is_level(level)).then_some(message!("debug, info, warn, error or fatal"));
        }
        _ => (is_text, message!("a list of texts in quotes")),
    };
    let all_fit = match value {
        Value::Array(items) => items.iter().all(fits),
        Value::Object(members) => members.values().all(fits),
        _ => true,
    };
    (!all_fit).then_some(form)
}

fn is_text(value: &Value) -> bool {
    value.is_string() || value.is_null()
}

fn is_object(value: &Value) -> bool {
    value.is_object() || value.is_null()
}

fn is_label(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.contains('='))
}

fn is_address(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    text.trim().parse::<IpAddr>().is_ok()
}

fn is_pool(value: &Value) -> bool {
    let (base, size) = (&value["base"], &value["size"]);
    is_object(value) && is_text(base) && (size.is_i64() || size.is_null())
}

fn is_level(text: &str) -> bool {
    text.is_empty() || LEVELS.contains(&text.to_lowercase().as_str())
}

/// What is wrong with the values of an option on the command line.
pub fn misfit_of_option(name: &str, values: &[String]) -> Option<&'static str> {
    /// What Go reads as true or false.
    const SWITCH: &[&str] = &[
        "1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False",
    ];
    let fits: (fn(&str) -> bool, _) = match (name, kind_of(name)) {
        ("labels", _) => (|text| text.contains('='), "key=value"),
        ("dns", _) => (
            |text| text.trim().parse::<IpAddr>().is_ok(),
            "an IP address",
        ),
        ("log-level", _) => (is_level, message!("debug, info, warn, error or fatal")),
        (_, Some(Type::Switch)) => (|text| SWITCH.contains(&text), message!("true or false")),
        (_, Some(Type::Number)) => (
            |text| text.parse::<i64>().is_ok(),
            message!("a whole number"),
        ),
        _ => return None,
    };
    let (fits, form) = fits;
    (!values.iter().all(|value| fits(value))).then_some(form)
}

/// What is wrong with values that fit alone, but not together: the key, and why.
pub fn contradictions(
    file: &BTreeMap<String, Value>,
    flags: &BTreeMap<String, Vec<String>>,
) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let runtimes = file.get("runtimes").and_then(Value::as_object);
    let added = flags.get("runtimes").into_iter().flatten();
    let added = added.filter_map(|runtime| Some(runtime.split_once('=')?.0));
    let mut names: Vec<&str> = runtimes
        .into_iter()
        .flat_map(|all| all.keys())
        .map(String::as_str)
        .collect();
    names.extend(added);
    if names.contains(&RUNC) {
        found.push((
            "runtimes",
            tr!("`{RUNC}` is docker's own; give yours another name", RUNC),
        ));
    }
    let chosen = file.get("default-runtime").and_then(Value::as_str);
    let chosen = chosen.or_else(|| flags.get("default-runtime")?.last().map(String::as_str));
    let chosen = chosen.filter(|name| !name.is_empty() && *name != RUNC);
    if let Some(name) =
        chosen.filter(|name| !name.starts_with(OF_CONTAINERD) && !names.contains(name))
    {
        let name = name.escape_debug();
        found.push(("default-runtime", tr!("`runtimes` has no {name}", name)));
    }
    let labels = file
        .get("labels")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let mut values: BTreeMap<&str, &str> = BTreeMap::new();
    let pairs = labels.filter_map(|label| label.as_str()?.split_once('='));
    for (key, value) in pairs {
        if values
            .insert(key, value)
            .is_some_and(|other| other != value)
        {
            found.push((
                "labels",
                tr!("it has two values for {}", key.escape_debug()),
            ));
        }
    }
    found
}
