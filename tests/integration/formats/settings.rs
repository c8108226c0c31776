//! Settings of former versions: they give the same node as before.

use std::collections::BTreeMap;
use std::fs;

use appliance::nodespec::settings::Settings;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fixture;
use crate::harness::{detected, document, said};

/// What a version made of its settings.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meaning {
    /// What it read in the file.
    read: BTreeMap<String, Value>,
    /// The specification of the node, as `appliance detect` shows it: for each name, the values.
    node: BTreeMap<String, Vec<Value>>,
}

/// What this version makes of the file.
fn meaning(file: &str) -> Meaning {
    let path = fixture(file);
    let text = fs::read_to_string(&path).unwrap();
    let read = serde_json::to_value(Settings::from_yaml(file, &text).unwrap()).unwrap();
    let metadata = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/metadata/queens-static"
    );
    let config = path.to_str().unwrap();
    let output = detected(&[
        "--metadata-dir",
        metadata,
        "--config",
        config,
        "--output",
        "json",
    ]);
    assert!(output.status.success(), "{}", said(&output));
    let mut node: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for row in document(&output)["settings"].as_array().unwrap() {
        let name = row["name"].as_str().unwrap().to_owned();
        node.entry(name).or_default().push(row["value"].clone());
    }
    Meaning {
        read: serde_json::from_value(read).unwrap(),
        node,
    }
}

/// A later version may show more.
#[test]
fn settings_of_version_0_1_give_the_same_node() {
    let now = meaning("settings-0.1.yaml");
    let path = fixture("settings-0.1.json");
    if !path.exists() && std::env::var_os("APPLIANCE_BLESS").is_some() {
        fs::write(&path, serde_json::to_string_pretty(&now).unwrap() + "\n").unwrap();
    }
    let then: Meaning = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    for (name, value) in &then.read {
        assert_eq!(now.read.get(name), Some(value), "{name}");
    }
    for (name, values) in &then.node {
        assert_eq!(now.node.get(name), Some(values), "{name}");
    }
}
